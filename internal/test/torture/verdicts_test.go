//go:build unix

package torture

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/internal/state"
)

// report checks the whole run, and adds the round to the report.
func (w *world) report(seed uint64, breaks *faults, all *report) {
	t := w.t
	var total dual.Stats
	for _, s := range w.instances {
		total = sum(total, s.stats())
		s.stop()
	}
	entries, err := w.addHistory(t.Context())
	if err != nil {
		t.Errorf("%v", err)
	}
	for _, e := range entries {
		all.Moves[string(e.Cause)]++
		if e.From.Epoch != e.To.Epoch {
			all.Phases[string(e.To.Phase)]++
		}
	}
	w.routes(entries, all)
	for name, n := range breaks.count {
		all.FaultsBy[name] += n
		all.Faults += n
	}
	merge(all.OperationsBy, w.history.count())
	merge(all.Commands, w.codes)
	merge(all.Missed, w.times.missed)
	w.times.reads(w.history.byKey())
	if err := w.measureTriggers(t.Context()); err != nil {
		t.Errorf("measure triggers: %v", err)
	}
	all.samples = append(all.samples, w.times.samples...)
	merge(all.Counted, map[string]int{
		"unsettled": int(total.Unsettled), "degraded": int(total.Degraded), "abandoned": int(total.Abandoned), "fallbacks": int(total.Fallbacks),
		"reads without a lease": int(total.LapsedReads), "target failures": int(total.TargetFailures), "journalled": int(total.Journaled),
		"rolled back": int(total.EmergencyRollbacks), "failed": int(total.Failed), "waited at the fence": int(total.FenceWaits), "rejoined": int(total.Rejoins),
	})
	for e, n := range w.closeExceptions(w.repairedAt) {
		all.Exceptions[string(e)] += n
	}
	verdicts := w.checkKeys()
	for _, v := range verdicts {
		all.addVerdict(v)
	}
	w.publishViolations(seed, verdicts)
}

// routes checks the routes that operations ran under.
func (w *world) routes(entries []state.Entry, all *report) {
	moves, err := movesOf(entries)
	if err != nil {
		w.t.Error(err)
	}
	stays, err := w.stays()
	if err != nil {
		w.t.Error(err)
	}
	met := together(stays, moves)
	all.Routes.add(met)
	for n, v := range met.Violations {
		if n == 5 {
			w.t.Errorf("and %d more", len(met.Violations)-n)
			break
		}
		w.t.Errorf("routes that are not compatible: %s", v)
	}
}

// addVerdict adds one key's verdict.
func (r *report) addVerdict(v *verdict) {
	r.Keys++
	switch v.result {
	case porcupine.Unknown:
		r.Undecided++
	case porcupine.Illegal:
		r.NonLinearizable++
	}
	r.Strictly += count(v.strict == porcupine.Ok)
	for _, o := range v.stale {
		if o.lost || o.Final {
			r.Lost++
		} else {
			r.Stale++
		}
	}
	r.AllowedStale += len(v.allowed)
	r.AllowedStaleKeys += count(len(v.allowed) > 0)
	for _, s := range v.allowed {
		r.Longest = max(r.Longest, float64(s.after)/float64(time.Millisecond))
	}
}

func merge(into, from map[string]int) {
	for k, n := range from {
		into[k] += n
	}
}

// evidence is where the event logs of failures are kept: the directory that the user named, not
// the tests' own.
var evidence = os.TempDir()

// publishViolations fails the test with the timeline of each violated key, and keeps the whole
// event log if the test failed in any way.
func (w *world) publishViolations(seed uint64, verdicts []*verdict) {
	t := w.t
	bad := slices.DeleteFunc(slices.Clone(verdicts), func(v *verdict) bool { return !v.violated() })
	if len(bad) == 0 && !t.Failed() && os.Getenv(envStory) == "" {
		return
	}
	dir, err := os.MkdirTemp(evidence, fmt.Sprintf("migrator-torture-%d-", seed))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range bad {
		text, err := publish(dir, w.events.all(), v)
		if err != nil {
			t.Error(err)
		}
		t.Error(text)
	}
	var text bytes.Buffer
	timeline(&text, w.events.all(), nil, 0, 0)
	path := filepath.Join(dir, "events.txt")
	if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
		t.Error(err)
	}
	t.Logf("event log, without clients: %s", path)
}

// checkKeys checks all keys concurrently.
func (w *world) checkKeys() []*verdict {
	byKey := w.history.byKey()
	verdicts := make([]*verdict, len(byKey))
	var group errgroup.Group
	group.SetLimit(2)
	for i, key := range slices.Sorted(maps.Keys(byKey)) {
		group.Go(func() error {
			verdicts[i] = checkKey(key, byKey[key], time.Minute)
			return nil
		})
	}
	_ = group.Wait()
	return verdicts
}
