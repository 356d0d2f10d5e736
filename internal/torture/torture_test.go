//go:build unix

package torture

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/phases"
)

const (
	envDuration = "MIGRATOR_TORTURE"
	envSeed     = "MIGRATOR_TORTURE_SEED"
	envStory    = "MIGRATOR_TORTURE_STORY" // not empty: keep what happened also if all is well

	keys    = 12
	clients = 6
	short   = 12 * time.Second // in make test
	round   = time.Minute      // the longest history that is checked in one go
)

// TestTorture breaks everything at random for some seconds, or for as long as
// MIGRATOR_TORTURE says, in rounds of a minute, each on a world of its own and with
// the next seed.
func TestTorture(t *testing.T) {
	t.Parallel()
	left := short
	if text := os.Getenv(envDuration); text != "" {
		var err error
		if left, err = time.ParseDuration(text); err != nil {
			t.Fatalf("%s: %v", envDuration, err)
		}
	}
	seed := rand.Uint64() >> 16
	if text := os.Getenv(envSeed); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("%s: %v", envSeed, err)
		}
	}
	for ; left > 0; left, seed = left-round, seed+1 {
		d := min(left, round)
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("to repeat it:\n  %s=%s %s=%d go test -run 'TestTorture$' -v ./internal/torture", envDuration, d, envSeed, seed)
				}
			}()
			w := newWorld(t, 3)
			w.torture(seed, d)
		})
	}
}

// torture is one run.
func (w *world) torture(seed uint64, d time.Duration) {
	t := w.t
	legacy, target, err := w.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer legacy.Close()
	defer func() { _ = target.Close() }()
	w.deploy()
	for _, name := range []string{"daemon-1", "daemon-2"} {
		d, err := w.newDaemon(name)
		if err != nil {
			t.Fatal(err)
		}
		w.daemons = append(w.daemons, d)
	}
	moves := &operator{w: w, visited: map[phases.Phase]int{}}
	breaks := &faults{w: w, count: map[string]int{}}

	traffic, stopTraffic := context.WithCancel(t.Context())
	defer stopTraffic()
	var serving errgroup.Group
	kept, stopDaemons := context.WithCancel(t.Context())
	defer stopDaemons()
	var keeping errgroup.Group
	for _, d := range w.daemons {
		keeping.Go(func() error { return d.supervise(kept) })
	}
	serving.Go(func() error { return w.watch(traffic, target, allKeys(keys)) })
	for n := range clients {
		serving.Go(func() error { return newClient(w, seed, n, keys).run(traffic) })
	}
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	for wave := uint64(0); ctx.Err() == nil; wave++ {
		// Each wave draws anew, whatever became of the one before.
		moves.random, breaks.random = newRandom(seed, 10+2*wave), newRandom(seed, 11+2*wave)
		w.wave(ctx, moves, breaks)
	}
	w.story.tell("run", "no more faults")
	at, err := w.settle(t.Context())
	if err != nil {
		t.Errorf("%v", err)
	}
	stopTraffic()
	if err := serving.Wait(); err != nil {
		t.Errorf("%v", err)
	}
	if err == nil {
		if err := w.prove(t.Context(), at, target, newClient(w, seed, clients, keys)); err != nil {
			t.Errorf("%v", err)
		}
	}
	stopDaemons()
	if err := keeping.Wait(); err != nil {
		t.Errorf("%v", err)
	}
	w.report(seed, at, moves, breaks)
}

// wave goes to a phase in peace, and then breaks things there for some seconds.
func (w *world) wave(ctx context.Context, moves *operator, breaks *faults) {
	destinations := []phases.Phase{phases.ShadowWrite, phases.DualRead, phases.Cutover, phases.Cutover, phases.Grace, phases.Grace, phases.Grace, phases.Retain, phases.Retain}
	to := destinations[moves.random.IntN(len(destinations))]
	storm := time.Duration(4+moves.random.IntN(5)) * time.Second
	moves.faults = false
	moves.walk(ctx, to)
	w.story.tell("run", "faults begin")
	bounded, cancel := context.WithTimeout(ctx, storm)
	defer cancel()
	moves.faults = true
	var breaking errgroup.Group
	breaking.Go(func() error { return moves.run(bounded) })
	breaking.Go(func() error { return breaks.run(bounded) })
	if err := breaking.Wait(); err != nil {
		w.t.Errorf("a fault: %v", err)
	}
}

