package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/stranglerfig/migrator/phases"
)

// errNothingBack tells that a trigger takes nothing back where the migration stands.
var errNothingBack = errors.New("there are no reads to take back")

// errUndone tells that somebody has taken reads back since the trigger fired, and gone on.
var errUndone = errors.New("reads were taken back since")

// triggers evaluates the triggers and acts on the first that fires.
func (w *watching) triggers(ctx context.Context, e phases.Evidence) {
	var found []phases.Evaluation
	w.try("evaluate the triggers", func() (err error) {
		found, err = w.rules.Judge.Triggers(ctx, e)
		return err
	})
	for i, one := range found {
		delete(w.firing, one.Name)
		switch {
		case one.Verdict != phases.Firing:
		case one.DryRun:
			if w.once("dry run of " + one.Name) {
				w.log.Warn("a trigger would have fired", "trigger", one.Name, "why", one.Detail, "evaluation", one.ID)
			}
		default:
			w.firing[one.Name] = true
			if w.owed == nil {
				w.owed, w.owedTill = &found[i], time.Now().Add(engineOwes)
			}
		}
	}
	if w.owed == nil {
		return
	}
	fired := *w.owed
	ok := w.try("roll back", func() error {
		_, err := w.rollBack(ctx, w.log, fired)
		if errors.Is(err, errNothingBack) {
			w.only(ctx, fired, e)
			return nil
		}
		if errors.Is(err, errUndone) {
			return nil
		}
		return err
	})
	if ok || time.Now().After(w.owedTill) {
		w.owed = nil // it is looked at again at its own interval
	}
}

// only tells of a trigger that fires where it takes nothing back.
func (w *watching) only(ctx context.Context, fired phases.Evaluation, e phases.Evidence) {
	at := e.Standing.Route
	if w.once("fired " + fired.Name) {
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
func (e *Engine) rollBack(ctx context.Context, log *slog.Logger, fired phases.Evaluation) (phases.Standing, error) {
	st, err := e.State.Transition(ctx, e.Migration, func(now phases.Evidence) (phases.Move, error) {
		at := now.Standing.Route
		switch {
		case !at.Phase.TriggersAct():
			return phases.Move{}, fmt.Errorf("%w in %s", errNothingBack, at)
		case at.Phase == phases.Cutover && now.Standing.PhaseSince.After(fired.At):
			return phases.Move{}, fmt.Errorf("%w %s fired", errUndone, fired.Name)
		case now.Standing.ConfigHash != fired.ConfigHash:
			return phases.Move{}, fmt.Errorf("%w: another description was applied since %s fired", errNothingBack, fired.Name)
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
func (w *watching) settled(e phases.Evidence) {
	at, latch := e.Standing.Route, e.Latch
	rolled := latch != nil && latch.Epoch == at.Epoch
	w.settling = rolled && e.Fleet.Behind > 0 && e.Now.Sub(latch.At) < engineOwes
	if rolled && e.Fleet.Behind == 0 && w.once("settled") {
		w.log.Info("every instance reads legacy again", "trigger", latch.Trigger, "epoch", at.Epoch,
			"committed_at", latch.At, "settled_within", e.Now.Sub(latch.At).Round(time.Millisecond))
	}
}
