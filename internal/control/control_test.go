package control_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/phases"
)

// TestOfTwoAdvancesOneDecides lets two operators decide on the same snapshot.
func TestOfTwoAdvancesOneDecides(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	f := newFreezer(1, false)
	errs := make(chan error, 1)
	reached, wake := b.frozen(f, func(c *control.Controller) error {
		_, err := c.Advance(context.Background(), control.Advance{Reason: "the slower one"})
		errs <- err
		return err
	})
	if !reached {
		t.Fatal("the first advance ended before its transition")
	}
	step, err := b.controller().Advance(b.ctx, control.Advance{Reason: "the faster one"})
	b.check(err)
	if !step.Done || step.To.Epoch != 2 {
		t.Errorf("the faster one: %+v", step)
	}
	wake()
	var moved *state.MovedError
	if err := <-errs; !errors.As(err, &moved) || !strings.Contains(err.Error(), "the faster one") {
		t.Errorf("the slower one: %v, want a refusal with the actor and the reason of the move", err)
	}
	st, err := b.state.Status(b.ctx, "items")
	b.check(err)
	if st.Route.Epoch != 2 {
		t.Errorf("epoch %d, want 2", st.Route.Epoch)
	}
}

// joined is an instance that renews by hand.
func (b *bench) joined(name string, lease time.Duration) (*pgfleet.Fleet, dual.Grant) {
	b.t.Helper()
	f := pgfleet.New(b.state.Pool(), "items", pgfleet.Options{Lease: lease, Renew: lease / 3})
	g, err := f.Join(b.ctx, dual.Identity{Instance: name})
	b.check(err)
	return f, g
}

// TestRollbackOvertakesAnUnsettledAdvance: an instance that has not acknowledged
// cutover yet doesn't block the rollback from it.
func TestRollbackOvertakesAnUnsettledAdvance(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.walk(phases.DualRead)
	fleet, grant := b.joined("slow", time.Minute)
	b.walk(phases.Cutover)
	moves, err := b.controller().Rollback(b.ctx, control.Rollback{Reason: "test", Settle: 100 * time.Millisecond})
	var unsettled *control.UnsettledError
	if !errors.As(err, &unsettled) || len(moves) != 1 || moves[0].Phase != phases.DualRead {
		t.Fatalf("%v, %v: want a committed rollback that is not settled", moves, err)
	}
	_, err = fleet.Renew(b.ctx, grant.Lease, moves[0].Epoch)
	b.check(err)
	b.check(b.controller().AwaitSettled(b.ctx, time.Minute))
}

// TestRollbackOvertakesAStepTakenMeanwhile: a step forward by another controller, between
// the rollback's read and its commit, doesn't make the rollback fail.
func TestRollbackOvertakesAStepTakenMeanwhile(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.walk(phases.DualRead)
	b.interlocked()
	b.walk(phases.Cutover)
	errs := make(chan error, 1)
	reached, wake := b.frozen(newFreezer(1, false), func(c *control.Controller) error {
		_, err := c.Rollback(context.Background(), control.Rollback{Reason: "an emergency"})
		errs <- err
		return err
	})
	if !reached {
		t.Fatal("the rollback ended before its transition")
	}
	b.walk(phases.Grace)
	wake()
	b.check(<-errs)
	st, err := b.state.Status(b.ctx, "items")
	b.check(err)
	if st.Route.Phase != phases.DualRead || st.LastReason != "an emergency" {
		t.Errorf("ended in %s, %q", st.Route, st.LastReason)
	}
}

// TestRollbackWaitsForWhatMustNotRunBesideIt: from dual-read on to shadow-write,
// while an instance may still read the target in cutover.
func TestRollbackWaitsForWhatMustNotRunBesideIt(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.walk(phases.DualRead)
	b.interlocked()
	b.walk(phases.Cutover)
	fleet, grant := b.joined("reader", time.Minute)
	done := make(chan error, 1)
	go func() {
		_, err := b.controller().Rollback(b.ctx, control.Rollback{To: phases.Legacy, Reason: "test"})
		done <- err
	}()
	var epoch int64
	for ended := false; !ended; {
		select {
		case err := <-done:
			b.check(err)
			ended = true
		case <-time.After(20 * time.Millisecond):
			st, err := b.state.Status(b.ctx, "items")
			b.check(err)
			if st.Route.Phase == phases.ShadowWrite && epoch < st.Route.Epoch-1 {
				t.Errorf("shadow-write was committed while the reader had acknowledged epoch %d only", epoch)
			}
			epoch = st.Route.Epoch
			_, err = fleet.Renew(b.ctx, grant.Lease, epoch)
			b.check(err)
		}
	}
	st, err := b.state.Status(b.ctx, "items")
	b.check(err)
	if st.Route.Phase != phases.Legacy {
		t.Errorf("ended in %s", st.Route)
	}
}

