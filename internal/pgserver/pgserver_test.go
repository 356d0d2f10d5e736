package pgserver_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/pgserver"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/store"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func exec(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

// looks checks the server, and wants the result of the named check, with these words; of the others ok.
func looks(t *testing.T, conn *pgx.Conn, name string, want store.CheckResult, says string) {
	t.Helper()
	checks, err := pgserver.Check(t.Context(), conn)
	if err != nil || len(checks) != 3 {
		t.Fatalf("%+v %v", checks, err)
	}
	for _, c := range checks {
		switch {
		case c.Name == name && (c.Result != want || !strings.Contains(c.Detail, says)):
			t.Errorf("%s is %s (%s), want %s (%s)", c.Name, c.Result, c.Detail, want, says)
		case c.Name != name && c.Result != store.Good, c.Result == store.Warned && c.Hint.IsZero():
			t.Errorf("%+v", c)
		}
	}
}

// TestWhatServersRunOutOf: sessions of the server, the database or the role, and log that a slot retains. A full
// disk is tried with the other systems' failures, in package state.
func TestWhatServersRunOutOf(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t, testenv.PostgresOptions{Settings: map[string]string{"max_connections": "20", "wal_level": "logical"}})
	admin := connect(t, server.URL())
	var before, after int64
	spilled := func() (n int64) {
		t.Helper()
		exec(t, admin, "SELECT pg_stat_clear_snapshot()")
		if err := admin.QueryRow(t.Context(), "SELECT temp_bytes FROM pg_stat_database WHERE datname = current_database()").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before = spilled()
	trial := connect(t, server.URL())
	looks(t, trial, "", store.Good, "")
	_ = trial.Close(t.Context()) // which reports what it counted
	testenv.Await(t, "what was spilled to be counted", func() bool { after = spilled(); return after > before })
	if after-before < 3<<20 {
		t.Errorf("the trial of the disk wrote %d bytes", after-before)
	}
	exec(t, admin, "CREATE ROLE few LOGIN PASSWORD 'few' CONNECTION LIMIT 2")
	asFew := func() *pgx.Conn {
		cfg, err := pgx.ParseConfig(server.URL())
		if err != nil {
			t.Fatal(err)
		}
		cfg.User, cfg.Password = "few", "few"
		conn, err := pgx.ConnectConfig(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
		return conn
	}
	few := asFew()
	looks(t, few, "sessions", store.Good, "sessions in use: 1 of 2 (CONNECTION LIMIT of the role few)")
	asFew()
	looks(t, few, "sessions", store.Warned, "2 of 2")
	var others []*pgx.Conn
	for range 12 {
		others = append(others, connect(t, server.URL()))
	}
	looks(t, admin, "sessions", store.Warned, "of 17 (max_connections)")
	for _, o := range others {
		_ = o.Close(t.Context())
	}
	testenv.Await(t, "the sessions to end", func() bool {
		var n int
		err := admin.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'").Scan(&n)
		return err == nil && n < 8
	})
	exec(t, admin, "SELECT pg_create_physical_replication_slot('forgotten', true)")
	looks(t, admin, "slots", store.Good, "no replication slot")
	// A gigabyte of log takes long to write: the slot's own need is what the limit ends.
	exec(t, admin, "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'; ")
	exec(t, admin, "SELECT pg_reload_conf()")
	exec(t, admin, "CREATE TABLE filler (t text)")
	for i := range 4 {
		exec(t, admin, fmt.Sprintf("INSERT INTO filler SELECT repeat('%d', 100) FROM generate_series(1, 1000)", i))
		exec(t, admin, "SELECT pg_switch_wal()")
	}
	exec(t, admin, "CHECKPOINT")
	looks(t, admin, "slots", store.Warned, `the replication slot "forgotten" (not in use) has lost`)
}
