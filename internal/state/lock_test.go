package state

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/internal/test/testenv"
)

// A process that freezes while it has a migration's row exclusively must not stop the fleet for good.
func TestAFrozenProcessLosesTheRow(t *testing.T) {
	t.Parallel()
	dbURL := testenv.PostgresURL(t)
	if _, _, err := Migrate(t.Context(), dbURL); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), dbURL)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, _, err := s.Apply(t.Context(), Applied{Migration: "m", Config: []byte("{}"), Schema: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	var other error
	err = statedb.Exclusive(t.Context(), s.pool, "m", 100*time.Millisecond, func(pgx.Tx) error {
		limited, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		other = statedb.Exclusive(limited, s.pool, "m", time.Minute, func(pgx.Tx) error { return nil })
		return nil
	})
	if err == nil {
		t.Error("the frozen transaction committed")
	}
	if other != nil {
		t.Errorf("the other never got the row: %v", other)
	}
}
