package postgres_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/postgres"
)

// await polls until the condition, a boolean SQL expression, is true.
func (d *database) await(what, condition string, args ...any) {
	d.Helper()
	testenv.Await(d, what, func() (holds bool) {
		d.ok(d.pool.QueryRow(d.ctx, "SELECT coalesce(("+condition+"), false)", args...).Scan(&holds))
		return holds
	})
}

// older reports that the server is older than this major version, which a part of a test needs.
func (d *database) older(major int) bool {
	return d.text(fmt.Sprintf("SELECT (current_setting('server_version_num')::int / 10000 < %d)::text", major)) == "true"
}

// TestFenceStartsItsEraAfterOpenWriters: a writer that has locked the table may write
// again while the fence waits for it. That version must be of the era before the fence:
// in the fence's era it would be newer than a replay of the target's writes. So
// RaiseFence locks the table first, and starts the era then.
func TestFenceStartsItsEraAfterOpenWriters(t *testing.T) {
	t.Parallel()
	for _, table := range []string{"products", "products_low"} { // directly into a partition, its parent is not locked
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t)
			d.exec(partitioned)
			l := d.legacy(testConfig("products"))
			writer := d.begin(pgx.TxOptions{})
			_, err := writer.Exec(d.ctx, `UPDATE `+table+` SET name = 'open' WHERE id = 1`)
			d.ok(err)
			type raised struct {
				era uint32
				err error
			}
			done := make(chan raised, 1)
			go func() {
				era, err := l.RaiseFence(d.ctx, "A", wait)
				done <- raised{era, err}
			}()
			d.await("the fence to wait for the writer", `SELECT bool_or(NOT granted) FROM pg_locks
				WHERE locktype = 'relation' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
			var text string
			d.ok(writer.QueryRow(d.ctx, `UPDATE `+table+` SET name = 'once more' WHERE id = 1 RETURNING `+postgres.VersionExpr("it's a test")).Scan(&text))
			d.ok(writer.Commit(d.ctx))
			got := <-done
			d.ok(got.err)
			version, err := record.ParseVersion(text)
			d.ok(err)
			if version.Era() >= got.era {
				t.Errorf("a write before the fence has era %d, the fence began era %d", version.Era(), got.era)
			}
		})
	}
}

// TestWritesPassWhileALockIsWaitedFor: a write that has queued behind the request for the table's lock
// must not wait as long as the request does.
func TestWritesPassWhileALockIsWaitedFor(t *testing.T) {
	t.Parallel()
	waits := map[string]func(context.Context, *postgres.Legacy) error{
		"barrier": func(ctx context.Context, l *postgres.Legacy) error { _, err := l.Barrier(ctx, wait); return err },
		"fence": func(ctx context.Context, l *postgres.Legacy) error {
			_, err := l.RaiseFence(ctx, "A", wait)
			return err
		},
	}
	for name, lock := range waits {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t)
			d.exec(partitioned)
			l := d.legacy(testConfig("products"))
			writer := d.begin(pgx.TxOptions{})
			_, err := writer.Exec(d.ctx, `UPDATE products_low SET name = 'open' WHERE id = 1`)
			d.ok(err)
			shown := make(chan string, 100)
			done := make(chan error, 1)
			go func() {
				done <- lock(hint.OnWait(d.ctx, func(what string, h hint.Hint) { shown <- what + " try: " + h.Text }), l)
			}()
			for range 3 {
				d.await("a request for the lock", `SELECT bool_or(NOT granted) FROM pg_locks
					WHERE locktype = 'relation' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
				d.exec(`UPDATE products SET name = 'passes' WHERE id = 100`)
			}
			pid := writer.Conn().PgConn().PID()
			if got := <-shown; !strings.Contains(got, fmt.Sprintf("pid %d (", pid)) || !strings.Contains(got, fmt.Sprintf("pg_terminate_backend(%d)", pid)) {
				t.Errorf("it does not show what it waits for: %s", got)
			}
			d.ok(writer.Commit(d.ctx))
			d.ok(<-done)
		})
	}
}

// standby is a physical standby from its primary's view: it streams, and reports its
// flushed position.
type standby struct {
	*database
	conn *pgconn.PgConn
}

