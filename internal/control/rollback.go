package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/phases"
)

// Rollback is a requested rollback.
type Rollback struct {
	To      phases.Phase   // "": see phases.RollbackTarget
	Percent phases.Percent // of a ramped phase; 0: all of dual-read's reads, or the present step's of cutover
	Reason  string
	Settle  time.Duration // how long to wait for the fleet between two moves, and after the last; 0: 30 s
	// AcceptMissing is how many records the target may have lost: a return from retain leaves
	// legacy's older states of them, and leads on to dual-read.
	AcceptMissing int64
	// SetAside leaves what legacy refuses in a table of legacy's database, in a return from retain.
	SetAside bool
}

// Rollback makes the moves of the rollback; each one is settled before the next. The
// first move is committed at once if the live routes are compatible with it, also over
// an advance that is not settled; lapsed leases never block it. Rollback returns the moves
// made: none where the migration is already. *UnsettledError reports a fleet that has not settled on the last one.
func (c *Controller) Rollback(ctx context.Context, r Rollback) ([]phases.Route, error) {
	e, err := c.State.Snapshot(ctx, c.Migration)
	if err != nil {
		return nil, err
	}
	if e.Status.Route.Phase == phases.Grace && e.Status.Attempt != "" && c.DryRun {
		c.report("would lift the fence of attempt %s first", e.Status.Attempt)
	} else if e.Status.Route.Phase == phases.Grace && e.Status.Attempt != "" {
		// [fence-attempt]: a fence may be raised although the route is still grace: it is lifted
		// before any other move.
		at, _, err := c.lift(ctx, e.Status.Attempt, "rollback "+r.Reason)
		if err != nil {
			return nil, err
		}
		failpoint.Here("control.rollback.unfenced")
		if r.To == phases.Grace {
			return []phases.Route{at}, nil
		}
		e.Status.Route = at
	}
	from := e.Status.Route
	// Decided once; each move is then a compare-and-set on the route that the one before it left.
	path, err := RollbackPath(from, r)
	if err != nil {
		return nil, err
	}
	settle := orDefault(r.Settle, phases.Settle)
	if len(path) == 0 {
		// The command that made the moves may have given up on an instance.
		return nil, c.AwaitSettled(ctx, settle)
	}
	missing := r.AcceptMissing // of a return that another command has begun
	if path[0].Phase == phases.Returning && e.Status.Reversible {
		// [capture-returns]: before writes wait for it.
		if err := phases.CaptureReturns(c.Settings, e); err != nil {
			return nil, fmt.Errorf("nothing was rolled back: %w", err)
		}
		// [beat-first]: shows whether the state went back, before its journal is relied upon.
		if err := c.isWhole(ctx); err != nil {
			return nil, fmt.Errorf("nothing was rolled back: %w", err)
		}
		if err := c.checkFence(ctx, e.Status); err != nil {
			return nil, err
		}
		rehearsal, err := c.rehearse(ctx, e.Status)
		if err == nil {
			err = rehearsal.Check(from, r.AcceptMissing, r.SetAside)
		}
		if err != nil {
			return nil, err
		}
		missing = rehearsal.Missing
		if c.DryRun {
			return c.wouldRollBack(ctx, from, path, r, settle)
		}
		if err := c.copyRounds(ctx, e.Status); err != nil {
			return nil, fmt.Errorf("copying to legacy; nothing was rolled back: %w", err)
		}
	}
	if last := path[len(path)-1].Phase; (missing > 0 || e.Status.Unclean != "") && last == phases.Grace && from.Phase != phases.Lifting {
		// [return-lost], [fence-watched]: the target lacks records, or writes that legacy took: reads
		// must not come from it.
		path = append(path, phases.Route{Phase: phases.DualRead, Percent: phases.All})
	}
	if c.DryRun {
		return c.wouldRollBack(ctx, from, path, r, settle)
	}
	var made []phases.Route
	for _, to := range path {
		route, err := c.back(ctx, from, to, r, settle)
		if err != nil {
			if to.Phase == phases.Returning && ctx.Err() != nil {
				route, err = c.giveUpUnknown(ctx, from, err)
			}
			if route.Phase == phases.Retain { // the return was given up
				made = append(made, route)
			}
			return made, err
		}
		c.report("%s → %s (epoch %d)", from, route, route.Epoch)
		failpoint.Here("control.rollback.moved")
		made, from = append(made, route), route
		// Each move settles before the next: the one after it may be incompatible with the route
		// that instances leave here ([held-routes]).
		if err := c.AwaitSettled(ctx, settle); err != nil {
			if route.Phase == phases.Returning && ctx.Err() != nil {
				if route, err = c.giveUpBecause(ctx, route, err); route.Phase == phases.Retain {
					made = append(made, route)
				}
			}
			return made, err
		}
		failpoint.Here("control.rollback.settled")
	}
	if path[0].Phase == phases.Returning && from.Phase == phases.Grace {
		route, err := c.leaveUnclean(ctx, from, r, settle)
		if err != nil {
			return made, err
		}
		if route != from {
			made = append(made, route)
		}
	}
	if e.Status.ReturnKeys > 0 {
		// What is left of the return journal is void, and the daemon deletes it too.
		tidy, cancel := context.WithTimeout(ctx, pruneWithin)
		defer cancel()
		_ = c.State.PruneReturn(tidy, c.Migration)
	}
	return made, nil
}

