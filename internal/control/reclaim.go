package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// Reclaim resumes a migration after state loss. It asks legacy whether a fence is
// raised, whatever the state has recorded, and moves to a route under which no
// acknowledged write is lost: dual-read at most. Behind a fence it moves to returning and
// then to grace, and replays every key that was written in the target since the fence.
// The new epoch is above every epoch that an instance knows, so all instances follow.
// Where an instance may still read the target Reclaim waits, up to settle.
func (c *Controller) Reclaim(ctx context.Context, reason string, settle time.Duration) ([]phases.Route, error) {
	settle = orDefault(settle, phases.Settle)
	e, err := c.State.Snapshot(ctx, c.Migration)
	if err != nil {
		return nil, err
	}
	// Legacy is asked, since the state may lack a fence that is raised, or have one that was lifted.
	holder, era, err := c.Legacy.FenceState(ctx)
	if err != nil {
		return nil, err
	}
	if holder == "" && e.Status.Route.Phase == phases.Returning && e.Status.ReturnKeys > 0 && !c.DryRun {
		switch _, err := c.restoreFence(ctx, e.Status); {
		case errors.Is(err, store.ErrAttemptOver):
			// [lift-replayed]: every key was copied before the fence was lifted, also those of which a state
			// that went back does not know that.
			if err := c.voidReturn(ctx, e.Status.Route); err != nil {
				return nil, err
			}
		case err != nil:
			return nil, err
		default:
			// [lift-replayed]: legacy has lost the fence, with keys still to be replayed: a return is only
			// finished behind a fence.
			holder, era = e.Status.Attempt, e.Status.FenceEra
		}
	}
	if noted := e.Status.Attempt; noted != "" && holder == "" && !c.DryRun {
		// Its controller may be alive and still raise the fence.
		// [attempt-void]: after this its controller can't fence legacy behind the route that
		// reclaim chooses.
		voided, err := c.Legacy.VoidFence(ctx, noted)
		if err != nil {
			return nil, err
		}
		if !voided {
			holder = noted
		}
	}
	// [reclaim-refuses], [reclaim-reads]: decided from legacy's fence and what the state recorded.
	to, err := phases.Reclaimed(e.Status.Route, holder != "")
	if err != nil {
		return nil, &InputError{err}
	}
	move := phases.Move{
		From: e.Status.Route, To: to, Reclaim: true, Cause: phases.CauseRollback,
		Reason: "the state database had lost transactions: " + reason,
	}
	switch to.Phase {
	case phases.Returning:
		move.Attempt, move.FenceEra = holder, era
		if move.FirstFenceEra, err = c.Legacy.FirstEra(ctx); err != nil {
			return nil, err
		}
	case phases.Lifting:
		move.Attempt = e.Status.Attempt
	}
	route, err := c.commitReclaim(ctx, move, settle)
	if err != nil {
		return nil, err
	}
	made := []phases.Route{route}
	if c.DryRun {
		return made, nil
	}
	c.report("%s → %s (epoch %d)", e.Status.Route, route, route.Epoch)
	switch to.Phase {
	case phases.Returning:
		route, err = c.finishReturn(ctx, route, reason, settle, false)
	case phases.Lifting:
		route, err = c.finishLift(ctx, reason)
	}
	if err != nil {
		return made, err
	}
	if route != made[0] {
		made = append(made, route)
	}
	last := route
	switch to.Phase {
	case phases.Returning:
		last, err = c.leaveUnclean(ctx, route, Rollback{Reason: reason}, settle)
	case phases.Lifting:
		// [reclaim-reads]: the fence was lifted some time ago, and what the journal had since is lost.
		last, err = c.back(ctx, route, phases.Route{Phase: phases.DualRead, Percent: phases.All}, Rollback{Reason: reason}, settle)
	}
	if err != nil {
		return made, err
	}
	if last != route {
		made = append(made, last)
	}
	// The route is committed; what is left is that every instance follows it.
	return made, c.AwaitSettled(ctx, settle)
}