func newStandby(d *database, name string) *standby {
	d.Helper()
	config, err := pgconn.ParseConfig(d.url)
	d.ok(err)
	config.RuntimeParams["replication"] = "true"
	config.RuntimeParams["application_name"] = name
	conn, err := pgconn.ConnectConfig(d.ctx, config)
	d.ok(err)
	d.Cleanup(func() { _ = conn.Close(context.WithoutCancel(d.ctx)) })
	conn.Frontend().SendQuery(&pgproto3.Query{String: "START_REPLICATION PHYSICAL " + d.text("SELECT pg_current_wal_flush_lsn()::text")})
	d.ok(conn.Frontend().Flush())
	for {
		message, err := conn.ReceiveMessage(d.ctx)
		d.ok(err)
		switch message := message.(type) {
		case *pgproto3.CopyBothResponse:
			return &standby{d, conn}
		case *pgproto3.ErrorResponse:
			d.Fatal(message.Message)
		}
	}
}

// stored reports that all up to the position is on the standby's disk, and returns
// once the primary knows.
func (s *standby) stored(position string) {
	s.Helper()
	var high, low uint64
	_, err := fmt.Sscanf(position, "%X/%X", &high, &low)
	s.ok(err)
	at := high<<32 | low
	status := []byte{'r'} // Standby status update: written, flushed, applied, the time, no reply wanted
	for _, n := range []uint64{at, at, at, 0} {
		status = binary.BigEndian.AppendUint64(status, n)
	}
	s.conn.Frontend().Send(&pgproto3.CopyData{Data: append(status, 0)})
	s.ok(s.conn.Frontend().Flush())
	s.await("the standby's report", "SELECT flush_lsn = $1::text::pg_lsn AND state = 'streaming' FROM pg_stat_replication", position)
}

// TestFenceWaitsForStandbys: a standby promoted without the fence would accept writes.
func TestFenceWaitsForStandbys(t *testing.T) {
	t.Parallel()
	d, _ := ownServer(t)
	d.exec(`CREATE TABLE products (id int8 PRIMARY KEY, name text)`)
	l := d.legacy(testConfig("products"))
	s := newStandby(d, "reporting-replica")
	s.stored(d.text("SELECT pg_current_wal_flush_lsn()::text"))
	_, err := l.RaiseFence(d.ctx, "A", 100*time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "standby") {
		t.Errorf("RaiseFence returned (%v) although a standby lacks the fence", err)
	}
	attempt, era, err := l.FenceState(d.ctx)
	d.ok(err)
	if attempt != "A" {
		t.Fatalf("the fence is of attempt %q, want it raised", attempt)
	}
	s.stored("FFFF/0") // raising it again adds to the log
	again, err := l.RaiseFence(d.ctx, "A", wait)
	if err != nil || again != era {
		t.Errorf("once the standby has it: era %d (%v), want %d", again, err, era)
	}
}

// ownServer is a server of the test's own, since standbys are seen, and waited for, by every
// database of a server.
func ownServer(t *testing.T) (*database, *testenv.PostgresServer) {
	t.Helper()
	server := testenv.Postgres(t)
	d := &database{T: t, url: server.URL()}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	d.ctx = ctx
	d.connect()
	return d, server
}

func (d *database) connect() {
	d.Helper()
	pool, err := pgxpool.New(d.ctx, d.url)
	d.ok(err)
	d.Cleanup(pool.Close)
	d.pool = pool
}

// refuses raises a fence with the standbys of the migration file, and wants an error with the words,
// and that nothing is left.
func (d *database) refuses(standbys []string, words ...string) {
	d.Helper()
	m := testConfig("products")
	m.Legacy.Part.(*postgres.LegacyConfig).Standbys = standbys
	l := d.legacy(m)
	_, err := l.RaiseFence(d.ctx, "A", wait)
	h, _ := hint.Of(err)
	for _, word := range words {
		if err == nil || !strings.Contains(err.Error()+" try: "+h.Text, word) {
			d.Errorf("standbys %q: %v with the hint %q does not contain %q", standbys, err, h.Text, word)
		}
	}
	if attempt, _, err := l.FenceState(d.ctx); attempt != "" || err != nil {
		d.Errorf("standbys %q: attempt %q is left, %v", standbys, attempt, err)
	}
	d.exec(`UPDATE products SET name = name`)
	checks, err := l.Check(d.ctx)
	d.ok(err)
	if !slices.ContainsFunc(checks, func(c store.Check) bool {
		return c.Name == "legacy-standbys" && c.Result == store.Warned && strings.Contains(c.Detail, words[0])
	}) {
		d.Errorf("standbys %q: no check warns of it", standbys)
	}
}

