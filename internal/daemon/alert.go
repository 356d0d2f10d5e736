package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/stranglerfig/migrator/internal/judge"
	"github.com/stranglerfig/migrator/phases"
)

// Alert is an Alertmanager's alert for a trigger.
type Alert struct {
	Trigger string          `json:"trigger"`
	Key     string          `json:"key"` // identifies one firing of the alert, however often it is sent
	Detail  string          `json:"detail"`
	Alert   json.RawMessage `json:"alert"`
}

// Alerts records evaluations of triggers, and returns them.
type Alerts interface {
	judge.State
	// NewestEvaluations returns the newest evaluations of a trigger, newest first.
	NewestEvaluations(ctx context.Context, migration, trigger string) ([]phases.Evaluation, error)
}

// Fire acts on an alert. Any daemon may receive it: an Alertmanager need not reach the
// leader. An alert that is recorded already does nothing, unless the daemon that recorded it
// died before acting on it. The caller may retry after an error.
func (e *Engine) Fire(ctx context.Context, a Alert) error {
	now, err := e.State.Snapshot(ctx, e.Migration)
	if err != nil {
		return err
	}
	rules, err := e.Rules(ctx)
	if err != nil {
		return err
	}
	all := rules.Settings.Triggers.All()
	at := slices.IndexFunc(all, func(t phases.Armed) bool { return t.Name == a.Trigger })
	if at < 0 || all[at].Off != "" {
		return nil // the applied migration file no longer has this trigger, or turns it off
	}
	log := e.logger()
	fired, known, err := e.recordedAlert(ctx, a)
	if err != nil {
		return err
	}
	if known && fired.Epoch != now.Status.Route.Epoch {
		return nil
	}
	if !known {
		if fired, err = e.recordAlert(ctx, a, all[at], judge.Snapshot{State: now, Settings: rules.Settings}); err != nil {
			return err
		}
		log.Warn("alert received", "trigger", a.Trigger, "why", a.Detail, "verdict", fired.Verdict, "dry_run", fired.DryRun)
	}
	if fired.Verdict != phases.Firing || fired.DryRun {
		return nil
	}
	_, err = e.rollBack(ctx, log, fired)
	if errors.Is(err, errAlreadyRolledBack) {
		return nil
	}
	if errors.Is(err, errNothingToRollBack) {
		if known || e.Announce == nil {
			return nil
		}
		route := now.Status.Route
		return e.Announce(ctx, Fired, topic("fired", route.Epoch, a.Trigger+" "+a.Key),
			announcement{Route: route, Trigger: a.Trigger, Evaluation: fired.ID, Why: a.Detail, Alert: a.Alert})
	}
	return err
}

// recordAlert evaluates the trigger as if its source had answered with the alert, and
// records the evaluation.
func (e *Engine) recordAlert(ctx context.Context, a Alert, t phases.Armed, snapshot judge.Snapshot) (phases.Evaluation, error) {
	inputs, err := json.Marshal(a)
	if err != nil {
		return phases.Evaluation{}, err
	}
	consecutive := 0 // counts as reached: the Alertmanager decides how long an alert is pending before it fires
	for _, c := range snapshot.Settings.Triggers.Custom {
		if c.Name == a.Trigger {
			consecutive = c.Consecutive
		}
	}
	snapshot.Answers = map[string]judge.Answer{a.Trigger: {
		Reading: judge.Reading{Verdict: phases.Firing, Detail: a.Detail, Inputs: inputs}, Before: consecutive,
	}}
	kept, err := e.Alerts.Record(ctx, e.Migration, []phases.Evaluation{snapshot.Trigger(t)})
	if err != nil {
		return phases.Evaluation{}, fmt.Errorf("record the alert: %w", err)
	}
	return kept[0], nil
}

// recordedAlert finds the evaluation that was recorded for the same firing of the alert.
func (e *Engine) recordedAlert(ctx context.Context, a Alert) (phases.Evaluation, bool, error) {
	evaluations, err := e.Alerts.NewestEvaluations(ctx, e.Migration, a.Trigger)
	if err != nil {
		return phases.Evaluation{}, false, err
	}
	for _, one := range evaluations {
		var kept struct {
			Answer struct {
				Source Alert `json:"source"`
			} `json:"answer"`
		}
		if json.Unmarshal(one.Inputs, &kept) == nil && kept.Answer.Source.Key == a.Key {
			return one, true, nil
		}
	}
	return phases.Evaluation{}, false, nil
}
