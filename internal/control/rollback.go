package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// Rollback is a requested rollback.
type Rollback struct {
	To      phases.Phase   // "": the nearest phase whose reads come from legacy
	Percent phases.Percent // of a ramped phase; 0: all of dual-read's reads, or the present step's of cutover
	Reason  string
	Settle  time.Duration // how long to wait for the fleet between two moves, and after the last; 0: 30 s
}

// Rollback makes the moves of the rollback; each one is settled before the next. The
// first move is committed at once if the live routes are compatible with it, also over
// an advance that is not settled; lapsed leases never block it. Rollback returns the moves
// made. *UnsettledError reports a fleet that has not settled on the last one.
func (c *Controller) Rollback(ctx context.Context, r Rollback) ([]phases.Route, error) {
	e, err := c.State.Snapshot(ctx, c.Migration)
	if err != nil {
		return nil, err
	}
	if e.Status.Route.Phase == phases.Grace && e.Status.Attempt != "" {
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
	path, err := rollbackPath(from, r)
	if err != nil {
		return nil, err
	}
	settle := orDefault(r.Settle, phases.Settle)
	var made []phases.Route
	for _, to := range path {
		route, err := c.back(ctx, from, to, r.Reason, settle)
		if err != nil {
			return made, err
		}
		c.report("%s → %s (epoch %d)", from, route, route.Epoch)
		failpoint.Here("control.rollback.moved")
		made, from = append(made, route), route
		// Each move settles before the next: the one after it may be incompatible with the route
		// that instances leave here ([held-routes]).
		if err := c.AwaitSettled(ctx, settle); err != nil {
			return made, err
		}
		failpoint.Here("control.rollback.settled")
	}
	return made, nil
}

func rollbackPath(from phases.Route, r Rollback) ([]phases.Route, error) {
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
	if to == from.Phase {
		return nil, refuse(hint.Hint{}, "the migration is already at %s", from)
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
func (c *Controller) back(ctx context.Context, from, to phases.Route, reason string, settle time.Duration) (phases.Route, error) {
	if to.Phase == phases.Grace && from.Phase == phases.Returning {
		return c.finishReturn(ctx, from, reason, settle)
	}
	if to.Phase == phases.Grace && from.Phase == phases.Lifting {
		return c.finishLift(ctx, reason)
	}
	deadline := time.Now().Add(settle)
	for {
		var status phases.Status
		var err error
		status, err = c.State.Transition(ctx, c.Migration, func(e phases.Snapshot) (phases.Move, error) {
			// [return-reversible]: legacy would lack every write of retain.
			if to.Phase == phases.Returning && !e.Status.Reversible {
				return phases.Move{}, errors.New("cannot roll back from retain: the migration file sets retain.reversible: false, so writes since the fence are not journalled")
			}
			m := phases.Move{From: from, To: to, Cause: phases.CauseRollback, Reason: reason}
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

// finishReturn writes back to legacy what the target took since the fence, and lifts
// the fence. While it runs the route is returning: writes wait.
//
// A write of retain journals its key before it touches the target, so every key of
// which the target has a newer version is in the journal. A key that was journalled and
// never written is replayed too, and its version in the target raised to the new era: a
// writer that resumes late is refused by its own compare-and-set.
func (c *Controller) finishReturn(ctx context.Context, at phases.Route, reason string, settle time.Duration) (phases.Route, error) {
	// [return-settled]: while an instance may still be on retain, it may write a key after its
	// replay.
	if err := c.AwaitSettled(ctx, settle); err != nil {
		return at, err
	}
	e, err := c.State.Snapshot(ctx, c.Migration)
	if err != nil {
		return at, err
	}
	// [return-settled], [lapsed-held]: an instance whose lease expired on retain may still write
	// the target, and reads only the target: it must rejoin or be evicted first.
	if err := phases.Legal(at, phases.Route{Phase: phases.Grace}, e.Fleet.LiveRoutes); err != nil {
		return at, blockedByLapsed(err, e.Fleet)
	}
	failpoint.Here("control.return.held")
	attempt := e.Status.Attempt
	if e.Status.ReturnJournalLost {
		// [reclaim-scan]: the return journal may lack keys; the flag is in the state, so a resumed
		// return scans too.
		if err := c.replayUnjournaled(ctx, attempt); err != nil {
			return at, fmt.Errorf("replaying to legacy: %w", err)
		}
	}
	total, done := e.Status.ReturnKeys, 0
	for {
		// [return-all]: until none is left. Under returning no key enters, so the loop ends.
		keys, err := c.State.ReturnKeys(ctx, c.Migration, "", 500)
		if err != nil {
			return at, err
		}
		if len(keys) == 0 {
			break
		}
		if err := c.replay(ctx, attempt, keys); err != nil {
			return at, fmt.Errorf("replaying to legacy: %w", err)
		}
		// [return-clear]: after both stores have the key. A crash in between replays it again,
		// which changes nothing.
		if err := c.State.ClearReturn(ctx, c.Migration, keys); err != nil {
			return at, err
		}
		failpoint.Here("control.return.cleared")
		done += len(keys)
		c.report("replayed %d of %d keys to legacy", done, total)
	}
	// [lift-replayed]: only here, with the return journal empty.
	if _, err := c.Fence.LiftFence(ctx, attempt, orDefault(c.LockTimeout, phases.LockTimeout)); err != nil {
		return at, err
	}
	failpoint.Here("control.return.lifted")
	return c.fenceMove(ctx, at, phases.Grace, "", reason)
}

func (c *Controller) replay(ctx context.Context, attempt string, keys []record.Key) error {
	for len(keys) > 0 {
		entries, err := c.Target.Get(ctx, keys)
		if err != nil {
			return err
		}
		rows := make([]store.Row, len(entries))
		for i, e := range entries {
			switch e.Presence {
			case store.Live:
				rows[i] = store.Row{Key: e.Key, Found: true, Record: e.Record}
			// [return-all]: a key that the target has deleted, or never got, is deleted in legacy.
			case store.Absent, store.Tombstone:
				rows[i] = store.Row{Key: e.Key}
			default:
				return fmt.Errorf("key %q: the target has %s (%s)", e.Key, e.Presence, e.Detail)
			}
		}
		// [one-decides]: legacy refuses unless the fence is still this attempt's. [return-era]: the
		// versions that it returns are of the era that lifting begins.
		versioned, err := c.Fence.Replay(ctx, attempt, rows)
		if err != nil {
			return err
		}
		failpoint.Here("control.return.replayed")
		writes := make([]store.Write, len(versioned))
		for i, row := range versioned {
			// [return-era]: on condition that the target is as it was read. That refuses this write
			// if it lands late, so it needs no not-after; a write that came between is replayed.
			writes[i] = store.Write{
				Key: row.Key, Deleted: !row.Found, Record: row.Record,
				Version: row.Version, Only: &entries[i].Version,
			}
		}
		results, err := c.Target.Apply(ctx, writes)
		if err != nil {
			return err
		}
		failpoint.Here("control.return.written")
		var again []record.Key
		for i, res := range results {
			switch {
			case res.Err != nil:
				return fmt.Errorf("key %q: %w", keys[i], res.Err)
			// [return-all]: read and replayed again: legacy must have what the target has in the
			// end.
			case res.Outcome == store.Changed: // a late write came in between: replay that one
				again = append(again, keys[i])
			case res.Outcome != store.Applied:
				return fmt.Errorf("key %q: the target answered %s", keys[i], res.Outcome)
			}
		}
		// Each round is caused by a write of retain that was in flight: there are finitely many,
		// since no new one begins.
		keys = again
	}
	return nil
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
		_, err = c.finishReturn(ctx, at, "resumed", phases.Settle)
	case at.Phase == phases.Fenced, at.Phase == phases.Grace && e.Status.Attempt != "":
		// [fence-attempt], [one-decides]: undone, never passed: only an operator's command moves
		// authority.
		_, _, err = c.lift(ctx, e.Status.Attempt, "undo of an interrupted fence")
	}
	return err
}
