package testenv

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func connect(t *testing.T, dbURL string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dbURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	})
	return conn
}

func query[T any](t *testing.T, conn *pgx.Conn, sql string) T {
	t.Helper()
	var v T
	if err := conn.QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func execSQL(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func TestPostgresURLIsPerTest(t *testing.T) {
	t.Parallel()
	a, b := PostgresURL(t), PostgresURL(t)
	if a == b {
		t.Fatalf("twice the same database: %s", a)
	}
	conn := connect(t, a)
	execSQL(t, conn, "CREATE TABLE only_here (id int)")
	if n := query[int](t, connect(t, b), "SELECT count(*)::int FROM pg_tables WHERE tablename = 'only_here'"); n != 0 {
		t.Fatal("a table of one test's database is in the other's")
	}
	if os.Getenv(EnvPostgresURL) != "" {
		t.Skip("the settings of a named server are the user's")
	}
	for name, want := range map[string]string{"wal_level": "logical", "fsync": "off", "TimeZone": "UTC", "max_connections": "200", "server_encoding": "UTF8"} {
		if got := query[string](t, conn, "SHOW "+name); got != want {
			t.Errorf("%s is %s, not %s", name, got, want)
		}
	}
}

func TestDropDatabaseWithActiveSlot(t *testing.T) {
	t.Parallel()
	var dbURL, admin string
	t.Run("user", func(t *testing.T) {
		dbURL = PostgresURL(t)
		admin, _ = adminURL()
		conn, err := pgx.Connect(t.Context(), dbURL+"&replication=database")
		if err != nil {
			t.Fatal(err)
		}
		name, _, _ := strings.Cut(dbURL, "?")
		slot := "s" + name[strings.LastIndex(name, "_")+1:]
		for _, sql := range []string{"CREATE_REPLICATION_SLOT " + slot + " LOGICAL test_decoding", "START_REPLICATION SLOT " + slot + " LOGICAL 0/0"} {
			conn.PgConn().Frontend().SendQuery(&pgQuery{String: sql})
			if err := conn.PgConn().Frontend().Flush(); err != nil {
				t.Fatal(err)
			}
			for {
				msg, err := conn.PgConn().ReceiveMessage(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if isReadyOrCopying(msg) {
					break
				}
			}
		}
		// The connection stays open, like the client of a failed test.
	})
	if _, err := pgx.Connect(t.Context(), dbURL); err == nil {
		t.Fatal("the database of a finished test is still there")
	}
	if n := query[int](t, connect(t, admin), "SELECT count(*)::int FROM pg_replication_slots WHERE slot_type = 'logical'"); n != 0 {
		t.Errorf("%d logical slots remain", n)
	}
}

func TestPostgresKilledLosesNoAcknowledgedCommit(t *testing.T) {
	t.Parallel()
	s := Postgres(t)
	dbURL, drop, err := s.CreateDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer drop()
	conn := connect(t, dbURL)
	execSQL(t, conn, "CREATE TABLE kept (id int)")
	execSQL(t, conn, "INSERT INTO kept SELECT generate_series(1, 1000)")
	port := s.port
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if left := processesIn(s.dir.path); len(left) != 0 {
		t.Fatalf("processes %v survived a kill", left)
	}
	if _, err := pgx.Connect(t.Context(), dbURL); err == nil {
		t.Fatal("a killed server answers")
	}
	for range 2 { // after a kill, and while it runs
		if err := s.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if s.port != port {
		t.Errorf("restarted on port %d, not %d", s.port, port)
	}
	if n := query[int](t, connect(t, dbURL), "SELECT count(*)::int FROM kept"); n != 1000 {
		t.Errorf("%d of 1000 rows after a kill and two restarts", n)
	}
}

func TestPostgresPausedDoesNotAnswerUntilResumed(t *testing.T) {
	t.Parallel()
	s := Postgres(t)
	conn := connect(t, s.URL())
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		var one int
		answered <- conn.QueryRow(t.Context(), "SELECT 1").Scan(&one)
	}()
	select {
	case err := <-answered:
		t.Fatalf("a paused server's backend answered: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Fatalf("after Resume the open connection: %v", err)
	}
}

func TestPausedServersAreStoppedAndKilled(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*PostgresServer) error{
		"stop": func(*PostgresServer) error { return nil },
		"kill": (*PostgresServer).Kill,
	} {
		s := Postgres(t)
		if err := errors.Join(s.Pause(), end(s), s.Stop(t.Context())); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := os.Stat(s.dir.path); !os.IsNotExist(err) {
			t.Errorf("%s: the directory remains: %v", name, err)
		}
	}
}

func TestFreshServersHaveTheirOwnIdentifier(t *testing.T) {
	t.Parallel()
	const sql = "SELECT system_identifier::text FROM pg_control_system()"
	a, b := Postgres(t, PostgresOptions{Fresh: true}), Postgres(t, PostgresOptions{Settings: map[string]string{"work_mem": "5MB"}})
	ca, cb := connect(t, a.URL()), connect(t, b.URL())
	if query[string](t, ca, sql) == query[string](t, cb, sql) {
		t.Error("a fresh server has the template's identifier")
	}
	if got := query[string](t, cb, "SHOW work_mem"); got != "5MB" {
		t.Errorf("work_mem is %s: the setting did not arrive", got)
	}
	if !strings.Contains(a.Log(), "database system is ready") {
		t.Errorf("the log does not show that the server started:\n%s", a.Log())
	}
	if _, err := pgx.Connect(t.Context(), strings.Replace(a.URL(), a.password, "wrong", 1)); err == nil {
		t.Error("a wrong password is accepted")
	}
}

func TestWrongSettingIsReportedWithTheLog(t *testing.T) {
	t.Parallel()
	_, err := StartPostgres(t.Context(), PostgresOptions{Settings: map[string]string{"work_mem": "much"}})
	if err == nil || !strings.Contains(err.Error(), "work_mem") {
		t.Fatalf("want the log's line about work_mem, got: %v", err)
	}
}

func TestMissingServersGiveHint(t *testing.T) {
	t.Setenv(EnvServerPath, t.TempDir())
	_, perr := StartPostgres(t.Context(), PostgresOptions{})
	_, rerr := StartRedis(t.Context(), RedisOptions{})
	for _, err := range []error{perr, rerr} {
		var missing *MissingError
		if !errors.As(err, &missing) {
			t.Fatalf("want a MissingError, got %v", err)
		}
		for _, want := range []string{"searched", os.Getenv(EnvServerPath), "make deps", "install", "export MIGRATOR_TEST_"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("no %q in:\n%v", want, err)
			}
		}
	}
}
