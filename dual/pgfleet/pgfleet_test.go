package pgfleet_test

import (
	"testing"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/test/statetest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// TestAnOlderSchemaSaysNothingOfCapture: it has no such function, and a comparison is then of the target as it is. Any
// other failure is one.
func TestAnOlderSchemaSaysNothingOfCapture(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), statetest.URL(t)
	owner, err := state.Open(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(owner.Close)
	f, err := pgfleet.Open(ctx, url, "items", pgfleet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	if _, err := f.Captured(ctx); err != nil {
		t.Errorf("the schema of now: %v", err)
	}
	exec := func(sql string) {
		t.Helper()
		if _, err := owner.Pool().Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(`ALTER FUNCTION migrator.captured(text) RENAME TO captured_later`)
	if c, err := f.Captured(ctx); err != nil || c != (dual.Captured{}) {
		t.Errorf("an older schema: %+v, %v", c, err)
	}
	exec(`CREATE FUNCTION migrator.captured(text, OUT alone boolean, OUT at timestamptz, OUT caught_up timestamptz) LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$`)
	if c, err := f.Captured(ctx); err == nil {
		t.Errorf("a function that fails: %+v", c)
	}
}
