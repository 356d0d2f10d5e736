package state_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/internal/test/testenv"
)

// TestAPoolerThatSharesSessionsIsRefused where the state is opened, checked and made. One that keeps
// a session for each client is not.
func TestAPoolerThatSharesSessionsIsRefused(t *testing.T) {
	t.Parallel()
	_, dbURL := open(t)
	pool := func(mode string) string {
		t.Helper()
		return testenv.Pgbouncer(t, testenv.PgbouncerOptions{URL: dbURL, Mode: mode}).URL()
	}
	refused := func(what string, err error) {
		t.Helper()
		f, _ := hint.FailureOf(err)
		h, _ := hint.Of(err)
		if f.Code != "pooler" || !errors.Is(err, statedb.ErrWrongURL) || h.Do != hint.SetStateURL {
			t.Errorf("%s: %v, %+v", what, err, h)
		}
	}
	for _, mode := range []string{"transaction", "statement"} {
		shared := pool(mode)
		for range 3 { // each has other sessions to choose from
			_, err := state.Open(t.Context(), shared)
			refused(mode+": open", err)
		}
		_, _, err := state.Migrate(t.Context(), shared)
		refused(mode+": init", err)
		if checks := state.Check(t.Context(), shared); len(checks) != 1 || checks[0].Hint.Do != hint.SetStateURL {
			t.Errorf("%s: %+v", mode, checks)
		}
	}
	s, err := state.Open(t.Context(), pool("session"))
	must(t, err)
	defer s.Close()
	if _, err := s.Status(t.Context(), testMigration); err != nil {
		t.Error(err)
	}
}

// TestLed: a daemon that leads is seen in another session, and its end too.
func TestLed(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	led := func() bool {
		t.Helper()
		yes, err := s.Led(t.Context(), state.LeaderName(testMigration))
		must(t, err)
		other, err := s.Led(t.Context(), state.LeaderName("another"))
		must(t, err)
		if other {
			t.Error("another migration is led")
		}
		return yes
	}
	seen := []bool{led()}
	must(t, s.Lead(t.Context(), state.LeaderName(testMigration), func(context.Context) error {
		seen = append(seen, led())
		return nil
	}))
	if seen = append(seen, led()); !slices.Equal(seen, []bool{false, true, false}) {
		t.Errorf("%v", seen)
	}
}

// TestSessionsOfTheStateCompileNothing: with a server's default, to compile the statement that reads a status takes longer
// than a lease.
func TestSessionsOfTheStateCompileNothing(t *testing.T) {
	t.Parallel()
	s, dbURL := open(t)
	var theirs string
	conn, err := pgx.Connect(t.Context(), dbURL)
	must(t, err)
	must(t, conn.QueryRow(t.Context(), `SHOW jit`).Scan(&theirs))
	must(t, conn.Close(t.Context()))
	if theirs != "on" {
		t.Fatalf("jit is %s in a session without settings: this test's server must have PostgreSQL's default", theirs)
	}
	calls, err := s.ForTokens(t.Context())
	must(t, err)
	t.Cleanup(calls.Close)
	// Listeners and leaders connect with a copy of the pool's configuration.
	for what, cfg := range map[string]*pgx.ConnConfig{"the pool": s.Pool().Config().ConnConfig, "a copy": s.Pool().Config().ConnConfig.Copy(), "the pool for tokens": calls.Pool().Config().ConnConfig} {
		conn, err := pgx.ConnectConfig(t.Context(), cfg)
		must(t, err)
		var jit string
		must(t, conn.QueryRow(t.Context(), `SHOW jit`).Scan(&jit))
		must(t, conn.Close(t.Context()))
		if jit != "off" {
			t.Errorf("%s: jit is %s", what, jit)
		}
	}
}
