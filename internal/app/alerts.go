package app

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/internal/judge"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/phases"
)

// receivedAlerts is the source of a trigger on an Alertmanager's alerts: what it has sent.
type receivedAlerts struct {
	store              *state.Store
	migration, trigger string
}

// Read implements judge.Source. What is not heard is not known: an Alertmanager that falls silent, or that has
// never been heard, is no quiet one. Its Watchdog, an alert that fires always, tells them apart.
func (r receivedAlerts) Read(ctx context.Context) judge.Reading {
	received, err := r.store.ReceivedAlerts(ctx, r.migration, r.trigger)
	if err != nil {
		return judge.Reading{Verdict: phases.Error, Detail: err.Error()}
	}
	var changed time.Time // to the target
	if len(received.Alerts) > 0 {
		st, err := r.store.Status(ctx, r.migration)
		if err == nil && st.Route.ReadsTarget() {
			changed, err = r.store.SidesChanged(ctx, r.migration)
		}
		if err != nil {
			return judge.Reading{Verdict: phases.Error, Detail: err.Error()}
		}
	}
	return judgeAlerts(received, changed)
}

// judgeAlerts judges what was received. changed is since when reads come from the target; zero: they don't. What
// began before is not about them.
func judgeAlerts(r state.Received, changed time.Time) judge.Reading {
	silent := func(at time.Time) bool { return r.Now.Sub(at) > phases.AlertsFresh }
	answer := judge.Reading{Verdict: phases.Quiet}
	var missing, earlier *state.ReceivedAlert
	for i := range r.Alerts {
		switch a := &r.Alerts[i]; {
		case silent(a.Heard):
			missing = a
		case a.StartsAt.Before(changed):
			earlier = a
		default:
			answer.Verdict, answer.Detail = phases.Firing, a.Detail
		}
	}
	ago := func(at time.Time) string { return r.Now.Sub(at).Round(time.Second).String() }
	switch {
	case answer.Verdict == phases.Firing:
	case r.Watchdog.IsZero():
		answer.Verdict, answer.Detail = phases.NoData, "nothing received yet: no Alertmanager has sent its Watchdog"
	case silent(r.Watchdog):
		answer.Verdict, answer.Detail = phases.NoData, fmt.Sprintf("Alertmanager's Watchdog was last received %s ago", ago(r.Watchdog))
	case missing != nil:
		answer.Verdict, answer.Detail = phases.NoData, fmt.Sprintf("%s: neither repeated nor resolved for %s", missing.Detail, ago(missing.Heard))
	case earlier != nil:
		answer.Detail = "since before reads came from the target: " + earlier.Detail
	default:
		answer.Detail = fmt.Sprintf("no alert; Alertmanager's Watchdog was received %s ago", ago(r.Watchdog))
	}
	answer.Inputs, _ = json.Marshal(struct {
		Alerts   []state.ReceivedAlert `json:"alerts,omitempty"`
		Watchdog time.Time             `json:"watchdog,omitzero"`
	}{r.Alerts[:min(len(r.Alerts), 10)], r.Watchdog})
	return answer
}