// TestFenceWaitsForStandbysThatAreAway: one that is away can't have the fence, and takes writes
// when it is promoted.
func TestFenceWaitsForStandbysThatAreAway(t *testing.T) {
	t.Parallel()
	d, server := ownServer(t)
	d.exec(`CREATE TABLE products (id int8 PRIMARY KEY, name text); INSERT INTO products VALUES (1, 'one')`)
	b := testenv.PostgresStandby(t, server, "second")
	d.await("the standby to stream", `SELECT state = 'streaming' FROM pg_stat_replication WHERE application_name = 'second'`)
	d.exec(`ALTER SYSTEM SET synchronous_standby_names = 'FIRST 1 ("Third", *)'`)
	d.exec(`ALTER SYSTEM SET synchronous_commit = local`) // no commit of the test waits
	d.exec(`SELECT pg_reload_conf()`)
	d.await("the setting", `SELECT current_setting('synchronous_standby_names') <> ''`)
	d.pool.Reset()
	d.refuses(nil, `"Third"`, "synchronous_standby_names", "legacy.standbys")
	d.exec(`ALTER SYSTEM RESET synchronous_standby_names`)
	d.exec(`SELECT pg_reload_conf()`)
	d.await("the setting", `SELECT current_setting('synchronous_standby_names') = ''`)

	l := d.legacy(testConfig("products"))
	_, err := l.RaiseFence(d.ctx, "first", wait)
	d.ok(err)
	standby, err := pgx.Connect(d.ctx, b.URL())
	d.ok(err)
	d.Cleanup(func() { _ = standby.Close(context.WithoutCancel(d.ctx)) })
	stored := false
	d.ok(standby.QueryRow(d.ctx, `SELECT pg_last_wal_receive_lsn() >= $1::text::pg_lsn`, d.text(`SELECT pg_current_wal_flush_lsn()::text`)).Scan(&stored))
	if !stored {
		t.Error("the standby lacks the fence")
	}
	_, err = l.LiftFence(d.ctx, "first", wait)
	d.ok(err)

	d.ok(b.Kill())
	d.await("the primary to notice", `SELECT NOT active FROM pg_replication_slots WHERE slot_name = 'second'`)
	d.refuses(nil, `"second"`, "its replication slot", "start it", "pg_drop_replication_slot('second')", "legacy.standbys")
	d.refuses([]string{"second"}, `"second"`, "legacy.standbys")
	m := testConfig("products")
	m.Legacy.Part.(*postgres.LegacyConfig).Standbys = []string{}
	none := d.legacy(m)
	_, err = none.RaiseFence(d.ctx, "none", wait)
	d.ok(err)
	_, err = none.LiftFence(d.ctx, "none", wait)
	d.ok(err)

	d.ok(b.Restart(d.ctx))
	d.await("the standby to stream again", `SELECT state = 'streaming' FROM pg_stat_replication WHERE application_name = 'second'`)
	_, err = l.RaiseFence(d.ctx, "again", wait)
	d.ok(err)
}

// TestFenceNeedsPositions: a standby whose position is hidden can't be waited for.
func TestFenceNeedsPositions(t *testing.T) {
	t.Parallel()
	d, _ := ownServer(t)
	d.exec(`CREATE TABLE products (id int8 PRIMARY KEY, name text);
		CREATE ROLE mover LOGIN PASSWORD 'mover'; ALTER TABLE products OWNER TO mover; GRANT CREATE ON DATABASE postgres TO mover`)
	newStandby(d, "reporting-replica").stored(d.text("SELECT pg_current_wal_flush_lsn()::text"))
	config, err := pgxpool.ParseConfig(d.url)
	d.ok(err)
	d.url = fmt.Sprintf("postgres://mover:mover@%s:%d/postgres?sslmode=disable", config.ConnConfig.Host, config.ConnConfig.Port)
	m := testConfig("products")
	m.Legacy.Part.(*postgres.LegacyConfig).Standbys = []string{"reporting-replica"}
	_, err = d.legacy(m).RaiseFence(d.ctx, "A", wait)
	if h, _ := hint.Of(err); err == nil || !strings.Contains(err.Error(), "hidden") || h.Text != "GRANT pg_read_all_stats TO mover" {
		t.Errorf("%v, %v", err, h)
	}
}

