package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/stranglerfig/migrator/internal/judge"
	"github.com/stranglerfig/migrator/phases"
)

// Alert is an Alertmanager's alert for a trigger.
type Alert struct {
	Trigger  string          `json:"trigger"`
	StartsAt time.Time       `json:"starts_at"`
	Key      string          `json:"key"` // identifies one firing of the alert, however often it is sent
	Detail   string          `json:"detail"`
	Alert    json.RawMessage `json:"alert"`
}

// Alerts records evaluations of triggers, and returns them.
type Alerts interface {
	judge.State
	// AlertEvaluations returns the newest evaluation of a trigger for each of the alerts' keys that
	// is recorded.
	AlertEvaluations(ctx context.Context, migration, trigger string, keys []string) (map[string]phases.Evaluation, error)
	// SidesChanged is when reads last went to the target, or back to legacy; the zero time: never.
	SidesChanged(ctx context.Context, migration string) (time.Time, error)
	// Settled is when the last instance acknowledged the epoch; the zero time: not yet.
	Settled(ctx context.Context, migration string, epoch int64) (time.Time, error)
}

const (
	// maxNewAlerts is how many alerts of a trigger one webhook may bring: one is enough to fire it,
	// each costs a row that stays for a week, and all are recorded before the sender is answered.
	maxNewAlerts = 3
	// longestAhead is where a date is no clock that is fast.
	longestAhead = 24 * time.Hour
)

// AlertsFired is what Fire did, by number of alerts.
type AlertsFired struct {
	Triggers             []string // of the alerts that were new
	Old, Future, LeftOut int
}

// Fire acts on alerts. Any daemon may receive them: an Alertmanager need not reach the
// leader. An alert that is recorded already does nothing, unless the daemon that recorded it
// died before acting on it. Nor does one that began before reads last changed sides: what
// it is about was there before the present route, or has been rolled back. The caller may retry
// after an error.
func (e *Engine) Fire(ctx context.Context, alerts []Alert) (f AlertsFired, err error) {
	now, err := e.State.Snapshot(ctx, e.Migration)
	if err != nil {
		return f, err
	}
	changed, err := e.Alerts.SidesChanged(ctx, e.Migration)
	if err != nil {
		return f, err
	}
	by := map[string][]Alert{}
	for _, a := range alerts {
		switch {
		case a.StartsAt.After(now.Now.Add(longestAhead)):
			f.Future++
		case a.StartsAt.Before(changed.Add(-phases.ClocksDiffer)):
			f.Old++
		default:
			by[a.Trigger] = append(by[a.Trigger], a)
		}
	}
	var failures error
	for _, trigger := range slices.Sorted(maps.Keys(by)) {
		if err := e.fireTrigger(ctx, trigger, by[trigger], &f); err != nil {
			failures = errors.Join(failures, fmt.Errorf("trigger %s: %w", trigger, err))
		}
	}
	return f, failures
}

// fireTrigger records the new alerts of a trigger, and rolls back.
func (e *Engine) fireTrigger(ctx context.Context, trigger string, alerts []Alert, f *AlertsFired) error {
	rules, err := e.Rules(ctx)
	if err != nil {
		return err
	}
	all := rules.Settings.Triggers.All()
	at := slices.IndexFunc(all, func(t phases.Armed) bool { return t.Name == trigger })
	if at < 0 || all[at].Off != "" {
		return nil // the applied migration file no longer has this trigger, or turns it off
	}
	keys := make([]string, len(alerts))
	for i, a := range alerts {
		keys[i] = a.Key
	}
	recorded, err := e.Alerts.AlertEvaluations(ctx, e.Migration, trigger, keys)
	if err != nil {
		return err
	}
	now, err := e.State.Snapshot(ctx, e.Migration)
	if err != nil {
		return err
	}
	added, repeated := 0, false
	done := map[string]bool{}
	for _, a := range alerts {
		fired, known := recorded[a.Key]
		switch {
		case done[a.Key]:
			continue
		case !known && added == maxNewAlerts:
			f.LeftOut++
			continue
		case known && repeated: // all of them would roll back the same
			continue
		}
		done[a.Key] = true
		if known && (fired.Epoch != now.Status.Route.Epoch || fired.Verdict != phases.Firing || fired.DryRun) {
			continue
		}
		if !known {
			if fired, err = e.recordAlert(ctx, a, all[at], judge.Snapshot{State: now, Settings: rules.Settings}); err != nil {
				return err
			}
			added++
			f.Triggers = append(f.Triggers, trigger)
			e.logger().Warn("alert received", "trigger", trigger, "why", a.Detail, "verdict", fired.Verdict, "dry_run", fired.DryRun)
		}
		repeated = repeated || known
		if err := e.act(ctx, a, fired, now.Status.Route, known); err != nil {
			return err
		}
		if now, err = e.State.Snapshot(ctx, e.Migration); err != nil { // the route that it left
			return err
		}
	}
	return nil
}

// act rolls back for an alert.
func (e *Engine) act(ctx context.Context, a Alert, fired phases.Evaluation, route phases.Route, known bool) error {
	if fired.Verdict != phases.Firing || fired.DryRun {
		return nil
	}
	_, err := e.rollBack(ctx, e.logger(), fired)
	if errors.Is(err, errAlreadyRolledBack) {
		return nil
	}
	if errors.Is(err, errNothingToRollBack) {
		if known || e.Announce == nil {
			return nil
		}
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
