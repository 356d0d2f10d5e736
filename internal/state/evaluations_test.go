package state_test

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
)

func evaluation(kind phases.Kind, name string, v phases.Verdict) phases.Evaluation {
	return phases.Evaluation{
		Kind: kind, Name: name, Epoch: 1, ConfigHash: "h1", Verdict: v, Detail: "as seen", Samples: 1000, Value: 0.1, Bound: 0.2, Limit: 0.3,
		Inputs: json.RawMessage(`{"failures": 7, "of": [1, 2.50]}`),
	}
}

func recorded(t *testing.T, s *state.Store, all ...phases.Evaluation) []phases.Evaluation {
	t.Helper()
	kept, err := s.Record(t.Context(), testMigration, all)
	must(t, err)
	return kept
}

// TestAHintIsKeptWithItsEvaluation, and a sentence that an earlier release stored is
// read as a hint's text.
func TestAHintIsKeptWithItsEvaluation(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	for _, want := range []hint.Hint{
		{},
		{Do: hint.ReconcileRun},
		{Do: hint.RunbookVerify, Of: []string{"rollback"}, Text: `as "another" user`},
		{Text: "upgrade the server"},
	} {
		e := evaluation(phases.GateKind, "consistency", phases.Fail)
		e.Hint = want
		recorded(t, s, e)
		got, err := s.Evaluations(t.Context(), testMigration, state.EvaluationFilter{Limit: 1})
		must(t, err)
		if !reflect.DeepEqual(got[0].Hint, want) {
			t.Errorf("%+v, want %+v", got[0].Hint, want)
		}
	}
	for _, old := range []string{"", "migrator reconcile run", "migrator phase acknowledge --reason '...', once its cause is fixed"} {
		exec(t, s, `INSERT INTO migrator.evaluations (migration, kind, name, at, epoch, config_hash, verdict, detail, try, dry_run, samples, value, bound, threshold)
			SELECT migration, kind, name, clock_timestamp(), epoch, config_hash, verdict, detail, $1, dry_run, samples, value, bound, threshold
			FROM migrator.evaluations ORDER BY id DESC LIMIT 1`, old)
		got, err := s.Evaluations(t.Context(), testMigration, state.EvaluationFilter{Limit: 1})
		must(t, err)
		if !reflect.DeepEqual(got[0].Hint, hint.Hint{Text: old}) {
			t.Errorf("%q is read as %+v", old, got[0].Hint)
		}
	}
}

func TestEvaluationsAreKeptWithTheirInputs(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	before := time.Now().Add(-time.Second)
	first := recorded(t, s, evaluation(phases.GateKind, "consistency", phases.Inconclusive), evaluation(phases.TriggerKind, "errors", phases.Quiet))
	gate := evaluation(phases.GateKind, "consistency", phases.Pass)
	gate.Due, gate.Detail = time.Now().Add(time.Hour).Truncate(time.Microsecond), "all\x00 \xff well"
	second := recorded(t, s, gate, evaluation(phases.GateKind, "added_latency", phases.NoData))
	if first[0].ID >= first[1].ID || first[1].ID >= second[0].ID || first[0].At.Before(before) || second[0].At.Before(first[0].At) {
		t.Errorf("ids and times: %+v, %+v", first, second)
	}
	for _, c := range []struct {
		what   string
		filter state.EvaluationFilter
		ids    []int64
	}{
		{"all", state.EvaluationFilter{}, []int64{second[1].ID, second[0].ID, first[1].ID, first[0].ID}},
		{"one gate", state.EvaluationFilter{Kind: phases.GateKind, Name: "consistency"}, []int64{second[0].ID, first[0].ID}},
		{"the newest of it", state.EvaluationFilter{Name: "consistency", Limit: 1}, []int64{second[0].ID}},
		{"as of the first look", state.EvaluationFilter{Name: "consistency", At: first[0].At, Limit: 1}, []int64{first[0].ID}},
		{"since the second", state.EvaluationFilter{Since: second[0].At}, []int64{second[1].ID, second[0].ID}},
		{"the newest of each", state.EvaluationFilter{Newest: true}, []int64{second[1].ID, second[0].ID, first[1].ID}},
		{"the newest of each as of the first", state.EvaluationFilter{Newest: true, At: first[1].At}, []int64{first[0].ID, first[1].ID}},
		{"the newest triggers", state.EvaluationFilter{Newest: true, Kind: phases.TriggerKind}, []int64{first[1].ID}},
		{"none", state.EvaluationFilter{Name: "nosuch"}, nil},
	} {
		got, err := s.Evaluations(t.Context(), testMigration, c.filter)
		must(t, err)
		var ids []int64
		for _, e := range got {
			ids = append(ids, e.ID)
		}
		if len(ids) != len(c.ids) {
			t.Errorf("%s: %v, want %v", c.what, ids, c.ids)
			continue
		}
		for i := range ids {
			if ids[i] != c.ids[i] {
				t.Errorf("%s: %v, want %v", c.what, ids, c.ids)
			}
		}
	}
	got, err := s.Evaluations(t.Context(), testMigration, state.EvaluationFilter{Kind: phases.GateKind, Name: "consistency", Limit: 1})
	must(t, err)
	if e := got[0]; e.Detail != "all \uFFFD well" || !e.Due.Equal(gate.Due) || e.Bound != 0.2 || string(e.Inputs) != `{"of": [1, 2.50], "failures": 7}` {
		t.Errorf("%+v, inputs %s", e, e.Inputs)
	}
	if _, err := s.Evaluations(t.Context(), "nosuch", state.EvaluationFilter{}); !errors.Is(err, statedb.ErrUnknownMigration) {
		t.Errorf("of no migration: %v", err)
	}
	for _, forbidden := range []string{`UPDATE migrator.evaluations SET verdict = 'pass'`, `DELETE FROM migrator.evaluations`, `TRUNCATE migrator.evaluations`} {
		if _, err := s.Pool().Exec(t.Context(), forbidden); err == nil {
			t.Errorf("%s passed", forbidden)
		}
	}
}

