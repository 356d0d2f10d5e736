package control_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// freezer stops a controller at its nth step for as long as the test wants: what
// kill -9 leaves, and, when the test lets it continue, what a process does after its
// hypervisor froze it.
type freezer struct {
	at    int64 // the step; 0: never
	after bool  // once it is done, instead of before
	steps atomic.Int64
	froze chan struct{}
	thaw  chan struct{}
}

func newFreezer(at int64, after bool) *freezer {
	return &freezer{at: at, after: after, froze: make(chan struct{}), thaw: make(chan struct{})}
}

func (f *freezer) step(do func() error) error {
	mine := f.steps.Add(1) == f.at
	if mine && !f.after {
		close(f.froze)
		<-f.thaw
	}
	err := do()
	if mine && f.after {
		close(f.froze)
		<-f.thaw
	}
	return err
}

type frozenState struct {
	control.State
	f *freezer
}

func (s frozenState) Transition(ctx context.Context, m string, decide func(phases.Snapshot) (phases.Move, error)) (st phases.Status, err error) {
	err = s.f.step(func() error { st, err = s.State.Transition(ctx, m, decide); return err })
	return st, err
}

func (s frozenState) Intend(ctx context.Context, m string, at phases.Route, attempt string, decide func(phases.Snapshot) error) error {
	return s.f.step(func() error { return s.State.Intend(ctx, m, at, attempt, decide) })
}

func (s frozenState) Forget(ctx context.Context, m, attempt, reason string) error {
	return s.f.step(func() error { return s.State.ForgetAttempt(ctx, m, attempt, reason) })
}

func (s frozenState) BeginReturn(ctx context.Context, m string, at phases.Route, legacy string) error {
	return s.f.step(func() error { return s.State.BeginReturn(ctx, m, at, legacy) })
}

func (s frozenState) MarkCopied(ctx context.Context, m string, at phases.Route, legacy string, upTo int64, notCopied []record.Key) error {
	return s.f.step(func() error { return s.State.MarkCopied(ctx, m, at, legacy, upTo, notCopied) })
}

func (s frozenState) FinalizeReturn(ctx context.Context, m string, at phases.Route) error {
	return s.f.step(func() error { return s.State.FinalizeReturn(ctx, m, at) })
}

func (s frozenState) EmptyReturn(ctx context.Context, m string, at phases.Route) error {
	return s.f.step(func() error { return s.State.EmptyReturn(ctx, m, at) })
}

func (s frozenState) ClearReturn(ctx context.Context, m string, lost, aside []record.Key) error {
	return s.f.step(func() error { return s.State.ClearReturn(ctx, m, lost, aside) })
}

type frozenFence struct {
	control.Legacy
	f *freezer
}

func (s frozenFence) RaiseFence(ctx context.Context, attempt string, d time.Duration) (era uint32, err error) {
	err = s.f.step(func() error { era, err = s.Legacy.RaiseFence(ctx, attempt, d); return err })
	return era, err
}

func (s frozenFence) LiftFence(ctx context.Context, attempt string, d time.Duration) (era uint32, err error) {
	err = s.f.step(func() error { era, err = s.Legacy.LiftFence(ctx, attempt, d); return err })
	return era, err
}

func (s frozenFence) EndReplay(ctx context.Context, run store.ReplayRun, d time.Duration) (era uint32, err error) {
	err = s.f.step(func() error { era, err = s.Legacy.EndReplay(ctx, run, d); return err })
	return era, err
}

func (s frozenFence) RenewFence(ctx context.Context, attempt string) (era uint32, err error) {
	err = s.f.step(func() error { era, err = s.Legacy.RenewFence(ctx, attempt); return err })
	return era, err
}

func (s frozenFence) BeginReplay(ctx context.Context, attempt string) (run store.ReplayRun, err error) {
	err = s.f.step(func() error { run, err = s.Legacy.BeginReplay(ctx, attempt); return err })
	return run, err
}

func (s frozenFence) Replay(ctx context.Context, run store.ReplayRun, rows []store.Row) (out store.Replayed, err error) {
	err = s.f.step(func() error { out, err = s.Legacy.Replay(ctx, run, rows); return err })
	return out, err
}

// frozen runs do on a controller that freezes, until it has; false if it ended before.
func (b *bench) frozen(f *freezer, do func(*control.Controller) error) (reached bool, wait func()) {
	ctl := b.controller()
	ctl.State, ctl.Legacy = frozenState{b.state, f}, frozenFence{b.legacy, f}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = do(ctl) }()
	select {
	case <-f.froze:
		return true, func() { close(f.thaw); <-ended }
	case <-ended:
		return false, func() {}
	}
}

