package control_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// interferedFence calls a function right after a step of legacy's fence, before the
// controller gets the result. A nil function is not called.
type interferedFence struct {
	control.Legacy
	raised, looked, begun, replayed, ending func()
}

func after(f func()) {
	if f != nil {
		f()
	}
}

func (s interferedFence) RaiseFence(ctx context.Context, attempt string, d time.Duration) (uint32, error) {
	era, err := s.Legacy.RaiseFence(ctx, attempt, d)
	after(s.raised)
	return era, err
}

func (s interferedFence) FenceState(ctx context.Context) (string, uint32, error) {
	attempt, era, err := s.Legacy.FenceState(ctx)
	after(s.looked)
	return attempt, era, err
}

func (s interferedFence) EndReplay(ctx context.Context, run store.ReplayRun, d time.Duration) (uint32, error) {
	after(s.ending) // before
	return s.Legacy.EndReplay(ctx, run, d)
}

func (s interferedFence) BeginReplay(ctx context.Context, attempt string) (store.ReplayRun, error) {
	run, err := s.Legacy.BeginReplay(ctx, attempt)
	after(s.begun)
	return run, err
}

func (s interferedFence) Replay(ctx context.Context, run store.ReplayRun, rows []store.Row) (store.Replayed, error) {
	back, err := s.Legacy.Replay(ctx, run, rows)
	after(s.replayed)
	return back, err
}

// interferedState calls a function after a move to a phase.
type interferedState struct {
	control.State
	to    phases.Phase
	moved func()
}

func (s interferedState) Transition(ctx context.Context, m string, decide func(phases.Snapshot) (phases.Move, error)) (phases.Status, error) {
	st, err := s.State.Transition(ctx, m, decide)
	if err == nil && st.Route.Phase == s.to {
		s.moved()
	}
	return st, err
}

// atGrace is a bench where the next step is the fence.
func atGrace(t *testing.T) *bench {
	t.Helper()
	b := newBench(t)
	b.toGrace()
	return b
}

func (b *bench) toGrace() {
	b.t.Helper()
	b.walk(phases.DualRead)
	b.interlocked()
	b.walk(phases.Grace)
}

// neverInRetain checks that no epoch of retain was committed.
func (b *bench) neverInRetain() {
	b.t.Helper()
	epochs, err := b.state.Epochs(b.ctx, "items", 50)
	b.check(err)
	for _, e := range epochs {
		if e.Route.Phase == phases.Retain {
			b.t.Errorf("retain was committed, as epoch %d", e.Route.Epoch)
		}
	}
}

// TestRetainNeedsARaisedFence: legacy fails over to a standby that lacks the fence,
// while the fleet acknowledges it. The target must not become the authority beside a
// legacy that takes writes.
func TestRetainNeedsARaisedFence(t *testing.T) {
	t.Parallel()
	b := atGrace(t)
	ctl := b.controller()
	ctl.Legacy = interferedFence{Legacy: b.legacy, raised: func() {
		attempt, _, err := b.legacy.FenceState(b.ctx)
		b.check(err)
		_, err = b.legacy.LiftFence(b.ctx, attempt, time.Minute)
		b.check(err)
	}}
	if step, err := ctl.Advance(b.ctx, fenceGates()); err == nil || step.Done {
		t.Errorf("a fence that is not raised was passed: %+v, %v", step, err)
	}
	b.neverInRetain()
	b.consistent(phases.Grace)
}

// TestRetainNeedsItsOwnFence: the raised fence is another attempt's, which may lift it at
// any time.
func TestRetainNeedsItsOwnFence(t *testing.T) {
	t.Parallel()
	b := atGrace(t)
	ctl := b.controller()
	ctl.Legacy = interferedFence{Legacy: b.legacy, raised: func() {
		b.check(b.sql(`UPDATE migrator_legacy.migration SET attempt = 'another'`))
	}}
	if step, err := ctl.Advance(b.ctx, fenceGates()); err == nil || step.Done {
		t.Errorf("another attempt's fence was passed: %+v, %v", step, err)
	}
	b.neverInRetain()
}

