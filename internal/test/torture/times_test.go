//go:build unix

package torture

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/phases"
)

// What is measured.
const (
	timeRollback  = "migrator phase rollback, from its start to settled"
	timeCommitted = "a dead target, to the rollback's commit by a write"
	timeSettled   = "a dead target, to settled"
	timeRead      = "a dead target, the longest that a read took"

	// Where writes don't roll back (fail, degrade), or a trigger was faster.
	timeFired         = "a dead target, to a trigger's firing"
	timeFiredCommit   = "a dead target, to the rollback's commit by the daemon"
	timeFiredSettled  = "a dead target, to settled by the daemon"
	timeTriggerCommit = "any trigger's firing, to the rollback's commit"
	timeTriggerSettle = "any trigger's firing, to settled"
)

// sample is one measurement.
type sample struct {
	What   string
	Faults bool // among other faults; else this was the only fault
	Took   time.Duration
}

// times collects measurements; safe for concurrent use.
type times struct {
	mu      sync.Mutex
	samples []sample
	missed  map[string]int // measurements without an end, or with another cause
	deaths  []death
}

// death is a time during which the target was dead while reads came from it.
type death struct {
	from, to time.Duration
	faults   bool
}

// reads measures how long reads took that began while the target was dead and got an answer.
func (t *times) reads(ops map[int][]*operation) {
	for _, d := range t.deaths {
		var longest time.Duration
		for _, of := range ops {
			for _, o := range of {
				if o.Kind == get && o.Outcome == done && o.Call >= d.from && o.Call <= d.to {
					longest = max(longest, o.Return-o.Call)
				}
			}
		}
		if longest > 0 {
			t.add(sample{timeRead, d.faults, longest})
		}
	}
}

func (t *times) add(s sample) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.samples = append(t.samples, s)
}

func (t *times) miss(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.missed[what]++
}

// summary is a distribution, in milliseconds.
type summary struct {
	What   string  `json:"what"`
	Faults bool    `json:"among_faults"`
	N      int     `json:"n"`
	P50    float64 `json:"p50_ms"`
	P99    float64 `json:"p99_ms"`
	Worst  float64 `json:"worst_ms"`
}

func summarise(samples []sample) (all []summary) {
	groups := map[sample][]float64{}
	for _, s := range samples {
		took := float64(s.Took) / float64(time.Millisecond)
		s.Took = 0
		groups[s] = append(groups[s], took)
	}
	for s, ms := range groups {
		slices.Sort(ms)
		at := func(p int) float64 { return ms[(len(ms)*p+99)/100-1] } // the smallest value that p % do not exceed
		all = append(all, summary{s.What, s.Faults, len(ms), at(50), at(99), ms[len(ms)-1]})
	}
	slices.SortFunc(all, func(a, b summary) int {
		return cmp.Or(cmp.Compare(a.What, b.What), count(a.Faults)-count(b.Faults))
	})
	return all
}

// targetRead returns the route, and reports whether reads come from the target while legacy
// still has every write: the phases in which a failed write rolls back.
func (w *world) targetRead(ctx context.Context) (phases.Route, bool) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	st, err := w.state.Status(ctx, migrationName)
	return st.Route, err == nil && st.Attempt == "" && (st.Route.Phase == phases.Cutover || st.Route.Phase == phases.Grace)
}

const longestMeasured = time.Minute

// awaitRollback waits until no live instance reads the target, or ctx ends: every instance is
// on the route, at or after dual-read, that replaced the one given.
func (w *world) awaitRollback(ctx context.Context, from phases.Route) (committed time.Time, cause phases.Cause, settled time.Time, err error) {
	for pause(ctx, 2*time.Millisecond) {
		asked, stop := context.WithTimeout(ctx, time.Second)
		read, err := w.readers.TargetRead(asked)
		stop()
		if err != nil || read {
			continue
		}
		settled = time.Now()
		entries, err := w.state.History(ctx, migrationName, 30)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if e.To.Epoch > from.Epoch && !e.To.ReadsTarget() {
				return e.At, e.Cause, settled, nil
			}
		}
	}
	return committed, cause, settled, fmt.Errorf("reads did not return to legacy in time")
}

// measureRollback runs the command while reads come from the target, and measures it. It
// reports whether they did.
func (w *world) measureRollback(ctx context.Context, faults bool) bool {
	from, ok := w.targetRead(ctx)
	if !ok {
		return false
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*longestMeasured)
	defer cancel()
	ended := make(chan ran, 1)
	began := time.Now()
	go func() { ended <- w.migrator(ctx, 0, 0, "phase rollback --yes --reason measured") }()
	bounded, stop := context.WithTimeout(ctx, longestMeasured)
	defer stop()
	_, cause, settled, err := w.awaitRollback(bounded, from)
	r := <-ended
	switch {
	case err != nil || cause != phases.CauseRollback:
		w.times.miss(timeRollback) // a write rolled back first, or the command could not reach the state
	default:
		w.times.add(sample{timeRollback, faults, settled.Sub(began)})
	}
	if r.code != 0 && !faults && !strings.Contains(r.output, "fleet evict") { // for an instance that died among earlier faults
		w.t.Errorf("migrator phase rollback, with nothing else wrong: exit %d: %s", r.code, brief(r.output))
	}
	return true
}

