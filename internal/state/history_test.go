package state_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/phases"
)

func TestHistoryStoresTheSnapshot(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	_, err := s.Transition(t.Context(), testMigration, func(e phases.Snapshot) (phases.Move, error) {
		return phases.Move{
			From: e.Status.Route, To: shadowWrite, Cause: phases.CauseAdvance, Reason: "go\x00 \xff",
			Gates: []phases.GateResult{{Gate: "soak-time", Verdict: phases.Fail, Overridden: "tired"}},
		}, nil
	})
	must(t, err)
	entries, err := s.History(t.Context(), testMigration, 1)
	must(t, err)
	var recorded struct {
		phases.Snapshot
		Gates []phases.GateResult `json:"gates"`
	}
	must(t, json.Unmarshal(entries[0].Evidence, &recorded))
	if len(recorded.Gates) != 1 || recorded.Gates[0].Overridden != "tired" || recorded.Status.Route.Phase != phases.Legacy || recorded.Now.IsZero() {
		t.Errorf("%s", entries[0].Evidence)
	}
	if entries[0].Reason != "go \uFFFD" {
		t.Errorf("reason %q", entries[0].Reason)
	}
}

func TestHistoryCanNotBeForgedOrChangedUnseen(t *testing.T) {
	t.Parallel()
	for name, tamper := range map[string]string{
		"a reason is changed":    `UPDATE migrator.history SET reason = 'because' WHERE seq = 2`,
		"the actor is changed":   `UPDATE migrator.history SET actor = 'bob' WHERE seq = 1`,
		"the time is changed":    `UPDATE migrator.history SET at = at + interval '1 microsecond' WHERE seq = 3`,
		"evidence is changed":    `UPDATE migrator.history SET evidence = '{}' WHERE seq = 2`,
		"an entry is removed":    `DELETE FROM migrator.history WHERE seq = 2`,
		"the first is removed":   `DELETE FROM migrator.history WHERE seq = 1`,
		"the last is removed":    `DELETE FROM migrator.history WHERE seq = 3`,
		"all are removed":        `DELETE FROM migrator.history`,
		"the route moved behind": `UPDATE migrator.migrations SET phase = 'legacy', percent = 0, epoch = epoch + 1`,
		"one is rehashed": `UPDATE migrator.history SET reason = 'x', hash = sha256(prev_hash || migrator.netstring(migration) ||
			migrator.netstring(seq::text) || migrator.netstring(to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')) ||
			migrator.netstring(actor) || migrator.netstring(cause) || migrator.netstring(from_phase) || migrator.netstring(from_percent::text) ||
			migrator.netstring(from_epoch::text) || migrator.netstring(to_phase) || migrator.netstring(to_percent::text) ||
			migrator.netstring(to_epoch::text) || migrator.netstring('x') || migrator.netstring(config_hash) || migrator.netstring(evidence::text)) WHERE seq = 2`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _ := open(t)
			walk(t, s, nil, shadowWrite, dualRead)
			if n, err := s.VerifyHistory(t.Context(), testMigration); err != nil || n != 3 {
				t.Fatalf("untouched: %d, %v", n, err)
			}
			if strings.Contains(tamper, "migrator.history ") {
				if _, err := s.Pool().Exec(t.Context(), tamper); err == nil || !strings.Contains(err.Error(), "append-only") {
					t.Errorf("with the trigger: %v", err)
				}
			}
			exec(t, s, `ALTER TABLE migrator.history DISABLE TRIGGER append_only; `+tamper+`; ALTER TABLE migrator.history ENABLE ALWAYS TRIGGER append_only`)
			var broken *state.BrokenHistoryError
			if n, err := s.VerifyHistory(t.Context(), testMigration); !errors.As(err, &broken) || broken.Seq != n+1 {
				t.Errorf("%d, %v", n, err)
			}
		})
	}
	s, _ := open(t)
	exec(t, s, `INSERT INTO migrator.history (migration, seq, at, actor, cause, from_phase, from_percent, from_epoch, to_phase, to_percent, to_epoch,
		reason, config_hash, evidence, prev_hash, hash) VALUES ('products', 77, '2000-01-01', 'king', 'pause', 'legacy', 0, 1, 'legacy', 0, 1, 'é', 'h1', '{"b": 1.0, "a": "ü"}', 'x', 'y')`)
	entries, err := s.History(t.Context(), testMigration, 1)
	must(t, err)
	if e := entries[0]; e.Seq != 2 || e.Actor != "postgres" || e.At.Year() == 2000 {
		t.Errorf("a client chose what the database gives: %+v", e)
	}
	if _, err := s.VerifyHistory(t.Context(), testMigration); err != nil {
		t.Error(err)
	}
	if _, err := s.Pool().Exec(t.Context(), `TRUNCATE migrator.history`); err == nil {
		t.Error("truncated")
	}
}