// voidReturn empties the return journal of a return whose fence was lifted.
func (c *Controller) voidReturn(ctx context.Context, at phases.Route) error {
	newest, err := c.State.NewestChange(ctx, c.Migration)
	if err != nil {
		return err
	}
	const lifted = "lifted" // no incarnation: copies are no longer counted
	if err := c.State.BeginReturn(ctx, c.Migration, at, lifted); err != nil {
		return err
	}
	if err := c.State.MarkCopied(ctx, c.Migration, at, lifted, newest, nil); err != nil {
		return err
	}
	return c.State.EmptyReturn(ctx, c.Migration, at)
}

// commitReclaim waits until the leases from before the state loss have expired, where
// they matter.
func (c *Controller) commitReclaim(ctx context.Context, move phases.Move, settle time.Duration) (phases.Route, error) {
	deadline := time.NewTimer(settle)
	defer deadline.Stop()
	tick := time.NewTicker(orDefault(c.Poll, 50*time.Millisecond))
	defer tick.Stop()
	reported := false
	for {
		// [reclaim-leases]: refused with a RouteConflictError until leases from before the loss
		// have expired. [one-decides]: move.From is the route that reclaim was decided on.
		status, err := c.State.Transition(ctx, c.Migration, func(phases.Snapshot) (phases.Move, error) { return move, nil })
		var conflict *phases.RouteConflictError
		if !errors.As(err, &conflict) {
			return status.Route, err
		}
		if !reported {
			c.report("waiting: %s", conflict)
			reported = true
		}
		select {
		case <-ctx.Done():
			return move.From, ctx.Err()
		case <-deadline.C:
			return move.From, err
		case <-tick.C:
		}
	}
}

// replayUnjournaled scans the whole target for keys written since the fence: the return
// journal may lack some of them. A key that was replayed before a crash has a version of a
// later era by now, and is not replayed again.
//
// What legacy refuses stops it, or with setsAside is returned.
func (c *Controller) replayUnjournaled(ctx context.Context, at phases.Route, run store.ReplayRun, setsAside bool) (refused []store.Refusal, err error) {
	_, era, err := c.Legacy.FenceState(ctx)
	if err != nil {
		return nil, err
	}
	first, err := c.Legacy.FirstEra(ctx)
	if err != nil {
		return nil, err
	}
	c.report("scanning the target for keys written since the fence")
	found := 0
	err = c.Target.Scan(ctx, func(entries []store.Entry) error {
		var keys []record.Key
		for _, e := range entries {
			switch {
			// [reclaim-scan]: every entry of the fence's eras was written in retain, whether or not
			// the return journal has its key. There is more than one if a return was given up.
			case e.Version.Era() < first || e.Version.Era() > era:
			// An entry that can't be replayed stops the reclaim: to lift the fence would lose it.
			case e.Key == "":
				return fmt.Errorf("unknown key %q was written in the target since the fence: no template of this migration parses it", e.RawKey)
			default:
				keys = append(keys, e.Key)
			}
		}
		found += len(keys)
		lost, more, err := c.replay(ctx, run, keys)
		if err == nil && len(lost) > 0 {
			err = errLostMeanwhile(lost)
		}
		refused = append(refused, more...)
		return err
	})
	if err == nil && len(refused) > 0 {
		// Another row may have been in the way that was replayed later.
		keys := make([]record.Key, len(refused))
		for i, r := range refused {
			keys[i] = r.Key
		}
		// [return-aside]: only if that was requested.
		if _, refused, err = c.replay(ctx, run, keys); err == nil && len(refused) > 0 && !setsAside {
			err = &RefusedError{At: at, Keys: int64(found), Refused: refused}
		}
	}
	if err == nil {
		c.report("replayed %d keys to legacy", found-len(refused))
	}
	return refused, err
}