// measureDeath makes the target die while reads come from it, and measures the time until a
// write, or a trigger, has rolled back. die returns when the target is dead; revive makes it
// available again.
func (w *world) measureDeath(ctx context.Context, faults bool, die, revive func(context.Context) error) error {
	from, ok := w.targetRead(ctx)
	ctx = context.WithoutCancel(ctx)
	began, since := time.Now(), w.events.now()
	if err := die(ctx); err != nil {
		return err
	}
	if ok {
		w.measureReturn(ctx, from, began, faults)
		w.times.mu.Lock()
		w.times.deaths = append(w.times.deaths, death{since, w.events.now(), faults})
		w.times.mu.Unlock()
	} else {
		pause(ctx, time.Second)
	}
	return revive(ctx)
}

// measureReturn measures the rollback after a target's death.
func (w *world) measureReturn(ctx context.Context, from phases.Route, began time.Time, faults bool) {
	byWrite, within := w.shape.policy == "rollback", longestMeasured
	if faults && !byWrite {
		within = 6 * time.Second // the daemons may have faults too
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	committed, cause, settled, err := w.awaitRollback(ctx, from)
	if err != nil && !faults {
		w.t.Errorf("a dead target, nothing else wrong, on %s: %v", from, err)
	}
	switch {
	case err == nil && cause == phases.CauseFailure && !committed.Before(began):
		w.times.add(sample{timeCommitted, faults, committed.Sub(began)})
		w.times.add(sample{timeSettled, faults, settled.Sub(began)})
	case err == nil && cause == phases.CauseTrigger:
		fired, err := w.state.Fired(ctx, migrationName)
		if err != nil || fired.At.Before(began) {
			w.times.miss(timeFired)
			return
		}
		w.times.add(sample{timeFired, faults, fired.At.Sub(began)})
		w.times.add(sample{timeFiredCommit, faults, committed.Sub(began)})
		w.times.add(sample{timeFiredSettled, faults, settled.Sub(began)})
	case byWrite:
		w.times.miss(timeCommitted)
	default:
		w.times.miss(timeFired)
	}
}

// measureTriggers measures every rollback by a trigger, whatever the fault, from the state.
func (w *world) measureTriggers(ctx context.Context) error {
	rows, err := w.pool.Query(ctx, `SELECT v.at, e.began_at, e.settled_at
		FROM migrator.history h
		JOIN migrator.evaluations v ON v.id = (h.evidence #>> '{fired,evaluation}')::bigint
		JOIN migrator.epochs e ON e.migration = h.migration AND e.epoch = h.to_epoch
		WHERE h.migration = $1 AND h.cause = 'trigger'`, migrationName)
	if err != nil {
		return err
	}
	var fired, committed time.Time
	var settled *time.Time
	_, err = pgx.ForEachRow(rows, []any{&fired, &committed, &settled}, func() error {
		at := committed.Sub(w.events.began)
		alone := slices.ContainsFunc(w.times.deaths, func(d death) bool { return !d.faults && d.from <= at && at <= d.to })
		w.times.add(sample{timeTriggerCommit, !alone, committed.Sub(fired)})
		if settled == nil {
			w.times.miss(timeTriggerSettle) // a step came before every instance had acknowledged
			return nil
		}
		w.times.add(sample{timeTriggerSettle, !alone, settled.Sub(fired)})
		return nil
	})
	return err
}

// killTarget kills the target with kill -9.
func (w *world) killTarget(ctx context.Context, faults bool) error {
	m := w.target
	m.mu.Lock()
	defer m.mu.Unlock()
	return w.measureDeath(ctx, faults, func(context.Context) error {
		w.events.add("fault", "kill -9 to %s", m.name)
		return m.Kill()
	}, func(ctx context.Context) error {
		defer w.events.add("fault", "%s restarted", m.name)
		return m.Restart(ctx)
	})
}

// cutTarget makes the target unreachable for every instance: no request is answered.
func (w *world) cutTarget(ctx context.Context, faults bool) error {
	away, heal := context.WithCancel(context.WithoutCancel(ctx))
	defer heal()
	ended := make(chan error, len(w.instances))
	return w.measureDeath(ctx, faults, func(context.Context) error {
		w.events.add("fault", "%s is a black hole for every instance", w.target.name)
		for _, s := range w.instances {
			go func() { ended <- s.target.inject(away, toxics[blackHole], time.Hour) }()
		}
		return nil
	}, func(context.Context) (err error) {
		heal()
		for range w.instances {
			if e := <-ended; e != nil {
				err = e
			}
		}
		w.events.add("fault", "%s answers again", w.target.name)
		return err
	})
}