func (w *world) deploy() {
	for _, s := range w.instances {
		if err := s.run(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
	}
}

// report judges every key, and says what the run was like.
func (w *world) report(seed uint64, at phases.Phase, moves *operator, breaks *faults) {
	t := w.t
	var total dual.Stats
	for _, s := range w.instances {
		total = sum(total, s.stats())
		s.stop()
	}
	if err := w.chronicle(t.Context()); err != nil {
		t.Errorf("%v", err)
	}
	t.Logf("seed %d, at rest in %s after %d advances; phases seen: %s", seed, at, moves.advances, counted(moves.visited))
	t.Logf("faults: %s", counted(breaks.count))
	t.Logf("operations: %s", counted(w.history.count()))
	t.Logf("instances: %d fallbacks, %d lapsed reads, %d target failures, %d journalled, %d rescued, %d failed, %d fence waits, %d rejoins",
		total.Fallbacks, total.LapsedReads, total.TargetFailures, total.Journalled, total.Rescued, total.Failed, total.FenceWaits, total.Rejoins)
	t.Logf("exceptions that were counted, and are excused: %d unsettled, %d degraded, %d abandoned", total.Unsettled, total.Degraded, total.Abandoned)
	if n := w.history.count()[string(put)+" "+string(done)]; n < 50 {
		t.Errorf("only %d writes were acknowledged: this run proves nothing", n)
	}
	w.tellOf(seed, w.judge())
}

// tellOf fails the test with what a person needs, and says what else is worth
// keeping: the whole story, if the test failed in any way.
func (w *world) tellOf(seed uint64, verdicts []*verdict) {
	t := w.t
	bad := slices.DeleteFunc(slices.Clone(verdicts), func(v *verdict) bool { return !v.violated() })
	if len(bad) == 0 && !t.Failed() && os.Getenv(envStory) == "" {
		return
	}
	dir, err := os.MkdirTemp("", fmt.Sprintf("migrator-torture-%d-", seed))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range bad {
		text, err := publish(dir, w.story.all(), v)
		if err != nil {
			t.Error(err)
		}
		t.Error(text)
	}
	var text bytes.Buffer
	timeline(&text, w.story.all(), nil, 0, 0)
	path := filepath.Join(dir, "story.txt")
	if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
		t.Error(err)
	}
	t.Logf("what happened, clients apart: %s", path)
}

// judge checks all keys, side by side.
func (w *world) judge() []*verdict {
	byKey := w.history.byKey()
	verdicts := make([]*verdict, len(byKey))
	var group errgroup.Group
	group.SetLimit(2)
	for i, key := range slices.Sorted(maps.Keys(byKey)) {
		group.Go(func() error {
			verdicts[i] = judge(key, byKey[key], 20*time.Second)
			return nil
		})
	}
	_ = group.Wait()
	strictly := 0
	for _, v := range verdicts {
		if v.result == porcupine.Unknown {
			w.t.Logf("key %d: the model could not decide in time over %d operations; the ledger's check stands", v.key, len(v.ops))
		}
		if v.strict == porcupine.Ok {
			strictly++
		}
	}
	w.t.Logf("of %d keys, %d are strictly linearizable too, unacknowledged writes included", len(verdicts), strictly)
	return verdicts
}

// newRandom is a stream of its own for each pair, to be repeated.
func newRandom(seed, stream uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, stream)) }

func counted[K ~string](m map[K]int) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s %d", k, m[k]))
	}
	return strings.Join(parts, ", ")
}
