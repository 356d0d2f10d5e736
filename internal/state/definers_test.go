package state_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/test/statetest"
)

// TestDefinersFixTheirSearchPath: a function that runs with its owner's rights must not find its
// caller's objects in place of the ones that it means.
func TestDefinersFixTheirSearchPath(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), statetest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	var definers int
	var open []string
	err = conn.QueryRow(t.Context(), `SELECT count(*), coalesce(array_agg(oid::regprocedure::text) FILTER (
			WHERE NOT EXISTS (SELECT FROM unnest(proconfig) c WHERE c LIKE 'search\_path=pg\_catalog%, pg\_temp')), '{}')
		FROM pg_proc WHERE pronamespace = 'migrator'::regnamespace AND prosecdef`).Scan(&definers, &open)
	if err != nil || definers == 0 || len(open) > 0 {
		t.Errorf("of %d functions these do not fix their search_path, pg_temp last: %q, %v", definers, open, err)
	}
}