// TestRetainReadsTheFleetAsItCommits: the controller does not wait for an instance whose
// lease expired. It rejoins once the controller has seen the fleet settled, with operations
// that it began in grace: the decision must rest on the fleet as the transaction reads it.
func TestRetainReadsTheFleetAsItCommits(t *testing.T) {
	t.Parallel()
	b := atGrace(t)
	fleet, grant := b.joined("cut off", time.Minute)
	_, err := fleet.Renew(b.ctx, grant.Lease, grant.Route.Epoch)
	b.check(err)
	ctl := b.controller()
	ctl.State = interferedState{State: b.state, to: phases.Fenced, moved: func() {
		_, err := b.state.Pool().Exec(b.ctx, `UPDATE migrator.leases SET expires_at = clock_timestamp()`)
		b.check(err)
	}}
	ctl.Legacy = interferedFence{Legacy: b.legacy, looked: func() {
		_, err := fleet.Join(b.ctx, dual.Identity{Instance: "cut off", Previous: grant.Lease})
		b.check(err)
	}}
	_, err = ctl.Advance(b.ctx, fenceGates())
	var unsettled *control.UnsettledError
	if !errors.As(err, &unsettled) || unsettled.Fleet.Live != 1 || unsettled.Fleet.Behind != 1 {
		t.Errorf("%v, want the instance that has rejoined to be behind", err)
	}
	b.neverInRetain()
	b.consistent(phases.Grace)
}

// TestRetainReadsTheJournalAsItCommits: an instance in grace journals a key after the gates were
// evaluated, beside the fence that is being raised. The target must not become the authority
// without that write.
func TestRetainReadsTheJournalAsItCommits(t *testing.T) {
	t.Parallel()
	b := atGrace(t)
	ctl := b.controller()
	ctl.Legacy = interferedFence{Legacy: b.legacy, raised: func() {
		_, err := pgfleet.New(b.state.Pool(), "items", pgfleet.Options{}).Journal(b.ctx, []dual.JournalEntry{{Key: "1", Reason: "a test"}})
		b.check(err)
	}}
	if step, err := ctl.Advance(b.ctx, fenceGates()); err == nil || step.Done {
		t.Errorf("retain was entered with a journaled key: %+v, %v", step, err)
	}
	b.neverInRetain()
	b.consistent(phases.Grace)
}

// TestReplayTakesALateWriteOfRetain: a writer that was frozen in retain, its key
// journaled, resumes between the replay's read of the target and its write there.
// The replay's version is the newer one, and must not hide that write: it was
// acknowledged, and legacy lacks it.
func TestReplayTakesALateWriteOfRetain(t *testing.T) {
	t.Parallel()
	b := atGrace(t)
	_, err := b.controller().Advance(b.ctx, fenceGates())
	b.check(err)
	b.retainWrites()
	era := b.snapshot().Status.FenceEra
	late := record.Record{record.TextValue("1"), record.TextValue("late")}
	times := 0
	ctl := b.controller()
	ctl.Legacy = interferedFence{Legacy: b.legacy, replayed: func() {
		if times++; times > 1 {
			return
		}
		entries, err := b.target.Get(b.ctx, []record.Key{"1"})
		b.check(err)
		version, err := entries[0].Version.Next(era)
		b.check(err)
		results, err := b.target.Apply(b.ctx, []store.Write{{Key: "1", Record: late, Version: version, Only: &entries[0].Version, Keep: true}})
		b.check(err)
		if results[0].Outcome != store.Applied {
			t.Errorf("the late write: %+v", results[0])
		}
	}}
	_, err = ctl.Rollback(b.ctx, control.Rollback{To: phases.Grace, Reason: "test"})
	b.check(err)
	rows, err := b.legacy.Lookup(b.ctx, []record.Key{"1"})
	b.check(err)
	entries, err := b.target.Get(b.ctx, []record.Key{"1"})
	b.check(err)
	if got := rows[0]; !got.Found || got.Record[1].Text != "late" {
		t.Errorf("legacy has %+v, without the late write", got)
	}
	if got := entries[0]; got.Presence != store.Live || got.Record[1].Text != "late" {
		t.Errorf("the target has %+v, without the late write", got)
	}
	if times != 2 {
		t.Errorf("%d replays, want the one with the late write in it to be the second", times)
	}
	b.consistent(phases.Grace)
}