// TestAVerdictHasItsTime: that of the first evaluation with it after the last one with another.
func TestAVerdictHasItsTime(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	newest := func() []phases.Evaluation {
		all, err := s.Evaluations(t.Context(), testMigration, state.EvaluationFilter{Kind: phases.TriggerKind, Newest: true})
		must(t, err)
		return all
	}
	want := func(what string, of []phases.Evaluation, times ...time.Time) {
		t.Helper()
		got, err := s.VerdictSince(t.Context(), testMigration, of)
		if err != nil || !slices.EqualFunc(got, times, time.Time.Equal) {
			t.Errorf("%s: %v, %v, want %v", what, got, err, times)
		}
	}
	want("of none", nil)
	one := func(name string, v phases.Verdict) phases.Evaluation {
		return recorded(t, s, evaluation(phases.TriggerKind, name, v))[0]
	}
	first, other := one("errors", phases.Quiet), one("burn", phases.NoData)
	one("errors", phases.Quiet)
	want("never another", newest(), other.At, first.At)
	firing := one("errors", phases.Firing)
	one("errors", phases.Firing)
	recorded(t, s, evaluation(phases.GateKind, "errors", phases.Pass)) // a gate of the same name is another measure
	seen := newest()
	want("turned", seen, other.At, firing.At)
	again := one("errors", phases.Quiet)
	want("what was seen, after it has turned", seen, other.At, firing.At)
	one("errors", phases.Quiet)
	want("turned back", newest(), other.At, again.At)
}

// TestAnEvaluationNeverStopsAMove: a stored evaluation goes into the history with the next
// move, rollbacks included, so the history must accept it.
func TestAnEvaluationNeverStopsAMove(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	for name, change := range map[string]func(*phases.Evaluation){
		"no number":    func(e *phases.Evaluation) { e.Value = math.NaN() },
		"infinity":     func(e *phases.Evaluation) { e.Bound = math.Inf(1) },
		"no JSON":      func(e *phases.Evaluation) { e.Inputs = json.RawMessage(`{`) },
		"large inputs": func(e *phases.Evaluation) { e.Inputs = json.RawMessage(`"` + strings.Repeat("x", 70000) + `"`) },
		"no verdict":   func(e *phases.Evaluation) { e.Verdict = "" },
	} {
		e := evaluation(phases.GateKind, "consistency", phases.Pass)
		change(&e)
		if _, err := s.Record(t.Context(), testMigration, []phases.Evaluation{evaluation(phases.GateKind, "other", phases.Pass), e}); err == nil {
			t.Errorf("%s was kept", name)
		}
	}
	hostile := evaluation(phases.GateKind, "consistency", phases.Pass)
	hostile.Inputs = json.RawMessage(`{"answer": "\u0000 \ud800 \\u0000", "n": 1e300}`)
	kept := recorded(t, s, hostile)
	walk(t, s, nil, shadowWrite)
	entries, err := s.History(t.Context(), testMigration, 1)
	must(t, err)
	var in phases.Snapshot
	must(t, json.Unmarshal(entries[0].Evidence, &in))
	if len(in.Evaluations) != 1 || in.Evaluations[0].ID != kept[0].ID {
		t.Errorf("in the history: %s", entries[0].Evidence)
	}
}

