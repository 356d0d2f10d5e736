package state_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/phases"
)

// rollBack is what a daemon does when a trigger fires.
func rollBack(t *testing.T, s *state.Store, trigger string, evaluation int64) (phases.Status, error) {
	t.Helper()
	return s.Transition(t.Context(), testMigration, func(e phases.Snapshot) (phases.Move, error) {
		return phases.Move{
			From: e.Status.Route, To: dualRead, Cause: phases.CauseTrigger, Reason: "2 % errors",
			Latch: &phases.Latch{Trigger: trigger, Evaluation: evaluation},
		}, nil
	})
}

func TestAnAutomaticRollbackLatches(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	walk(t, s, nil, shadowWrite, dualRead, cutover5)
	dry := evaluation(phases.TriggerKind, "latency", phases.Firing)
	dry.DryRun = true
	kept := recorded(t, s, evaluation(phases.TriggerKind, "errors", phases.Firing), evaluation(phases.TriggerKind, "errors", phases.Quiet), dry)
	for name, latch := range map[string]*phases.Latch{
		"without a latch":   nil,
		"without a trigger": {Evaluation: kept[0].ID},
		"not kept":          {Trigger: "errors", Evaluation: 4711},
		"of another":        {Trigger: "mismatches", Evaluation: kept[0].ID},
		"quiet":             {Trigger: "errors", Evaluation: kept[1].ID},
		"dry":               {Trigger: "latency", Evaluation: kept[2].ID},
	} {
		if _, err := s.Transition(t.Context(), testMigration, func(e phases.Snapshot) (phases.Move, error) {
			return phases.Move{From: e.Status.Route, To: dualRead, Cause: phases.CauseTrigger, Latch: latch}, nil
		}); err == nil {
			t.Errorf("%s: rolled back", name)
		}
	}
	if _, err := s.Transition(t.Context(), testMigration, func(e phases.Snapshot) (phases.Move, error) {
		return phases.Move{From: e.Status.Route, To: dualRead, Cause: phases.CauseRollback, Latch: &phases.Latch{Trigger: "errors", Evaluation: kept[0].ID}}, nil
	}); err == nil {
		t.Error("an operator's rollback latched")
	}
	st, err := rollBack(t, s, "errors", kept[0].ID)
	must(t, err)
	latch := func() *phases.Latch {
		t.Helper()
		e, err := s.Snapshot(t.Context(), testMigration)
		must(t, err)
		return e.Latch
	}
	l := latch()
	if l == nil || l.Trigger != "errors" || l.Evaluation != kept[0].ID || l.Epoch != st.Route.Epoch || !l.At.Equal(st.RouteSince) && l.At.Sub(st.RouteSince) > time.Second || l.Reason != "2 % errors" {
		t.Fatalf("%+v at %+v", l, st)
	}
	walk(t, s, nil, cutover5) // the state does not block the move: the gate does
	if latch() == nil {
		t.Error("an advance cleared the latch")
	}
	if err := s.Acknowledge(t.Context(), testMigration, " "); err == nil {
		t.Error("acknowledged without a reason")
	}
	must(t, s.Acknowledge(t.Context(), testMigration, "the target was restarted"))
	if l := latch(); l != nil {
		t.Errorf("after the acknowledgement: %+v", l)
	}
	entries, err := s.History(t.Context(), testMigration, 100)
	must(t, err)
	last := entries[len(entries)-1]
	if last.Cause != phases.CauseAcknowledge || last.Actor != "postgres" || !strings.Contains(string(last.Evidence), `"errors"`) {
		t.Errorf("%+v", last)
	}
	must(t, s.Acknowledge(t.Context(), testMigration, "again"))
	if again, err := s.History(t.Context(), testMigration, 100); err != nil || len(again) != len(entries) {
		t.Errorf("an acknowledgement of nothing is in the history: %v", err)
	}
	_, err = s.VerifyHistory(t.Context(), testMigration)
	must(t, err)
}
