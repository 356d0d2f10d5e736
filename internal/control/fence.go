package control

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// passFence moves authority from legacy to the target. The order is the
// argument for its safety:
//
//  1. The attempt is recorded in the state while the route is still grace: the next
//     controller knows that a fence may be raised.
//  2. Legacy refuses writes. From here on the target has all that legacy has:
//     every write that legacy let pass was acknowledged by both, or not at all.
//  3. Epoch fenced: reads come from the target alone, writes wait. Every instance
//     acknowledges it; only then does no instance read legacy.
//     Where changes are captured, the target has all that legacy has once capture is past the fence.
//  4. Epoch retain. Commits only if the attempt is still this one and 3 holds in
//     the same transaction, so of two controllers one decides.
//
// Whatever fails before 4 is undone by lift, which starts with an epoch of its
// own: a controller that resumes late finds the route changed and does nothing.
func (c *Controller) passFence(ctx context.Context, step *Step, status phases.Status, a Advance) error {
	attempt := status.Attempt
	retained, err := c.fenceAndRetain(ctx, status, attempt, *step, a)
	if err == nil {
		failpoint.Here("control.fence.retained")
		step.To, step.Done = retained.Route, true
		return nil
	}
	// The caller's context may be what failed; the undo has a deadline of its own.
	// While the fence is raised, every write of the application waits: the undo must not depend on
	// a context that has ended, and must not run for ever.
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), phases.UndoWithin)
	defer cancel()
	// Whatever failed, perhaps only the response to a commit: lift reads the route again, so a
	// passed fence is reported and not lifted ([one-decides]).
	failed := err.Error()
	route, stood, undoErr := c.lift(undo, attempt, failed)
	switch {
	case route.Phase == phases.Retain:
		c.report("another command passed the fence with the same attempt")
		step.To, step.Done = route, true
		return nil
	case undoErr != nil:
		return hint.Errorf(hint.Hint{Do: hint.RollbackToGrace, Text: "as soon as possible"},
			"legacy may refuse writes and the route is %s: the fence could not be lifted (%w), after: %s", route, undoErr, failed)
	case stood:
		return fmt.Errorf("the fence was lifted and the route is grace: %w", err)
	default:
		return fmt.Errorf("legacy was not fenced and nothing has changed: %w", err)
	}
}

// beginFence records a new attempt, which commits the decision to fence, and passes
// its fence.
func (c *Controller) beginFence(ctx context.Context, step *Step, status phases.Status, a Advance, decide func(phases.Snapshot) error) error {
	status.Attempt = uuid.NewString()
	// [fence-attempt]: recorded before legacy is fenced. A crash right after the fence is found and
	// undone by the next command.
	if err := c.State.Intend(ctx, c.Migration, status.Route, status.Attempt, decide); err != nil {
		return err
	}
	failpoint.Here("control.fence.intended")
	return c.passFence(ctx, step, status, a)
}

func (c *Controller) fenceAndRetain(ctx context.Context, status phases.Status, attempt string, step Step, a Advance) (phases.Status, error) {
	at, budget := status.Route, orDefault(c.FenceBudget, phases.FenceBudget)
	if at.Phase == phases.Grace {
		// Once while nothing waits: it says how long it takes behind the fence.
		began := time.Now()
		if err := c.advanceNumbers(ctx); err != nil {
			return status, err
		}
		if took := time.Since(began); took > budget {
			return status, refuse(hint.Hint{Text: "an index on each column of the target that a sequence feeds, or a longer writing.fence_budget"},
				"to read the highest numbers of the target's columns takes %s, and writes may wait %s at most while authority moves", took.Round(time.Millisecond), budget)
		}
		c.report("fencing legacy: waiting for open writers")
		// [fence-lock], [fence-era]: once this returns, legacy refuses writes, and the era is above every
		// version that legacy has given. Raising it again for the same attempt changes nothing, so
		// a resumed command repeats this.
		era, err := c.Legacy.RaiseFence(ctx, attempt, orDefault(c.LockTimeout, phases.LockTimeout))
		if err != nil {
			return status, err
		}
		if err := c.noteFence(ctx, attempt, false); err != nil {
			return status, err
		}
		failpoint.Here("control.fence.raised")
		c.report("legacy refuses writes; waiting for the fleet to acknowledge")
		status, err = c.State.Transition(ctx, c.Migration, func(e phases.Snapshot) (phases.Move, error) {
			// [one-decides]: another controller has undone this attempt, or begun its own.
			if e.Status.Attempt != attempt {
				return phases.Move{}, errNotOurs
			}
			return phases.Move{
				// [fence-epoch]: an epoch of its own, so that every instance leaves legacy before
				// any writes the target alone.
				From: at, To: phases.Route{Phase: phases.Fenced}, Cause: phases.CauseFence,
				Reason: a.Reason, Gates: step.Gates, Attempt: attempt, FenceEra: era, FirstFenceEra: era,
			}, nil
		})
		if err != nil {
			return status, err
		}
		failpoint.Here("control.fence.fenced")
	}
	began := time.Now()
	// [fence-epoch]: within the fence's budget, since writes wait meanwhile; after it the fence is
	// undone.
	if err := c.AwaitSettled(ctx, budget); err != nil {
		return status, err
	}
	if err := c.awaitCaptured(ctx, attempt, budget-time.Since(began)); err != nil {
		return status, err
	}
	// From here on legacy gives no numbers any more, and the target has all that it gave.
	within, cancel := context.WithTimeout(ctx, max(budget-time.Since(began), budget/2))
	err := c.advanceNumbers(within)
	cancel()
	if err != nil {
		return status, err
	}
	_, era, err := c.Legacy.FenceState(ctx)
	if err != nil {
		return status, err
	}
	// [fence-checked]: the fence may have been lifted while this process slept, or legacy may have
	// failed over to a server without it. If it is lifted after this check, epoch lifting was
	// committed first, and the transition below finds the route moved.
	gaps, err := c.Legacy.FenceGaps(ctx, attempt)
	if err != nil {
		return status, err
	}
	if gaps != "" {
		return status, fmt.Errorf("legacy's fence is not whole: %s", gaps)
	}
	// [parts-watched]: as of grace: what a new part has is the application's own.
	before := status
	before.Route.Phase = phases.Grace
	if changes, lost, err := c.watchParts(ctx, before); err != nil {
		return status, err
	} else if lost {
		return status, hint.Errorf(hint.Hint{Do: hint.ReconcileFull}, "legacy's table has changed since it was last looked at, and the target may have records that it lacks: %s", changes)
	}
	failpoint.Here("control.fence.settled")
	fenced := status.Route
	return c.State.Transition(ctx, c.Migration, func(e phases.Snapshot) (phases.Move, error) {
		switch {
		// [one-decides], [fence-epoch], [fence-checked]: all three hold in the transaction that
		// gives authority to the target, or it does not commit.
		case e.Status.Attempt != attempt:
			return phases.Move{}, errNotOurs
		case !e.Fleet.Settled():
			return phases.Move{}, &UnsettledError{Route: fenced, Fleet: e.Fleet, Waited: budget}
		case e.Status.JournalKeys > 0:
			return phases.Move{}, hint.Errorf(hint.Hint{Do: hint.ReconcileRepair}, "%d journaled keys are behind in the target", e.Status.JournalKeys)
		}
		// [capture-passed]: in the same transaction.
		if err := phases.CapturePassed(c.Settings, e, attempt); err != nil {
			return phases.Move{}, err
		}
		return phases.Move{
			From: fenced, To: phases.Route{Phase: phases.Retain}, Cause: phases.CauseAdvance,
			Reason: a.Reason, Gates: step.Gates, Attempt: attempt, FenceEra: era,
		}, nil
	})
}