// wouldRollBack returns the moves of a dry run. The first one is decided, and rolled back, where it is a
// transition of the state.
func (c *Controller) wouldRollBack(ctx context.Context, from phases.Route, path []phases.Route, r Rollback, settle time.Duration) ([]phases.Route, error) {
	if from.Phase == phases.Lifting || from.Phase == phases.Returning {
		return path, nil
	}
	_, err := c.back(ctx, from, path[0], r, settle)
	return path, err
}

// leaveUnclean goes on to dual-read where the return ended unclean. [return-beat]: a store has lost data
// during it: reads must not come from the target before a full reconcile.
func (c *Controller) leaveUnclean(ctx context.Context, at phases.Route, r Rollback, settle time.Duration) (phases.Route, error) {
	e, err := c.State.Snapshot(ctx, c.Migration)
	if err != nil || e.Status.Unclean == "" || e.Status.Route != at {
		return at, err
	}
	route, err := c.back(ctx, at, phases.Route{Phase: phases.DualRead, Percent: phases.All}, r, settle)
	if err != nil {
		return at, err
	}
	c.report("%s → %s (epoch %d): %s", at, route, route.Epoch, e.Status.Unclean)
	return route, c.AwaitSettled(ctx, settle)
}

const pruneWithin = 5 * time.Second

var errIrreversible = errors.New("cannot roll back from retain: the migration file sets retain.reversible: false, so writes since the fence are not journalled")

// RollbackPath returns the moves of the rollback from a route; none if it is made already.
func RollbackPath(from phases.Route, r Rollback) ([]phases.Route, error) {
	to := r.To
	if to == "" {
		var err error
		if to, err = phases.RollbackTarget(from.Phase); err != nil {
			return nil, err
		}
	}
	if to == from.Phase && to.Ramped() && r.Percent > 0 && r.Percent < from.Percent {
		return []phases.Route{{Phase: to, Percent: r.Percent}}, nil
	}
	if to == from.Phase && (r.Percent == 0 || r.Percent == from.Percent) {
		return nil, nil
	}
	if to == from.Phase {
		return nil, refuse(hint.Hint{Do: hint.Advance}, "the migration is at %s: a rollback goes to no higher share", from)
	}
	path, err := phases.RollbackPath(from, to)
	if err != nil {
		return nil, &InputError{err}
	}
	if r.Percent > 0 && to.Ramped() {
		path[len(path)-1].Percent = r.Percent
	}
	return path, nil
}