// TestPreparedTransactionsAreNamed: they belong to no session that could be ended.
func TestPreparedTransactionsAreNamed(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t, testenv.PostgresOptions{Settings: map[string]string{"max_prepared_transactions": "5"}})
	d := &database{T: t, url: server.URL()}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	d.ctx = ctx
	d.connect()
	d.exec(`CREATE TABLE products (id int8 PRIMARY KEY, name text); INSERT INTO products VALUES (1, 'one'), (2, 'two')`)
	l := d.legacy(testConfig("products"))
	check := func() store.Check {
		checks, err := l.Check(d.ctx)
		d.ok(err)
		return checks[slices.IndexFunc(checks, func(c store.Check) bool { return c.Name == "legacy-prepared" })]
	}
	if c := check(); c.Result != store.Good {
		t.Errorf("%+v", c)
	}
	const evil = "it's\x1b[31m\n\\gid"
	long := strings.Repeat("x", 199)
	for i, gid := range []string{evil, long} {
		tx := d.begin(pgx.TxOptions{})
		_, err := tx.Exec(d.ctx, `UPDATE products SET name = 'a secret' WHERE id = $1`, i+1)
		d.ok(err)
		_, err = tx.Exec(d.ctx, "PREPARE TRANSACTION E'"+strings.NewReplacer("'", "''", `\`, `\\`).Replace(gid)+"'")
		d.ok(err)
		_ = tx.Rollback(d.ctx) // its connection has no transaction any more
	}
	_, barrier := l.Barrier(d.ctx, 300*time.Millisecond)
	_, fence := l.RaiseFence(d.ctx, "A", 100*time.Millisecond)
	for name, err := range map[string]error{"Barrier": barrier, "RaiseFence": fence} {
		h, _ := hint.Of(err)
		text := fmt.Sprint(err) + "\n" + h.Text
		for _, want := range []string{`prepared transaction "it's\x1b[31m\n\\gid" (of "postgres", prepared `, `ROLLBACK PREPARED E'it''s\U0000001B[31m\U0000000A\\gid'`, strings.Repeat("x", 40) + "…", "COMMIT PREPARED"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: %s\ndoes not contain %s", name, text, want)
			}
		}
		if strings.Contains(text, "pid 0") || strings.Contains(text, "secret") || strings.Contains(text, "\x1b") || strings.Contains(text, long) {
			t.Errorf("%s: %s", name, text)
		}
	}
	c := check()
	if c.Result != store.Warned || !strings.Contains(c.Hint.Text, "ROLLBACK PREPARED E'") {
		t.Errorf("%+v", c)
	}
	// After a restart the server names their locks otherwise.
	d.pool.Close()
	l.Close()
	d.ok(server.Restart(d.ctx))
	d.connect()
	l = d.legacy(testConfig("products"))
	if again := check(); again.Hint.Text != c.Hint.Text {
		t.Errorf("after a restart: %+v", again)
	}
	command, _, _ := strings.Cut(c.Hint.Text, " (")
	d.exec(command)
	d.exec("COMMIT PREPARED '" + long + "'")
	_, err := l.RaiseFence(d.ctx, "A", wait)
	d.ok(err)
}

// TestDurabilityIsChecked: of the server, and of each role and database that may write.
func TestDurabilityIsChecked(t *testing.T) {
	t.Parallel()
	d, _ := ownServer(t)
	d.exec(`CREATE TABLE products (id int8 PRIMARY KEY, name text)`)
	l := d.legacy(testConfig("products"))
	found := func() (all []string) {
		checks, err := l.Check(d.ctx)
		d.ok(err)
		for _, c := range checks {
			if c.Name == "legacy-durability" {
				what, _, _ := strings.Cut(c.Detail, ":")
				all = append(all, what+" / "+c.Hint.Text)
			}
		}
		return all
	}
	const fsync = "fsync is off / ALTER SYSTEM SET fsync = on; SELECT pg_reload_conf() (or so in the parameters of a managed server)" // of every test's server
	if got := found(); !slices.Equal(got, []string{fsync}) {
		t.Errorf("%q", got)
	}
	d.exec(`CREATE ROLE "App" LOGIN; CREATE ROLE other`)
	d.exec(`CREATE DATABASE elsewhere`)
	d.exec(`ALTER ROLE "App" SET synchronous_commit = off; ALTER ROLE other SET synchronous_commit = local;
		ALTER DATABASE elsewhere SET synchronous_commit = off; ALTER DATABASE postgres SET synchronous_commit = off; ALTER ROLE other IN DATABASE postgres SET synchronous_commit = off`)
	d.exec(`ALTER SYSTEM SET full_page_writes = off`)
	d.exec(`SELECT pg_reload_conf()`)
	d.await("the setting", `SELECT current_setting('full_page_writes') = 'off'`)
	l.Close()
	l = d.legacy(testConfig("products"))
	want := []string{
		fsync, "full_page_writes is off / ALTER SYSTEM SET full_page_writes = on; SELECT pg_reload_conf() (or so in the parameters of a managed server)",
		"synchronous_commit is off for DATABASE postgres / ALTER DATABASE postgres RESET synchronous_commit",
		`synchronous_commit is off for ROLE "App" / ALTER ROLE "App" RESET synchronous_commit`,
		"synchronous_commit is off for ROLE other IN DATABASE postgres / ALTER ROLE other IN DATABASE postgres RESET synchronous_commit",
	}
	if got := found(); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	d.exec(`ALTER DATABASE postgres RESET synchronous_commit; ALTER ROLE "App" RESET synchronous_commit; ALTER ROLE other IN DATABASE postgres RESET synchronous_commit`)
	d.exec(`ALTER SYSTEM RESET full_page_writes`)
	d.exec(`ALTER SYSTEM SET fsync = on`)
	d.exec(`ALTER SYSTEM SET synchronous_commit = off`)
	d.exec(`SELECT pg_reload_conf()`)
	d.await("the setting", `SELECT current_setting('fsync') = 'on'`)
	l.Close()
	l = d.legacy(testConfig("products"))
	if got := found(); !slices.Equal(got, []string{"synchronous_commit is off / ALTER SYSTEM SET synchronous_commit = on; SELECT pg_reload_conf() (or so in the parameters of a managed server)"}) {
		t.Errorf("%q", got)
	}
}

// TestAMembershipWithoutItsPrivilegesIsNamed: to grant it once more would change nothing.
func TestAMembershipWithoutItsPrivilegesIsNamed(t *testing.T) {
	t.Parallel()
	d, _ := ownServer(t)
	d.exec(`CREATE ROLE keeper; CREATE ROLE mover LOGIN PASSWORD 'mover' NOINHERIT; GRANT keeper TO mover;
		CREATE TABLE products (id int8 PRIMARY KEY, name text); ALTER TABLE products OWNER TO keeper;
		GRANT ALL ON products TO mover; GRANT CREATE ON DATABASE postgres TO mover`)
	config, err := pgxpool.ParseConfig(d.url)
	d.ok(err)
	d.url = fmt.Sprintf("postgres://mover:mover@%s:%d/postgres?sslmode=disable", config.ConnConfig.Host, config.ConnConfig.Port)
	remedy := func() string {
		checks, err := d.legacy(testConfig("products")).Check(d.ctx)
		d.ok(err)
		return checks[slices.IndexFunc(checks, func(c store.Check) bool { return c.Name == "legacy-fence" })].Hint.Text
	}
	command := remedy()
	if !strings.Contains(command, "INHERIT") {
		t.Errorf("the hint is %q", command)
	}
	d.exec(command)
	if again := remedy(); again != "" {
		t.Errorf("after it: %q", again)
	}
}

// TestALockIsTakenFromAutovacuum: the server cancels an autovacuum only for a request that waits for deadlock_timeout.
// Tries that are all shorter wait until it has ended by itself.
func TestALockIsTakenFromAutovacuum(t *testing.T) {
	t.Parallel()
	d := newDatabaseAt(t, testenv.Postgres(t, testenv.PostgresOptions{Settings: map[string]string{"autovacuum_naptime": "1s", "deadlock_timeout": "700ms"}}).URL())
	// One page in each 100 ms: about a minute.
	d.exec(`CREATE TABLE products (id int8 PRIMARY KEY, name text) WITH (fillfactor = 10, autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1,
			autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10, autovacuum_vacuum_insert_threshold = -1, autovacuum_analyze_threshold = 1000000);
		INSERT INTO products SELECT i, repeat('x', 100) FROM generate_series(1, 3500) i; DELETE FROM products WHERE id % 2 = 0`)
	l := d.legacy(testConfig("products"))
	d.await("autovacuum", `EXISTS (SELECT FROM pg_stat_progress_vacuum WHERE relid = 'products'::regclass)`)
	_, err := l.Barrier(d.ctx, 5*time.Second)
	d.ok(err)
}
