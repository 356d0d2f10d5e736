package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/stranglerfig/migrator/phases"
)

// errNothingToRollBack tells that a trigger takes nothing back where the migration stands.
var errNothingToRollBack = errors.New("there are no reads to take back")

// errAlreadyRolledBack tells that somebody has taken reads back since the trigger fired, and gone on.
var errAlreadyRolledBack = errors.New("reads were taken back since")

// triggers evaluates the triggers and acts on the first that fires.
func (w *engineRun) triggers(ctx context.Context, e phases.Snapshot) {
	var evaluations []phases.Evaluation
	w.try("evaluate the triggers", func() (err error) {
		evaluations, err = w.rules.Judge.Triggers(ctx, e)
		return err
	})
	for i, one := range evaluations {
		delete(w.firing, one.Name)
		switch {
		case one.Verdict != phases.Firing:
		case one.DryRun:
			if w.logOncePerEpoch("dry run of " + one.Name) {
				w.log.Warn("a trigger would have fired", "trigger", one.Name, "why", one.Detail, "evaluation", one.ID)
			}
		default:
			w.firing[one.Name] = true
			if w.pendingRollback == nil {
				w.pendingRollback, w.retryUntil = &evaluations[i], time.Now().Add(rollbackRetry)
			}
		}
	}
	if w.pendingRollback == nil {
		return
	}
	fired := *w.pendingRollback
	ok := w.try("roll back", func() error {
		_, err := w.rollBack(ctx, w.log, fired)
		if errors.Is(err, errNothingToRollBack) {
			w.reportOnly(ctx, fired, e)
			return nil
		}
		if errors.Is(err, errAlreadyRolledBack) {
			return nil
		}
		return err
	})
	if ok || time.Now().After(w.retryUntil) {
		w.pendingRollback = nil // it is looked at again at its own interval
	}
}

// reportOnly tells of a trigger that fires where it takes nothing back.
func (w *engineRun) reportOnly(ctx context.Context, fired phases.Evaluation, e phases.Snapshot) {
	at := e.Status.Route
	if w.logOncePerEpoch("fired " + fired.Name) {
		w.log.Warn("a trigger fires, and there are no reads to take back", "trigger", fired.Name, "route", at.String(), "why", fired.Detail, "evaluation", fired.ID)
	}
	w.announce(ctx, Fired, topic("fired", at.Epoch, fired.Name), announcement{Route: at, Trigger: fired.Name, Evaluation: fired.ID, Why: fired.Detail})
}

// rollBack takes reads back to legacy because of what fired, and latches that, in one
// transaction. It wraps errNothingBack where reads come from legacy, and where legacy
// does not have what was written since the fence: from retain a person goes back.
//
// The harm was found a moment ago. A step that somebody took meanwhile does not undo
// it, so the epoch may be a later one; another description does, and so does cutover
// begun anew: then reads were taken back meanwhile, as by another leader while this one
// was frozen, and a person has gone on.
func (e *Engine) rollBack(ctx context.Context, log *slog.Logger, fired phases.Evaluation) (phases.Status, error) {
	st, err := e.State.Transition(ctx, e.Migration, func(now phases.Snapshot) (phases.Move, error) {
		at := now.Status.Route
		switch {
		case !at.Phase.TriggersAct():
			return phases.Move{}, fmt.Errorf("%w in %s", errNothingToRollBack, at)
		case at.Phase == phases.Cutover && now.Status.PhaseSince.After(fired.At):
			return phases.Move{}, fmt.Errorf("%w %s fired", errAlreadyRolledBack, fired.Name)
		case now.Status.ConfigHash != fired.ConfigHash:
			return phases.Move{}, fmt.Errorf("%w: another description was applied since %s fired", errNothingToRollBack, fired.Name)
		}
		return phases.Move{
			From: at, To: phases.Route{Phase: phases.DualRead, Percent: phases.All},
			Cause: phases.CauseTrigger, Reason: fired.Name + ": " + fired.Detail,
			Latch: &phases.Latch{Trigger: fired.Name, Evaluation: fired.ID, Reason: fired.Detail},
		}, nil
	})
	if err != nil {
		return st, err
	}
	log.Warn("a trigger has taken reads back to legacy", "trigger", fired.Name, "why", fired.Detail, "evaluation", fired.ID,
		"fired_at", fired.At, "committed_at", st.RouteSince, "epoch", st.Route.Epoch)
	return st, nil
}

// settled tells when every instance has followed an automatic rollback, and has the
// next look come soon until then.
func (w *engineRun) reportSettled(e phases.Snapshot) {
	at, latch := e.Status.Route, e.Latch
	rolled := latch != nil && latch.Epoch == at.Epoch
	w.settling = rolled && e.Fleet.Behind > 0 && e.Now.Sub(latch.At) < rollbackRetry
	if rolled && e.Fleet.Behind == 0 && w.logOncePerEpoch("settled") {
		w.log.Info("every instance reads legacy again", "trigger", latch.Trigger, "epoch", at.Epoch,
			"committed_at", latch.At, "settled_within", e.Now.Sub(latch.At).Round(time.Millisecond))
	}
}