// TestACrashInTheFenceIsResumedOrUndone stops a controller before and after each
// step from grace to retain, runs the next command, and then lets the first one continue.
func TestACrashInTheFenceIsResumedOrUndone(t *testing.T) {
	t.Parallel()
	advance := func(c *control.Controller) error { _, err := c.Advance(context.Background(), fenceGates()); return err }
	rollback := func(c *control.Controller) error {
		err := c.Resume(context.Background())
		if err != nil {
			return err
		}
		_, err = c.Rollback(context.Background(), control.Rollback{To: phases.Grace})
		return err
	}
	visited := eachStep(t, func(t *testing.T, f *freezer) bool {
		n := f.at
		for _, next := range []struct {
			name string
			run  func(*control.Controller) error
			want phases.Phase
		}{{"advance", advance, phases.Retain}, {"rollback", rollback, phases.Grace}} {
			b := newBench(t)
			b.walk(phases.DualRead)
			b.interlocked()
			b.walk(phases.Grace)
			f := newFreezer(f.at, f.after)
			reached, wake := b.frozen(f, advance)
			if !reached {
				b.consistent(phases.Retain)
				return false
			}
			// The second command may find that all is done, or that there is nothing to undo.
			if err := next.run(b.controller()); err != nil && next.want == phases.Retain && f.steps.Load() < 4 {
				t.Errorf("%s: %v", next.name, err)
			}
			st, err := b.state.Status(b.ctx, "items")
			b.check(err)
			if st.Route.Phase != next.want && !(next.want == phases.Retain && st.Route.Phase == phases.Complete) {
				t.Errorf("%s left the migration in %s", next.name, st.Route)
			}
			wake()
			switch {
			case next.want == phases.Grace && n == 1 && !f.after:
				b.consistent(phases.Retain) // nothing was recorded yet, so there was nothing to undo
			case st.Route.Phase == next.want:
				b.consistent(next.want)
			}
		}
		return true
	})
	if visited < 4 {
		t.Errorf("only %d steps were visited: is the fence still made of steps?", visited)
	}
}

// TestACrashInTheReturnIsResumed does the same for the rollback from retain.
func TestACrashInTheReturnIsResumed(t *testing.T) {
	t.Parallel()
	back := func(c *control.Controller) error {
		c.LastRound, c.NotAfter = 1, time.Millisecond // a round, and the last one
		_, err := c.Rollback(context.Background(), control.Rollback{To: phases.Grace})
		return err
	}
	visited := eachStep(t, func(t *testing.T, f *freezer) bool {
		b := newBench(t)
		b.walk(phases.DualRead)
		b.interlocked()
		b.walk(phases.Grace)
		_, err := b.controller().Advance(b.ctx, fenceGates())
		b.check(err)
		b.retainWrites()
		reached, wake := b.frozen(f, back)
		if !reached {
			b.consistent(phases.Grace)
			b.returned()
			return false
		}
		st, err := b.state.Status(b.ctx, "items")
		b.check(err)
		if st.Route.Phase != phases.Grace {
			if err := back(b.controller()); err != nil {
				t.Errorf("the second command: %v", err)
			}
		}
		b.consistent(phases.Grace)
		b.returned()
		wake()
		b.consistent(phases.Grace)
		b.returned()
		return true
	})
	if visited < 9 {
		t.Errorf("only %d steps were visited", visited)
	}
}

// eachStep calls try with a freezer for each step, before and after it, until try
// reports that the step was not reached. It returns the number of steps.
func eachStep(t *testing.T, try func(t *testing.T, f *freezer) bool) int64 {
	for n := int64(1); ; n++ {
		for _, after := range []bool{false, true} {
			reached := false
			t.Run(fmt.Sprintf("step %d, after %v", n, after), func(t *testing.T) {
				reached = try(t, newFreezer(n, after))
			})
			if !reached {
				return n - 1
			}
		}
	}
}

// retainWrites changes, adds and deletes records as an instance does in retain.
func (b *bench) retainWrites() {
	b.t.Helper()
	st, err := b.state.Status(b.ctx, "items")
	b.check(err)
	fleet := pgfleet.New(b.state.Pool(), "items", pgfleet.Options{})
	keys := []record.Key{"1", "2", "100", "3"}
	b.check(fleet.Return(b.ctx, st.Route.Epoch, keys))
	entries, err := b.target.Get(b.ctx, keys)
	b.check(err)
	value := func(id, name string) record.Record {
		return record.Record{record.TextValue(id), record.TextValue(name)}
	}
	writes := []store.Write{
		{Key: "1", Record: value("1", "changed in retain")},
		{Key: "2", Deleted: true, Keep: true},
		{Key: "100", Record: value("100", "born in retain")},
	} // 3 is journalled and never written
	for i := range writes {
		only := entries[i].Version
		writes[i].Only = &only
		writes[i].Version, err = only.Next(st.FenceEra)
		b.check(err)
	}
	results, err := b.target.Apply(b.ctx, writes)
	b.check(err)
	for _, r := range results {
		if r.Outcome != store.Applied {
			b.t.Fatalf("a write in retain: %+v", r)
		}
	}
}

// returned checks that legacy has what was written in retain.
func (b *bench) returned() {
	b.t.Helper()
	rows, err := b.legacy.Lookup(b.ctx, []record.Key{"1", "2", "100"})
	b.check(err)
	switch {
	case !rows[0].Found || rows[0].Record[1].Text != "changed in retain":
		b.t.Errorf("key 1 in legacy: %+v", rows[0])
	case rows[1].Found:
		b.t.Errorf("key 2 was deleted in retain, and is in legacy")
	case !rows[2].Found || rows[2].Record[1].Text != "born in retain":
		b.t.Errorf("key 100 in legacy: %+v", rows[2])
	}
}
