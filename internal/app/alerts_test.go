package app

import (
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/phases"
)

// TestSilenceIsNotQuiet: a trigger on alerts is quiet only while the Watchdog is heard, and none fires.
func TestSilenceIsNotQuiet(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	alert := func(began, heard time.Duration) state.ReceivedAlert {
		return state.ReceivedAlert{Trigger: "paged", Detail: "alert Burns", StartsAt: ago(began), Heard: ago(heard)}
	}
	fresh, stale := time.Minute, phases.AlertsFresh+time.Second
	for _, c := range []struct {
		what     string
		watchdog time.Time
		alerts   []state.ReceivedAlert
		target   time.Time // since when reads come from it
		want     phases.Verdict
		says     string
	}{
		{"nothing yet", time.Time{}, nil, time.Time{}, phases.NoData, "nothing received yet"},
		{"an alert, and no Watchdog", time.Time{}, []state.ReceivedAlert{alert(time.Hour, fresh)}, time.Time{}, phases.Firing, "Burns"},
		{"the Watchdog alone", ago(fresh), nil, time.Time{}, phases.Quiet, "1m0s ago"},
		{"the Watchdog, fallen silent", ago(stale), nil, time.Time{}, phases.NoData, "last received 5m1s ago"},
		{"an alert", ago(fresh), []state.ReceivedAlert{alert(time.Minute, fresh)}, ago(time.Hour), phases.Firing, "Burns"},
		{"an alert, and then silence", ago(stale), []state.ReceivedAlert{alert(time.Hour, stale)}, time.Time{}, phases.NoData, "last received"},
		{"an alert that is not repeated", ago(fresh), []state.ReceivedAlert{alert(time.Hour, stale)}, time.Time{}, phases.NoData, "neither repeated nor resolved"},
		{"an alert of before", ago(fresh), []state.ReceivedAlert{alert(2*time.Hour, fresh)}, ago(time.Hour), phases.Quiet, "since before"},
		{"one of before, one of now", ago(fresh), []state.ReceivedAlert{alert(time.Minute, fresh), alert(2*time.Hour, fresh)}, ago(time.Hour), phases.Firing, "Burns"},
		{"one that is lost, one of now", ago(fresh), []state.ReceivedAlert{alert(time.Minute, stale), alert(time.Minute, fresh)}, ago(time.Hour), phases.Firing, "Burns"},
	} {
		got := judgeAlerts(state.Received{Alerts: c.alerts, Watchdog: c.watchdog, Now: now}, c.target)
		if got.Verdict != c.want || !strings.Contains(got.Detail, c.says) {
			t.Errorf("%s: %s (%s), want %s (… %s …)", c.what, got.Verdict, got.Detail, c.want, c.says)
		}
	}
}
