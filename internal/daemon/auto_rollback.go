package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/stranglerfig/migrator/phases"
)

// errNothingToRollBack means that a trigger cannot roll back from the present route.
var errNothingToRollBack = errors.New("no rollback")

// errAlreadyRolledBack means that reads were rolled back after the trigger fired, and that
// an operator has advanced since.
var errAlreadyRolledBack = errors.New("already rolled back since")

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
				w.log.Warn("trigger fired in a dry run; no rollback", "trigger", one.Name, "why", one.Detail, "evaluation", one.ID)
			}
		default:
			w.firing[one.Name] = true
			// An alert acts once, when it arrives (Fire): that it still fires stops the ramp alone.
			if w.pendingRollback == nil && !received(w.rules.Settings, one.Name) {
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
		w.pendingRollback = nil // the trigger is evaluated again at its own interval
	}
}

// reportOnly logs and announces a trigger that fires where no rollback is possible.
func (w *engineRun) reportOnly(ctx context.Context, fired phases.Evaluation, e phases.Snapshot) {
	at := e.Status.Route
	if w.logOncePerEpoch("fired " + fired.Name) {
		w.log.Warn("trigger fired but no rollback is possible in this phase", "trigger", fired.Name, "route", at.String(), "why", fired.Detail, "evaluation", fired.ID)
	}
	w.announce(ctx, Fired, topic("fired", at.Epoch, fired.Name), announcement{Route: at, Trigger: fired.Name, Evaluation: fired.ID, Why: fired.Detail})
}

// rollBack returns reads to legacy because a trigger fired, and sets the latch, in one
// transaction. It wraps errNothingToRollBack where reads come from legacy, and where legacy
// lacks the writes since the fence: from retain only an operator rolls back.
//
// The evaluation is older than the transaction. A step that was taken in between does not
// invalidate it, so the epoch may be a later one. A newly applied migration file does. So
// does a cutover that began after the evaluation: then reads were rolled back in between,
// for example by another leader while this one was frozen, and an operator has advanced.
func (e *Engine) rollBack(ctx context.Context, log *slog.Logger, fired phases.Evaluation) (phases.Status, error) {
	st, err := e.State.Transition(ctx, e.Migration, func(now phases.Snapshot) (phases.Move, error) {
		at := now.Status.Route
		switch {
		case !at.Phase.TriggersAct():
			return phases.Move{}, fmt.Errorf("%w in %s", errNothingToRollBack, at)
		case at.Phase == phases.Cutover && now.Status.PhaseSince.After(fired.At):
			return phases.Move{}, fmt.Errorf("%w %s fired", errAlreadyRolledBack, fired.Name)
		case now.Status.ConfigHash != fired.ConfigHash:
			return phases.Move{}, fmt.Errorf("%w: another migration file was applied since %s fired", errNothingToRollBack, fired.Name)
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
	log.Warn("rolled back", "trigger", fired.Name, "why", fired.Detail, "evaluation", fired.ID,
		"fired_at", fired.At, "committed_at", st.RouteSince, "epoch", st.Route.Epoch)
	return st, nil
}

// reportSettled logs that an automatic rollback has settled, and shortens the pause between
// ticks until then.
func (w *engineRun) reportSettled(ctx context.Context, e phases.Snapshot) {
	at, latch := e.Status.Route, e.Latch
	rolled := latch != nil && latch.Epoch == at.Epoch
	w.settling = rolled && e.Fleet.Behind > 0 && e.Now.Sub(latch.At) < rollbackRetry
	if !rolled || e.Fleet.Behind > 0 || w.logged["settled"] {
		return
	}
	var settled time.Time // as the last instance acknowledged it, not as this daemon notices
	w.try("read when the rollback settled", func() (err error) {
		settled, err = w.Alerts.Settled(ctx, w.Migration, at.Epoch)
		return err
	})
	if !settled.IsZero() && w.logOncePerEpoch("settled") {
		w.log.Info("rollback settled on all instances", "trigger", latch.Trigger, "epoch", at.Epoch,
			"committed_at", latch.At, "settled_within", settled.Sub(latch.At).Round(time.Millisecond))
	}
}

// received reports whether the trigger is on an Alertmanager's alerts.
func received(s phases.Settings, trigger string) bool {
	return slices.ContainsFunc(s.Triggers.Custom, func(c phases.CustomTrigger) bool {
		return c.Name == trigger && len(c.Alertmanager.Labels) > 0
	})
}
