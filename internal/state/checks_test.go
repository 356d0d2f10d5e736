package state_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

func check(name string, result store.CheckResult) store.Check {
	return store.Check{Name: name, Result: result, Detail: "of " + name, Hint: hint.Hint{Text: "see " + name}}
}

// TestChecksAreComparedWithThoseOfTheApply: a warning of the first look was there when the migration file was applied,
// one that comes later is worse. An outage forgets nothing.
func TestChecksAreComparedWithThoseOfTheApply(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	a := applied()
	_, _, err := s.Apply(t.Context(), a)
	must(t, err)
	since := map[string]time.Time{}
	looks := func(want string, before map[string]store.CheckResult, checks ...store.Check) {
		t.Helper()
		former := since
		since = map[string]time.Time{}
		was, err := s.NoteChecks(t.Context(), a.Migration, checks)
		must(t, err)
		if !maps.Equal(was, before) {
			t.Errorf("before: %v, want %v", was, before)
		}
		seen, now, err := s.Checks(t.Context(), a.Migration)
		must(t, err)
		var is []string
		for _, c := range seen {
			text := c.Name + " " + string(c.Result)
			if c.Worse() {
				text += " worse"
			}
			if is = append(is, text); now.Before(c.Looked) || c.Looked.Before(c.Since) || c.Detail == "" {
				t.Errorf("%+v at %s", c, now)
			}
			since[c.Name] = c.Since
			if same := before[c.Name] == c.Result; c.Since.Equal(former[c.Name]) != same {
				t.Errorf("%s is %s since %s, and was %q since %s", c.Name, c.Result, c.Since, before[c.Name], former[c.Name])
			}
		}
		if got := strings.Join(is, ", "); got != want {
			t.Errorf("it is %s, want %s", got, want)
		}
	}
	if seen, _, err := s.Checks(t.Context(), a.Migration); err != nil || len(seen) != 0 {
		t.Errorf("before any look: %v %v", seen, err)
	}
	looks("a ok, b warning", map[string]store.CheckResult{}, check("a", store.Good), check("b", store.Warned))
	looks("a warning worse, b warning, c refused worse", map[string]store.CheckResult{"a": "ok", "b": "warning"},
		check("a", store.Warned), check("b", store.Warned), check("c", store.Refused))
	// What is not seen during an outage is neither gone nor good, and comes back as it was accepted.
	looks("a not checked worse, b not checked, c not checked worse, target: connection refused worse", map[string]store.CheckResult{"a": "warning", "b": "warning", "c": "refused"},
		check("target: connection", store.Refused))
	looks("a ok, b warning, target: connection ok", map[string]store.CheckResult{"a": "not checked", "b": "not checked", "c": "not checked", "target: connection": "refused"},
		check("a", store.Good), check("b", store.Warned), check("target: connection", store.Good))
	looks("a ok, b refused worse", map[string]store.CheckResult{"a": "ok", "b": "warning", "target: connection": "ok"}, check("a", store.Good), check("b", store.Refused))
	a.ConfigHash = "another"
	_, _, err = s.Apply(t.Context(), a)
	must(t, err)
	looks("a ok, b refused", map[string]store.CheckResult{"a": "ok", "b": "refused"}, check("a", store.Good), check("b", store.Refused))
	if seen, _, _ := s.Checks(t.Context(), a.Migration); seen[1].Hint.Text != "see b" {
		t.Errorf("%+v", seen)
	}
	for _, wrong := range [][]store.Check{nil, {check("a", "fine")}, {check(strings.Repeat("x", 101), store.Good)}, make([]store.Check, 201)} {
		if _, err := s.NoteChecks(t.Context(), a.Migration, wrong); err == nil {
			t.Errorf("%d checks are noted", len(wrong))
		}
	}
}

// TestReceivedAlerts: an alert is there from its first webhook until it is resolved, however often it is sent.
func TestReceivedAlerts(t *testing.T) {
	t.Parallel()
	s, dbURL := open(t)
	a := applied()
	_, _, err := s.Apply(t.Context(), a)
	must(t, err)
	began := time.Now().Add(-time.Hour).UTC().Truncate(time.Microsecond)
	alert := func(trigger, fingerprint string, at time.Time) state.ReceivedAlert {
		return state.ReceivedAlert{Trigger: trigger, Fingerprint: fingerprint, StartsAt: at, Detail: "it burns\x00"}
	}
	all := func(of ...state.ReceivedAlert) []state.ReceivedAlert { return of }
	note := func(firing, resolved []state.ReceivedAlert, watchdog bool) {
		t.Helper()
		must(t, s.NoteAlerts(t.Context(), a.Migration, firing, resolved, watchdog))
	}
	has := func(trigger string, n int, watchdog bool) state.Received {
		t.Helper()
		r, err := s.ReceivedAlerts(t.Context(), a.Migration, trigger)
		must(t, err)
		if len(r.Alerts) != n || r.Watchdog.IsZero() == watchdog || r.Now.IsZero() {
			t.Errorf("%s: %+v, want %d alerts, the Watchdog %t", trigger, r, n, watchdog)
		}
		return r
	}
	has("x", 0, false)
	note(all(alert("x", "1", began), alert("x", "1", began), alert("y", "1", began)), nil, false)
	note(all(alert("x", "1", began)), nil, false)
	if r := has("x", 1, false); !r.Alerts[0].StartsAt.Equal(began) || strings.Contains(r.Alerts[0].Detail, "\x00") {
		t.Errorf("%+v", r)
	}
	note(nil, nil, true)
	has("x", 1, true)
	note(all(alert("x", "1", began.Add(time.Minute))), all(alert("x", "1", began)), false) // it fired again
	has("x", 1, true)
	note(nil, all(alert("x", "1", began)), false) // late
	has("x", 1, true)
	note(nil, all(alert("x", "1", began.Add(time.Minute)), alert("", "", began)), false)
	has("x", 0, true)
	has("y", 1, true)
	var many []state.ReceivedAlert
	for i := range 250 {
		many = append(many, alert("x", fmt.Sprint(i), began))
	}
	note(many, nil, false)
	note(many, nil, false)
	first := has("x", 100, true)
	note(many, nil, false)
	for i, one := range has("x", 100, true).Alerts {
		if !one.Heard.After(first.Alerts[i].Heard) {
			t.Fatalf("%+v was not repeated", one)
		}
	}
	note(all(alert("z", "1", time.Now().Add(48*time.Hour)), alert("", "2", began)), nil, false)
	has("z", 0, true)
	// Whose resolution was lost is forgotten.
	conn, err := pgx.Connect(t.Context(), dbURL)
	must(t, err)
	defer func() { _ = conn.Close(t.Context()) }()
	_, err = conn.Exec(t.Context(), "UPDATE migrator.alerts SET heard_at = heard_at - interval '2 hours'")
	must(t, err)
	note(nil, nil, false)
	has("x", 0, true)
	if r := has("y", 0, true); r.Now.Sub(r.Watchdog) < phases.AlertsFresh {
		t.Errorf("%+v", r)
	}
}