// advanceNumbers has the target's own sequences pass the numbers that legacy gave: its next records would collide with
// those.
func (c *Controller) advanceNumbers(ctx context.Context) error {
	target, ok := c.Target.(store.NumberAdvancer)
	if !ok {
		return nil
	}
	moved, err := target.AdvanceNumbers(ctx)
	if len(moved) > 0 {
		c.report("moved %s past the numbers that the target has", strings.Join(moved, ", "))
	}
	return err
}

var errNotOurs = hint.With(errors.New("another controller took over the fence"), hint.Hint{Do: hint.Status})

// lift removes the attempt's fence. If the fence was never raised, lift deletes the
// record of the attempt and the route stays. Else: epoch lifting (from here on no
// controller can pass to retain), triggers dropped, epoch grace. Each step may have been
// done before. lift returns the route that it set or found, and whether a fence was raised.
func (c *Controller) lift(ctx context.Context, attempt, reason string) (at phases.Route, stood bool, err error) {
	e, err := c.State.Snapshot(ctx, c.Migration)
	if err != nil {
		return at, false, err
	}
	at = e.Status.Route
	// [one-decides]: the recorded attempt is another one, or retain was passed: its fence must stay.
	if e.Status.Attempt != attempt {
		return at, false, errNotOurs
	}
	if at.Phase == phases.Grace {
		// [attempt-void]: its controller may be alive and about to fence. Voided first, then
		// deleted: without the record, no command would search for that fence.
		voided, err := c.Legacy.VoidFence(ctx, attempt)
		if err != nil {
			return at, false, err
		}
		if voided {
			failpoint.Here("control.void.voided")
			return at, false, c.State.ForgetAttempt(ctx, c.Migration, attempt, reason)
		}
	}
	if at.Phase == phases.Grace || at.Phase == phases.Fenced {
		// [one-decides]: committed before the triggers go: from here no controller can pass to
		// retain behind a fence that is being lifted.
		if at, err = c.fenceMove(ctx, at, phases.Lifting, attempt, reason); err != nil {
			return at, true, err
		}
		failpoint.Here("control.lift.lifting")
	}
	if at.Phase != phases.Lifting {
		return at, true, errNotOurs
	}
	// [lift-era], [attempt-void]: in one transaction on legacy. [lift-replayed]: nothing is to be
	// replayed: from grace or fenced no write has gone to the target alone.
	if _, err := c.Legacy.LiftFence(ctx, attempt, orDefault(c.LockTimeout, phases.LockTimeout)); err != nil {
		return at, true, err
	}
	failpoint.Here("control.lift.lifted")
	// Legacy takes writes again before instances are notified of grace: one that still waits is
	// late, not wrong.
	at, err = c.fenceMove(ctx, at, phases.Grace, "", reason)
	return at, true, err
}

// fenceMove commits a step of the fence's protocol for the attempt that the
// migration's row holds.
func (c *Controller) fenceMove(ctx context.Context, from phases.Route, to phases.Phase, attempt, reason string) (phases.Route, error) {
	status, err := c.State.Transition(ctx, c.Migration, func(phases.Snapshot) (phases.Move, error) {
		// [one-decides]: From carries the epoch that the caller saw, and an attempt whose fence
		// is raised can't change within one epoch.
		return phases.Move{From: from, To: phases.Route{Phase: to}, Cause: phases.CauseFence, Reason: reason, Attempt: attempt}, nil
	})
	if err != nil {
		return from, err
	}
	return status.Route, nil
}