func TestPruneKeepsWhatTheHistoryNames(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	exec(t, s, `ALTER TABLE migrator.evaluations DISABLE TRIGGER append_only`)
	// aged stores an evaluation that was made so many hours ago.
	aged := func(hours float64, name string, v phases.Verdict) int64 {
		id := recorded(t, s, evaluation(phases.TriggerKind, name, v))[0].ID
		exec(t, s, `UPDATE migrator.evaluations SET at = date_trunc('hour', now()) - $2 * interval '1 hour' WHERE id = $1`, id, hours)
		return id
	}
	gate := recorded(t, s, evaluation(phases.GateKind, "consistency", phases.Fail))[0].ID
	fired := recorded(t, s, evaluation(phases.TriggerKind, "errors", phases.Firing))[0].ID
	walk(t, s, nil, shadowWrite, dualRead, cutover5)
	_, err := rollBack(t, s, "errors", fired)
	must(t, err)
	exec(t, s, `UPDATE migrator.evaluations SET at = at - interval '200 days'`)
	const week, hours = 7 * 24, 7
	for range 100 { // the last ones, which a trigger may have to count
		recorded(t, s, evaluation(phases.TriggerKind, "a", phases.Inconclusive))
	}
	keep := []int64{
		gate, fired, // named
		aged(hours, "a", phases.Quiet), aged(hours+.4, "a", phases.Quiet), // of other twenty minutes
		aged(hours-3.1, "a", phases.Quiet), aged(hours-3.11, "a", phases.Quiet), // young
		aged(week+10.1, "a", phases.Quiet),  // the newest of its hour
		aged(week+10.5, "a", phases.Firing), // another verdict than before
		aged(week+10.9, "b", phases.Quiet),  // another trigger
	}
	// Three of the same twenty minutes, among the last hundred of a trigger that is evaluated seldom.
	keep = append(keep, aged(hours+.2, "seldom", phases.Quiet), aged(hours+.21, "seldom", phases.Quiet), aged(hours+.22, "seldom", phases.Quiet))
	aged(week+10.2, "a", phases.Quiet)                             // after one like it
	keep = append(keep, aged(week+10.4, "a", phases.Quiet))        // after another
	keep = append(keep, aged(week+10.6, "a", phases.Inconclusive)) // and before it
	aged(91*24, "a", phases.Quiet)
	aged(hours+.41, "a", phases.Quiet) // of the twenty minutes of another one
	alert := evaluation(phases.TriggerKind, "a", phases.Quiet)
	alert.Inputs = json.RawMessage(`{"answer": {"source": {"key": "alert-1"}}}`)
	alerted := recorded(t, s, alert)[0].ID
	exec(t, s, `UPDATE migrator.evaluations SET at = date_trunc('hour', now()) - $2 * interval '1 hour' WHERE id = $1`, alerted, hours+.42)
	keep = append(keep, alerted)
	for range 2 {
		must(t, s.Prune(t.Context(), testMigration))
		left, err := s.Evaluations(t.Context(), testMigration, state.EvaluationFilter{Limit: 1000})
		must(t, err)
		left = slices.DeleteFunc(left, func(e phases.Evaluation) bool {
			return e.Name == "a" && e.Verdict == phases.Inconclusive && time.Since(e.At) < time.Hour
		})
		have := map[int64]bool{}
		for _, e := range left {
			have[e.ID] = true
		}
		for n, id := range keep {
			if !have[id] {
				t.Errorf("number %d, evaluation %d, is gone", n, id)
			}
		}
		if len(left) != len(keep) {
			t.Errorf("%d are left, want %d: %+v", len(left), len(keep), left)
		}
	}
}

// TestAWeekOfEvaluationsIsSmall: five triggers each ten seconds and eight gates each minute, with inputs of
// the size that they have, are below 20 MB after a week.
func TestAWeekOfEvaluationsIsSmall(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	exec(t, s, `INSERT INTO migrator.evaluations (migration, kind, name, at, epoch, config_hash, verdict, detail, try, dry_run, samples, value, bound, threshold, inputs)
		SELECT $1, c.kind, c.name || n, now() - i * c.every, 1, repeat('0', 64), CASE WHEN i % 5000 = 0 THEN 'inconclusive' ELSE c.verdict END, repeat('d', 90), '', false, 1000, 1, 1, 1,
			jsonb_build_object('of', repeat('i', 250))
		FROM (VALUES ('trigger', 't', interval '10 seconds', 'quiet', 5), ('gate', 'g', interval '1 minute', 'pass', 8)) c (kind, name, every, verdict, count),
			generate_series(1, c.count) n,
			generate_series(0, (86400 / extract(epoch FROM c.every))::int) i`, testMigration)
	must(t, s.Prune(t.Context(), testMigration))
	// Of a day measured: six hours of all, and the sample of the rest, which is alike on each day of the week.
	var young, old, size float64
	err := s.Pool().QueryRow(t.Context(), `SELECT count(*) FILTER (WHERE at > now() - interval '6 hours'), count(*) FILTER (WHERE at <= now() - interval '6 hours'),
		avg(pg_column_size(e.*)) + 200 FROM migrator.evaluations e`).Scan(&young, &old, &size) // 200: the keys of two indexes, and the row's head
	must(t, err)
	if mb := (young + old/18*162) * size / 1e6; young < 10_000 || mb > 20 {
		t.Errorf("a week is %.1f MB: %.0f rows of six hours, %.0f of the eighteen before, %.0f bytes each", mb, young, old, size)
	}
}
