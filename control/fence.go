package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/stranglerfig/migrator/phases"
)

// passFence moves authority from legacy to the target. The order is the
// argument for its safety:
//
//  1. The attempt is noted in the state while the route is still grace: whoever
//     comes next knows that a fence may stand.
//  2. Legacy refuses writes. From here on the target has all that legacy has:
//     every write that legacy let pass was acknowledged by both, or not at all.
//  3. Epoch fenced: reads come from the target alone, writes wait. Every instance
//     acknowledges it; only then is nobody left who reads legacy.
//  4. Epoch retain. Commits only if the attempt is still this one and 3 holds in
//     the same transaction, so of two controllers one decides.
//
// Whatever fails before 4 is undone by lift, which starts with an epoch of its
// own: a controller that wakes up late finds the route changed and does nothing.
func (c *Controller) passFence(ctx context.Context, step Step, standing phases.Standing, a Advance) (Step, error) {
	attempt := standing.Attempt
	if attempt == "" {
		attempt = uuid.NewString()
		if err := c.State.Intend(ctx, c.Migration, standing.Route, attempt); err != nil {
			return step, err
		}
	}
	retained, err := c.fenceAndRetain(ctx, standing, attempt, step, a)
	if err == nil {
		step.To, step.Done = retained.Route, true
		return step, nil
	}
	// The caller's context may be what failed; the way back is bounded by its own.
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	if lifted := c.lift(undo, attempt, err.Error()); lifted != nil {
		return step, fmt.Errorf("%w; and the fence could not be lifted: %w; try: migrator phase rollback --to grace", err, lifted)
	}
	return step, fmt.Errorf("legacy was unfenced again and the route is grace: %w", err)
}

func (c *Controller) fenceAndRetain(ctx context.Context, standing phases.Standing, attempt string, step Step, a Advance) (phases.Standing, error) {
	at := standing.Route
	if at.Phase == phases.Grace {
		c.say("fencing legacy: waiting for open writers")
		era, err := c.Fence.RaiseFence(ctx, attempt, orDefault(c.LockTimeout, 5*time.Second))
		if err != nil {
			return standing, err
		}
		c.say("legacy refuses writes; telling the fleet")
		standing, err = c.State.Transition(ctx, c.Migration, func(e phases.Evidence) (phases.Move, error) {
			if e.Standing.Attempt != attempt {
				return phases.Move{}, errNotOurs
			}
			return phases.Move{
				From: at, To: phases.Route{Phase: phases.Fenced}, Cause: phases.CauseFence,
				Reason: a.Reason, Gates: step.Gates, Attempt: attempt, FenceEra: era,
			}, nil
		})
		if err != nil {
			return standing, err
		}
	}
	budget := orDefault(c.FenceBudget, 2*time.Second)
	if err := c.AwaitSettled(ctx, budget); err != nil {
		return standing, err
	}
	holder, era, err := c.Fence.FenceState(ctx)
	if err != nil {
		return standing, err
	}
	if holder != attempt {
		return standing, fmt.Errorf("legacy's fence is not this attempt's (it is %q)", holder)
	}
	fenced := standing.Route
	return c.State.Transition(ctx, c.Migration, func(e phases.Evidence) (phases.Move, error) {
		switch {
		case e.Standing.Attempt != attempt:
			return phases.Move{}, errNotOurs
		case !e.Fleet.Settled():
			return phases.Move{}, &UnsettledError{Route: fenced, Fleet: e.Fleet, Waited: budget}
		case e.Standing.JournalKeys > 0:
			return phases.Move{}, fmt.Errorf("%d keys are known to be behind in the target; try: migrator reconcile run --repair", e.Standing.JournalKeys)
		}
		return phases.Move{
			From: fenced, To: phases.Route{Phase: phases.Retain}, Cause: phases.CauseAdvance,
			Reason: a.Reason, Gates: step.Gates, Attempt: attempt, FenceEra: era,
		}, nil
	})
}

var errNotOurs = errors.New("another controller has taken over the fence; try: migrator status")

// lift takes the attempt's fence away: epoch lifting (so that nobody can pass to
// retain any more), triggers dropped, epoch grace. Each step may have been done before.
func (c *Controller) lift(ctx context.Context, attempt, reason string) error {
	e, err := c.State.Evidence(ctx, c.Migration)
	if err != nil {
		return err
	}
	if e.Standing.Attempt != attempt {
		return errNotOurs
	}
	at := e.Standing.Route
	if at.Phase == phases.Grace || at.Phase == phases.Fenced {
		if at, err = c.fenceMove(ctx, at, phases.Lifting, attempt, reason); err != nil {
			return err
		}
	}
	if at.Phase != phases.Lifting {
		return errNotOurs
	}
	if _, err := c.Fence.LiftFence(ctx, attempt, orDefault(c.LockTimeout, 5*time.Second)); err != nil {
		return err
	}
	_, err = c.fenceMove(ctx, at, phases.Grace, "", reason)
	return err
}

// fenceMove commits a step of the fence's protocol for the attempt that the
// migration's row holds.
func (c *Controller) fenceMove(ctx context.Context, from phases.Route, to phases.Phase, attempt, reason string) (phases.Route, error) {
	standing, err := c.State.Transition(ctx, c.Migration, func(phases.Evidence) (phases.Move, error) {
		return phases.Move{From: from, To: phases.Route{Phase: to}, Cause: phases.CauseFence, Reason: reason, Attempt: attempt}, nil
	})
	return standing.Route, err
}