// back makes one move. It waits while a live instance may still be on a route that is
// incompatible with the new one.
func (c *Controller) back(ctx context.Context, from, to phases.Route, r Rollback, settle time.Duration) (phases.Route, error) {
	if to.Phase == phases.Grace && from.Phase == phases.Returning {
		if r.AcceptMissing > 0 { // of a return that another command has begun
			if err := c.State.AcceptMissing(ctx, c.Migration, from, r.AcceptMissing); err != nil {
				return from, err
			}
		}
		if r.SetAside {
			if err := c.State.AllowSetAside(ctx, c.Migration, from); err != nil {
				return from, err
			}
		}
		return c.finishReturn(ctx, from, r.Reason, settle, true)
	}
	if to.Phase == phases.Grace && from.Phase == phases.Lifting {
		return c.finishLift(ctx, r.Reason)
	}
	deadline := time.Now().Add(settle)
	for {
		var status phases.Status
		var err error
		status, err = c.State.Transition(ctx, c.Migration, func(e phases.Snapshot) (phases.Move, error) {
			// [return-reversible]: legacy would lack every write of retain.
			if to.Phase == phases.Returning && !e.Status.Reversible {
				return phases.Move{}, errIrreversible
			}
			m := phases.Move{From: from, To: to, Cause: phases.CauseRollback, Reason: r.Reason}
			if to.Phase == phases.Returning {
				m.AcceptMissing, m.SetAside = r.AcceptMissing, r.SetAside
			}
			if overtakes(to, e.Status.Route) {
				// Another command moved forward meanwhile: the rollback is also one from there. From
				// is read under the lock, so the compare in Transition succeeds.
				m.From = e.Status.Route
			}
			if to.Phase.Passing() {
				m.Attempt = e.Status.Attempt
			}
			return m, nil
		})
		var conflict *phases.RouteConflictError
		// [held-routes]: only an incompatible route of a live lease is worth waiting for, until the
		// deadline.
		if err == nil || !errors.As(err, &conflict) || time.Now().After(deadline) {
			return status.Route, err
		}
		if e, err := c.State.Snapshot(ctx, c.Migration); err == nil && e.Fleet.Behind == 0 {
			return status.Route, blockedByLapsed(conflict, e.Fleet) // waiting would not help
		}
		c.report("waiting: %s", conflict)
		if err := c.AwaitSettled(ctx, time.Until(deadline)); err != nil {
			return phases.Route{}, err
		}
	}
}

// overtakes reports whether the move is a rollback from the present route too. A step
// forward that another controller took meanwhile (the daemon, on a ramp) must not make a
// rollback fail.
func overtakes(to, present phases.Route) bool {
	if to.Phase.Passing() || present.Phase.Passing() {
		return false
	}
	if to.Phase == present.Phase {
		return to.Percent < present.Percent
	}
	path, err := phases.RollbackPath(present, to.Phase)
	return err == nil && len(path) == 1
}

// blockedByLapsed adds the hint to evict the first lapsed instance: it may never
// acknowledge, so waiting does not help.
func blockedByLapsed(err error, fleet phases.Fleet) error {
	if len(fleet.Lapsed) == 0 {
		return err
	}
	return hint.Errorf(phases.EvictHint(fleet.Lapsed[0]), "%w: the lease of %s expired, and the instance may still read the target", err, fleet.Lapsed[0])
}

func (c *Controller) finishLift(ctx context.Context, reason string) (phases.Route, error) {
	e, err := c.State.Snapshot(ctx, c.Migration)
	if err != nil {
		return phases.Route{}, err
	}
	at, _, err := c.lift(ctx, e.Status.Attempt, reason)
	return at, err
}

// Resume completes what an interrupted command left between two phases.
func (c *Controller) Resume(ctx context.Context) error {
	e, err := c.State.Snapshot(ctx, c.Migration)
	if err != nil {
		return err
	}
	switch at := e.Status.Route; {
	case at.Phase == phases.Lifting:
		_, err = c.finishLift(ctx, "resumed")
	case at.Phase == phases.Returning:
		var grace phases.Route
		if grace, err = c.finishReturn(ctx, at, "resumed", phases.Settle, false); err == nil {
			_, err = c.leaveUnclean(ctx, grace, Rollback{Reason: "resumed"}, phases.Settle)
		}
	case at.Phase == phases.Fenced, at.Phase == phases.Grace && e.Status.Attempt != "":
		// [fence-attempt], [one-decides]: undone, never passed: only an operator's command moves
		// authority.
		_, _, err = c.lift(ctx, e.Status.Attempt, "undo of an interrupted fence")
	}
	return err
}

// ReadLegacy returns reads to legacy because the target has lost data, or is behind legacy. It does nothing where reads
// come from legacy, and where legacy lacks the writes since its fence.
func (c *Controller) ReadLegacy(ctx context.Context, why string) error {
	_, err := c.State.Transition(ctx, c.Migration, func(e phases.Snapshot) (phases.Move, error) {
		at := e.Status.Route
		if !at.Phase.TriggersAct() {
			return phases.Move{}, errNothingToDo
		}
		return phases.Move{From: at, To: phases.Route{Phase: phases.DualRead, Percent: phases.All}, Cause: phases.CauseLoss, Reason: why}, nil
	})
	if errors.Is(err, errNothingToDo) {
		return nil
	}
	return err
}

var errNothingToDo = errors.New("nothing to do")
