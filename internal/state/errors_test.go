package state_test

import (
	"errors"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/backfills"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// through puts a proxy before the database.
func through(t *testing.T, dbURL string) (string, *toxiproxy.Proxy) {
	t.Helper()
	u, err := url.Parse(dbURL)
	must(t, err)
	p := toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()), "state", "127.0.0.1:0", u.Host)
	must(t, p.Start())
	t.Cleanup(p.Stop)
	u.Host = p.Listen
	return u.String(), p
}

func toxic(t *testing.T, p *toxiproxy.Proxy, kind, attributes string) {
	t.Helper()
	_, err := p.Toxics.AddToxicJson(strings.NewReader(`{"name": "bad", "type": "` + kind + `", "stream": "downstream", "attributes": ` + attributes + `}`))
	must(t, err)
}

func wants(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Error("no error")
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v: lacks %q", err, part)
		}
	}
	if _, ok := hint.Of(err); !ok {
		t.Errorf("%v: has no hint", err)
	}
}

func TestOpenExplainsWhatIsWrongWithTheServer(t *testing.T) {
	t.Parallel()
	_, dbURL := open(t)
	at := func(change func(u *url.URL)) string {
		u, err := url.Parse(dbURL)
		must(t, err)
		change(u)
		return u.String()
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	closed := free.Addr().String()
	must(t, free.Close())
	for name, c := range map[string]struct {
		url   string
		wrong bool // the URL's fault
		parts []string
	}{
		"refused":     {at(func(u *url.URL) { u.Host = closed }), false, []string{"refuses connections", closed}},
		"no host":     {at(func(u *url.URL) { u.Host = "no-such-host.invalid:5432" }), false, []string{"can't be found"}},
		"no database": {at(func(u *url.URL) { u.Path = "/nosuch" }), true, []string{"no such database", "nosuch"}},
		"no role":     {at(func(u *url.URL) { u.User = url.UserPassword("nobody_at_all", "x") }), true, []string{"refuses the role"}},
	} {
		_, err := state.Open(t.Context(), c.url)
		wants(t, err, c.parts...)
		if errors.Is(err, statedb.ErrWrongURL) != c.wrong {
			t.Errorf("%s: %v", name, err)
		}
		if checks := state.Check(t.Context(), c.url); len(checks) != 1 || checks[0].Result != store.Refused || checks[0].Hint.IsZero() || !strings.Contains(checks[0].Detail, c.parts[0]) {
			t.Errorf("%s: %+v", name, checks)
		}
	}
}

func TestConnectingToABlackHoleEnds(t *testing.T) {
	t.Parallel()
	_, dbURL := open(t)
	proxied, p := through(t, dbURL)
	toxic(t, p, "timeout", `{"timeout": 0}`)
	u, err := url.Parse(proxied)
	must(t, err)
	u.RawQuery += "&connect_timeout=1"
	began := time.Now()
	_, err = state.Open(t.Context(), u.String())
	wants(t, err, "has not answered within 1", p.Listen)
	if took := time.Since(began); took > time.Minute {
		t.Errorf("it took %s", took)
	}
}

func TestAnAnswerThatNeverComesEndsTheStatement(t *testing.T) {
	t.Parallel()
	_, dbURL := open(t)
	proxied, p := through(t, dbURL)
	s, err := state.Open(t.Context(), proxied)
	must(t, err)
	defer s.Close()
	toxic(t, p, "timeout", `{"timeout": 0}`)
	began := time.Now()
	_, err = s.Status(t.Context(), testMigration)
	wants(t, err, "does not answer in time", "15s")
	if !errors.Is(err, statedb.ErrSlow) || time.Since(began) > 2*time.Minute {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
}

func TestASlowDatabaseIsReported(t *testing.T) {
	t.Parallel()
	_, dbURL := open(t)
	proxied, p := through(t, dbURL)
	toxic(t, p, "latency", `{"latency": 300}`)
	s, err := state.Open(t.Context(), proxied)
	must(t, err)
	defer s.Close()
	if !strings.Contains(s.HealthWarning(), "slow") {
		t.Errorf("%q", s.HealthWarning())
	}
	speed := ""
	for _, c := range state.Check(t.Context(), proxied) {
		if c.Name == "speed" {
			speed = c.Detail
		}
	}
	if !strings.Contains(speed, "connecting took") {
		t.Errorf("doctor reports %q", speed)
	}
}

// TestAStandbyThatIsNotYetPromotedIsNamed: it serves reads, nothing is changed, and
// an open store continues once it is promoted.
func TestAStandbyThatIsNotYetPromotedIsNamed(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t)
	s := openAt(t, server.URL())
	exec(t, s, `DO $$ BEGIN EXECUTE format('COPY (SELECT) TO %L', current_setting('data_directory') || '/standby.signal'); END $$`)
	must(t, server.Restart(t.Context()))
	s, err := state.Open(t.Context(), server.URL())
	must(t, err)
	defer s.Close()
	if !strings.Contains(s.HealthWarning(), "read-only standby") {
		t.Errorf("%q", s.HealthWarning())
	}
	if st, err := s.Status(t.Context(), testMigration); err != nil || st.Route.Epoch != 1 {
		t.Errorf("%+v, %v", st, err)
	}
	_, err = move(t.Context(), s, shadowWrite)
	wants(t, err, "read-only", "nothing was changed")
	exec(t, s, `SELECT pg_promote()`)
	if _, err := move(t.Context(), s, shadowWrite); err != nil {
		t.Errorf("after the promotion: %v", err)
	}
}

// TestAStateThatIsSetReadOnlyIsNotWritten, not even by transactions that choose their own mode.
func TestAStateThatIsSetReadOnlyIsNotWritten(t *testing.T) {
	t.Parallel()
	s, dbURL := open(t)
	a := join(t, s, "a", pgfleet.Options{})
	walk(t, s, []*instance{a}, shadowWrite)
	exec(t, s, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$`)
	s, err := state.Open(t.Context(), dbURL)
	must(t, err)
	defer s.Close()
	if !strings.Contains(s.HealthWarning(), "default_transaction_read_only") {
		t.Errorf("%q", s.HealthWarning())
	}
	_, err = move(t.Context(), s, dualRead)
	wants(t, err, "read-only", "default_transaction_read_only")
	f := pgfleet.New(s.Pool(), testMigration, pgfleet.Options{})
	_, err = f.Journal(t.Context(), []dual.JournalEntry{{Key: "k"}})
	wants(t, err, "read-only")
	_, _, err = backfills.New(s.Pool(), testMigration).Begin(t.Context())
	wants(t, err, "read-only")
	if st, err := s.Status(t.Context(), testMigration); err != nil || st.Route.Phase != phases.ShadowWrite || st.JournalKeys != 0 {
		t.Errorf("%+v, %v", st, err)
	}
}

// TestAConnectionClosedDuringACommandIsExplained: the command's outcome is unknown.
func TestAConnectionClosedDuringACommandIsExplained(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	_, err := s.Transition(t.Context(), testMigration, func(e phases.Snapshot) (phases.Move, error) {
		exec(t, s, `SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
		return phases.Move{From: e.Status.Route, To: shadowWrite, Cause: phases.CauseAdvance}, nil
	})
	wants(t, err, "outcome of the last statement is unknown")
}

// TestTheDefaultIsolationIsOurs: under another one single statements would fail beside others, or see what was before a
// lock that they waited for.
func TestTheDefaultIsolationIsOurs(t *testing.T) {
	t.Parallel()
	s, url := open(t)
	_, err := s.Pool().Exec(t.Context(), `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = serializable', current_database()); END $$`)
	must(t, err)
	again, err := state.Open(t.Context(), url)
	must(t, err)
	t.Cleanup(again.Close)
	var level string
	must(t, again.Pool().QueryRow(t.Context(), `SHOW transaction_isolation`).Scan(&level))
	if level != "read committed" {
		t.Errorf("a statement of the state's is %s", level)
	}
}