// TestTheFenceIsLiftedWhenAnInstanceDoesNotAnswer: over budget nothing is lost
// and legacy takes writes again.
func TestTheFenceIsLiftedWhenAnInstanceDoesNotAnswer(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.walk(phases.DualRead)
	b.interlocked()
	b.walk(phases.Grace)
	b.joined("silent", time.Minute)
	ctl := b.controller()
	ctl.FenceBudget = 100 * time.Millisecond
	_, err := ctl.Advance(b.ctx, fenceGates())
	var unsettled *control.UnsettledError
	if !errors.As(err, &unsettled) {
		t.Fatalf("%v, want an instance that has not acknowledged the fence", err)
	}
	b.consistent(phases.Grace)
}

// TestTheFenceErrorNamesTheBlockingSession: an open transaction makes the fence fail, with
// the pid and the application name of its session.
func TestTheFenceErrorNamesTheBlockingSession(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.walk(phases.DualRead)
	b.interlocked()
	b.walk(phases.Grace)
	release := b.holdTable("forgotten report")
	ctl := b.controller()
	ctl.LockTimeout = 300 * time.Millisecond
	_, err := ctl.Advance(b.ctx, fenceGates())
	if err == nil || !strings.Contains(err.Error(), "forgotten report") {
		t.Fatalf("%v, want the application that blocks the table", err)
	}
	st, stErr := b.state.Status(b.ctx, "items")
	b.check(stErr)
	if st.Route.Phase != phases.Grace || st.Attempt != "" {
		t.Errorf("%s, attempt %q: a fence that was never raised must cost no writes", st.Route, st.Attempt)
	}
	release()
	b.consistent(phases.Grace)
	_, err = b.controller().Advance(b.ctx, fenceGates())
	b.check(err)
	b.consistent(phases.Retain)
}

// TestAPhaseCantBeSkipped, nor a gate by an override of an interlock.
func TestAPhaseCantBeSkipped(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.walk(phases.ShadowWrite)
	for _, c := range []struct {
		name string
		a    control.Advance
		want string
	}{
		{"skipping", control.Advance{To: phases.Cutover}, "phases can't be skipped"},
		{"a percentage where there is none", control.Advance{To: phases.DualRead, Overrides: map[string]string{"nonsense": "x"}}, "no gate"},
	} {
		if _, err := b.controller().Advance(b.ctx, c.a); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	b.walk(phases.DualRead)
	var closed *control.GatesClosedError
	_, err := b.controller().Advance(b.ctx, control.Advance{Overrides: map[string]string{"reconcile-clean": "trust me"}})
	if !errors.As(err, &closed) {
		t.Errorf("without a backfill: %v, want the interlock to block", err)
	}
	_, err = b.controller().Advance(b.ctx, control.Advance{Overrides: map[string]string{"backfill-done": "trust me"}})
	if err == nil || !strings.Contains(err.Error(), "interlock") {
		t.Errorf("overriding an interlock: %v", err)
	}
	ctl := b.controller()
	ctl.State = undecidingState{ctl.State}
	_, err = ctl.Advance(b.ctx, control.Advance{Overrides: map[string]string{"reconcile-clean": "trust me"}})
	if err == nil || !strings.Contains(err.Error(), "only its members may override") {
		t.Errorf("an override by who is no member of the role: %v", err)
	}
}

// undecidingState is that of a person who may not override.
type undecidingState struct{ control.State }

func (s undecidingState) Transition(ctx context.Context, m string, decide func(phases.Snapshot) (phases.Move, error)) (phases.Status, error) {
	return s.State.Transition(ctx, m, func(e phases.Snapshot) (phases.Move, error) {
		e.Decides = false
		return decide(e)
	})
}
