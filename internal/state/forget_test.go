package state_test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/phases"
)

// TestForgetLeavesTheHistoryAlone: of every table that refers to a migration, the rows go, but for
// those that no role may delete. A later table that is left out of the list fails here.
func TestForgetLeavesTheHistoryAlone(t *testing.T) {
	t.Parallel()
	s, url := open(t)
	conn, err := pgx.Connect(t.Context(), url)
	must(t, err)
	defer func() { _ = conn.Close(t.Context()) }()
	kept := map[string]bool{"history": true, "approvals": true, "runbook_runs": true, "evaluations": true, "forgotten": true, "grants": true, "configurations": true}
	tables := func() (names []string) {
		rows, err := conn.Query(t.Context(), `SELECT c.table_name FROM information_schema.columns c JOIN information_schema.tables USING (table_schema, table_name)
			WHERE c.table_schema = 'migrator' AND c.column_name = 'migration' ORDER BY 1`)
		must(t, err)
		names, err = pgx.CollectRows(rows, pgx.RowTo[string])
		must(t, err)
		return names
	}()
	before, err := s.Traces(t.Context(), testMigration)
	must(t, err)
	if len(before) == 0 {
		t.Fatal("nothing is listed")
	}
	_, release, err := s.BeginForget(t.Context(), testMigration)
	must(t, err)
	if _, err := pgfleet.New(s.Pool(), testMigration, pgfleet.Options{}).Join(t.Context(), dual.Identity{Instance: "late"}); err == nil {
		t.Error("an instance has joined a migration that is being forgotten")
	}
	if _, _, err := s.BeginForget(t.Context(), testMigration); !errors.As(err, new(*state.InUseError)) {
		t.Errorf("two at once: %v", err)
	}
	must(t, s.NoteForgetEra(t.Context(), testMigration, 7))
	must(t, s.Forget(t.Context(), testMigration, "over", nil))
	release()
	for _, table := range tables {
		var n int64
		must(t, conn.QueryRow(t.Context(), `SELECT count(*) FROM migrator.`+pgx.Identifier{table}.Sanitize()+` WHERE migration = $1`, testMigration).Scan(&n))
		if n > 0 && !kept[table] {
			t.Errorf("migrator.%s has %d rows of it", table, n)
		}
		var listed int64
		must(t, conn.QueryRow(t.Context(), `SELECT count(*) FROM unnest($1::text[]) x WHERE x = $2`, state.ForgottenTables(), table).Scan(&listed))
		if listed == 0 && !kept[table] {
			t.Errorf("migrator.%s is not in the list of what is forgotten", table)
		}
	}
	if n, err := s.VerifyHistory(t.Context(), testMigration); n != 2 || err != nil {
		t.Errorf("%d entries, %v", n, err)
	}
	if at, err := s.Forgotten(t.Context(), testMigration); at.IsZero() || err != nil {
		t.Errorf("%v, %v", at, err)
	}
	if era, err := s.ForgottenEra(t.Context()); era != 7 || err != nil {
		t.Errorf("era %d, %v", era, err)
	}
	st, created, err := s.Apply(t.Context(), applied())
	if err != nil || !created.Created || st.Route != (phases.Route{Phase: phases.Legacy, Epoch: 2}) {
		t.Errorf("%+v, %v, %v", st.Route, created, err)
	}
	if n, err := s.VerifyHistory(t.Context(), testMigration); n != 3 || err != nil {
		t.Errorf("%d entries, %v", n, err)
	}
	// The end of a forgotten history can't be cut off unseen.
	_, release2, err := s.BeginForget(t.Context(), testMigration)
	must(t, err)
	defer release2()
	must(t, s.Forget(t.Context(), testMigration, "over", nil))
	_, err = conn.Exec(t.Context(), `ALTER TABLE migrator.history DISABLE TRIGGER ALL; DELETE FROM migrator.history WHERE seq = 4`)
	must(t, err)
	if _, err := s.VerifyHistory(t.Context(), testMigration); !errors.As(err, new(*state.BrokenHistoryError)) {
		t.Errorf("without its last entry: %v", err)
	}
}

// TestForgettable by phase, and beside instances.
func TestForgettable(t *testing.T) {
	t.Parallel()
	for _, p := range append(append([]phases.Phase{}, phases.Order...), phases.Fenced, phases.Lifting, phases.Returning) {
		e := phases.Snapshot{Status: phases.Status{Migration: "m", Route: phases.Route{Phase: p}}}
		if may := state.Forgettable(e) == nil; may != (p == phases.Legacy || p == phases.ShadowWrite || p == phases.Complete) {
			t.Errorf("%s: %v", p, may)
		}
		for name, change := range map[string]func(*phases.Snapshot){
			"an instance":       func(e *phases.Snapshot) { e.Fleet.Live = 1 },
			"a lapsed lease":    func(e *phases.Snapshot) { e.Fleet.Lapsed = []string{"web-1"} },
			"a state loss":      func(e *phases.Snapshot) { e.Status.StateLoss = &phases.StateLoss{} },
			"a fence under way": func(e *phases.Snapshot) { e.Status.Attempt = "a" },
		} {
			with := e
			if change(&with); state.Forgettable(with) == nil && !(p == phases.Complete && name == "a fence under way") {
				t.Errorf("%s with %s", p, name)
			}
		}
	}
}
