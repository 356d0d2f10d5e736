package postgres_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/postgres"
)

const partitioned = `
	CREATE TABLE products (id int8 PRIMARY KEY, name text) PARTITION BY RANGE (id);
	CREATE TABLE products_low PARTITION OF products FOR VALUES FROM (MINVALUE) TO (100);
	CREATE TABLE products_high PARTITION OF products FOR VALUES FROM (100) TO (1000);
	INSERT INTO products VALUES (1, 'one'), (100, 'hundred')`

// TestFenceHasNoGap tries every write that could pass the fence, as a forgotten job might.
func TestFenceHasNoGap(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(partitioned + `; CREATE TABLE shops (id int8 PRIMARY KEY); INSERT INTO shops VALUES (1);
		CREATE TABLE goods (id int8 PRIMARY KEY, shop int8 REFERENCES shops ON DELETE CASCADE); INSERT INTO goods VALUES (1, 1)`)
	l := d.legacy(testConfig("products"))
	goods := testConfig("goods")
	goods.Name = "goods"
	g := d.legacy(goods)
	for _, store := range []*postgres.Legacy{l, g} {
		_, err := store.RaiseFence(d.ctx, "A", wait)
		d.ok(err)
	}
	d.exec(`CREATE TABLE products_top PARTITION OF products FOR VALUES FROM (1000) TO (2000)`)
	for _, sql := range []string{
		`INSERT INTO products VALUES (2, 'two')`,
		`INSERT INTO products_low VALUES (2, 'two')`,
		`INSERT INTO products_top VALUES (1000, 'new partition')`,
		`INSERT INTO products VALUES (1001, 'new partition')`,
		`UPDATE products SET name = name WHERE id = 1`,
		`UPDATE products_high SET name = 'x'`,
		`UPDATE products SET id = 200 WHERE id = 1`,
		`DELETE FROM products`,
		`DELETE FROM products_low`,
		`TRUNCATE products`,
		`TRUNCATE products_low`,
		`TRUNCATE products_high CASCADE`,
		`SET session_replication_role = replica; UPDATE products SET name = 'x'`,
		`SET session_replication_role = replica; DELETE FROM products_high`,
		`SET session_replication_role = replica; TRUNCATE products_low`,
		`SET migrator.attempt = 'B'; DELETE FROM products`,
		`SET migrator.attempt = ''; DELETE FROM products`,
		`SET migrator.attempt = 'A'; TRUNCATE products`,
		`MERGE INTO products p USING (SELECT 1 AS id) s ON s.id = p.id WHEN MATCHED THEN DELETE`,
		`DELETE FROM shops`,
	} {
		if strings.HasPrefix(sql, "MERGE") && d.older(15) {
			continue
		}
		conn, err := pgx.Connect(d.ctx, d.url)
		d.ok(err)
		_, err = conn.Exec(d.ctx, sql)
		d.ok(conn.Close(d.ctx))
		if !store.IsFenced(err) {
			t.Errorf("%s: %v", sql, err)
			continue
		}
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || !strings.Contains(pg.Message, "retired") || !strings.Contains(pg.Hint, "migrator") {
			t.Errorf("%s: %v", sql, err)
		}
	}
	conn, err := d.pool.Acquire(d.ctx)
	d.ok(err)
	_, err = conn.CopyFrom(d.ctx, pgx.Identifier{"products"}, []string{"id", "name"}, pgx.CopyFromRows([][]any{{int64(3), "three"}}))
	conn.Release()
	if !store.IsFenced(err) {
		t.Errorf("COPY: %v", err)
	}
	if got := d.text(`SELECT string_agg(id::text || name, ',' ORDER BY id) FROM products`); got != "1one,100hundred" {
		t.Errorf("the fenced table holds %s", got)
	}
	if err := l.Uninstall(d.ctx); err == nil || !strings.Contains(err.Error(), "fence") {
		t.Errorf("Uninstall with a raised fence: %v", err)
	}
	_, err = l.LiftFence(d.ctx, "A", wait)
	d.ok(err)
	d.exec(`INSERT INTO products_top VALUES (1000, 'x'); TRUNCATE products`)
	if n := d.text(`SELECT count(*)::text FROM pg_trigger WHERE tgname LIKE 'migrator_fence%' AND tgrelid::regclass::text LIKE 'products%'`); n != "0" {
		t.Errorf("%s triggers are left", n)
	}
}

// TestFenceLiftsUnderReaders: a long-running report must not keep legacy fenced.
func TestFenceLiftsUnderReaders(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(partitioned)
	l := d.legacy(testConfig("products"))
	_, err := l.RaiseFence(d.ctx, "A", wait)
	d.ok(err)
	reader := d.begin(pgx.TxOptions{})
	_, err = reader.Exec(d.ctx, `SELECT * FROM products`)
	d.ok(err)
	_, err = l.LiftFence(d.ctx, "A", wait)
	d.ok(err)
	d.exec(`INSERT INTO products VALUES (5, 'five')`)
	_, err = l.RaiseFence(d.ctx, "B", wait) // what A left behind is not in the way
	d.ok(err)
	_, err = d.pool.Exec(d.ctx, `INSERT INTO products VALUES (6, 'six')`)
	if !store.IsFenced(err) {
		t.Errorf("the second fence: %v", err)
	}
	d.ok(reader.Rollback(d.ctx))
	_, err = l.LiftFence(d.ctx, "B", wait)
	d.ok(err)
	d.exec(`INSERT INTO products VALUES (6, 'six')`)
	d.ok(l.Uninstall(d.ctx))
	if n := d.text(`SELECT count(*)::text FROM pg_trigger WHERE tgname LIKE 'migrator_fence%'`); n != "0" {
		t.Errorf("%s triggers are left", n)
	}
	d.ok(l.Uninstall(d.ctx))
	d.ok(l.Install(d.ctx))
}

// TestOldSnapshotsCannotStampAnOldEra: a transaction began before a fence and writes
// after the fence is lifted.
func TestOldSnapshotsCannotStampAnOldEra(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(`CREATE TABLE products (id int8 PRIMARY KEY, name text)`)
	l := d.legacy(testConfig("products"))
	for _, level := range []pgx.TxIsoLevel{pgx.RepeatableRead, pgx.Serializable} {
		tx := d.begin(pgx.TxOptions{IsoLevel: level})
		var before, after string
		d.ok(tx.QueryRow(d.ctx, `SELECT `+postgres.VersionExpr("it's a test")).Scan(&before))
		_, err := l.RaiseFence(d.ctx, string(level), wait)
		d.ok(err)
		era, err := l.LiftFence(d.ctx, string(level), wait)
		d.ok(err)
		d.ok(tx.QueryRow(d.ctx, `INSERT INTO products VALUES ($1, 'x') RETURNING `+postgres.VersionExpr("it's a test"), int64(era)).Scan(&after))
		d.ok(tx.Commit(d.ctx))
		v, err := record.ParseVersion(after)
		d.ok(err)
		if v.Era() != era || after <= before {
			t.Errorf("%s: a write in era %d is stamped %s", level, era, after)
		}
	}
	// One that meets the fence is refused, whatever its snapshot shows.
	tx := d.begin(pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	_, err := tx.Exec(d.ctx, `SELECT 1`)
	d.ok(err)
	_, err = l.RaiseFence(d.ctx, "Z", wait)
	d.ok(err)
	_, err = tx.Exec(d.ctx, `INSERT INTO products VALUES (1000, 'x')`)
	if !store.IsFenced(err) {
		t.Errorf("an old snapshot passed the fence: %v", err)
	}
	d.ok(tx.Rollback(d.ctx))
}

// TestBusyTableIsExplained: the error names the transactions that hold the table.
func TestBusyTableIsExplained(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(partitioned)
	l := d.legacy(testConfig("products"))
	config, err := pgx.ParseConfig(d.url)
	d.ok(err)
	config.RuntimeParams["application_name"] = "nightly-import"
	conn, err := pgx.ConnectConfig(d.ctx, config)
	d.ok(err)
	defer func() { _ = conn.Close(context.WithoutCancel(d.ctx)) }()
	_, err = conn.Exec(d.ctx, `BEGIN; UPDATE products_low SET name = 'a secret'`)
	d.ok(err)
	_, barrier := l.Barrier(d.ctx, 300*time.Millisecond)
	_, fence := l.RaiseFence(d.ctx, "A", 100*time.Millisecond)
	_, system := l.RaiseFence(d.ctx, "A", time.Millisecond)
	for name, err := range map[string]error{"Barrier": barrier, "RaiseFence": fence, "RaiseFence at once": system} {
		if err == nil {
			t.Errorf("%s passed an open writer", name)
			continue
		}
		h, _ := hint.Of(err)
		for _, want := range []string{"nightly-import", "idle in transaction", "public.products", "pg_terminate_backend(" + itoa(int(conn.PgConn().PID())) + ")"} {
			if !strings.Contains(err.Error()+"\n"+h.Text, want) {
				t.Errorf("%s: %q with the hint %q does not contain %q", name, err, h.Text, want)
			}
		}
		if strings.Contains(err.Error()+h.Text, "secret") {
			t.Errorf("%s contains a value: %q", name, err)
		}
	}
}

// TestReplayReturnsStoredRows: the returned rows show what triggers and defaults did.
func TestReplayReturnsStoredRows(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(`CREATE TABLE products (id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL CHECK (name <> 'bad'),
			twice text GENERATED ALWAYS AS (name || name) STORED, touched timestamptz, serial serial, kept text DEFAULT 'kept');
		CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.touched := '2001-01-01Z'; RETURN NEW; END $$;
		CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON products FOR EACH ROW EXECUTE FUNCTION touch();
		INSERT INTO products (name, kept) VALUES ('one', 'mine')`)
	m := testConfig("products")
	m.Exclude = []string{"kept"}
	l := d.legacy(m)
	_, err := l.RaiseFence(d.ctx, "A", wait)
	d.ok(err)
	row := func(id, name string) store.Row {
		return store.Row{Key: record.Key(id), Found: true, Record: record.Record{
			record.TextValue(id), record.TextValue(name), record.TextValue("ignored"), record.NullValue, record.TextValue(id), {},
		}[:5]}
	}
	run, err := l.BeginReplay(d.ctx, "A")
	d.ok(err)
	back, err := l.Replay(d.ctx, run, []store.Row{row("1", "uno"), row("50", "fifty")})
	d.ok(err)
	if got := back.Rows[1].Record; got[2].Text != "fiftyfifty" || got[3].Text != "2001-01-01T00:00:00Z" {
		t.Errorf("Replay returned %v", got)
	}
	for name, c := range map[string]struct {
		row store.Row
		why store.Refusal
	}{
		"a violated constraint": {row("52", "bad"), store.Refusal{Code: "23514", Constraint: "products_name_check", Table: "products"}},
		"a value that is none":  {row("x", "fine"), store.Refusal{Code: "22P02"}},
		"a key of two parts":    {store.Row{Key: "1,2"}, store.Refusal{Code: "22P02"}},
	} {
		c.why.Key = c.row.Key
		done, err := l.Replay(d.ctx, run, []store.Row{row("50", "fifty"), c.row})
		if err != nil || len(done.Rows) != 1 || len(done.Refused) != 1 || done.Refused[0] != c.why {
			t.Errorf("%s: %+v, %v", name, done, err)
		}
	}
	if got := d.text(`SELECT string_agg(id::text || name || kept, ',' ORDER BY id) FROM products`); got != "1unomine,50fiftykept" {
		t.Errorf("legacy holds %s", got)
	}
	_, err = l.LiftFence(d.ctx, "A", wait)
	d.ok(err)
	if got := d.text(`INSERT INTO products (name) VALUES ('next') RETURNING id::text || ' ' || serial`); got != "51 51" {
		t.Errorf("the next row's numbers are %s", got)
	}
}

// TestReplayNeedsAWholeFence: without its triggers legacy takes other writes, which a replay
// would overwrite.
func TestReplayNeedsAWholeFence(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(`CREATE TABLE products (id int8 PRIMARY KEY, name text)`)
	l := d.legacy(testConfig("products"))
	_, err := l.RaiseFence(d.ctx, "A", wait)
	d.ok(err)
	rows := []store.Row{{Key: "1", Found: true, Record: record.Record{record.TextValue("1"), record.TextValue("one")}}}
	run, err := l.BeginReplay(d.ctx, "A")
	d.ok(err)
	_, err = l.Replay(d.ctx, run, rows)
	d.ok(err)
	d.exec(`DO $$ DECLARE name text; BEGIN
		FOR name IN SELECT tgname FROM pg_trigger WHERE tgrelid = 'products'::regclass AND NOT tgisinternal LOOP
			EXECUTE format('DROP TRIGGER %I ON products', name);
		END LOOP; END $$`)
	if _, err = l.Replay(d.ctx, run, rows); err == nil || !strings.Contains(err.Error(), "not whole") {
		t.Errorf("replayed: %v", err)
	}
}

// TestAnotherServerStartsAnEra: after a restore or pg_upgrade positions in the log start
// from the beginning.
func TestAnotherServerStartsAnEra(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(`CREATE TABLE products (id int8 PRIMARY KEY, name text)`)
	l := d.legacy(testConfig("products"))
	_, first, err := l.FenceState(d.ctx)
	d.ok(err)
	d.ok(l.CheckSystem(d.ctx))
	d.ok(l.Install(d.ctx))
	if _, era, _ := l.FenceState(d.ctx); era != first {
		t.Errorf("the era went from %d to %d on the same server", first, era)
	}
	d.exec(`UPDATE migrator_legacy.migration SET system_identifier = '1'`)
	d.legacy(testConfig("products"))
	_, second, err := l.FenceState(d.ctx)
	d.ok(err)
	if second != first+1 {
		t.Errorf("the era went from %d to %d on another server", first, second)
	}
	for _, c := range []struct {
		above record.Version
		want  uint32
	}{{record.MakeVersion(76, 1, 1), 77}, {record.MakeVersion(5, 9, 1), 77}, {record.MakeVersion(77, 1, 1), 78}} {
		if era, err := l.RaiseEra(d.ctx, c.above); err != nil || era != c.want {
			t.Errorf("above %s: %d, %v, want %d", c.above, era, err, c.want)
		}
	}
	if era, err := l.RaiseEra(d.ctx, record.MakeVersion(78, 2, 1)); err == nil {
		t.Errorf("this server was replaced, and its era raised to %d", era)
	}
	_, err = l.RaiseFence(d.ctx, "attempt", time.Second)
	d.ok(err)
	if era, err := l.RaiseEra(d.ctx, record.MakeVersion(1000, 1, 1)); err == nil {
		t.Errorf("the era was raised to %d behind a fence", era)
	}
	_, err = l.LiftFence(d.ctx, "attempt", time.Second)
	d.ok(err)
	d.exec(`UPDATE migrator_legacy.schema SET number = 99`)
	if err := l.Install(d.ctx); err == nil || !strings.Contains(err.Error(), "newer") {
		t.Errorf("Install over a newer schema: %v", err)
	}
}

// TestATableHasOneMigration: another one of the table, of a partition or of its parent is refused,
// wherever it would begin; one of a sibling partition is not.
func TestATableHasOneMigration(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(`CREATE TABLE events (id int8, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
		CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
		CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
		CREATE TABLE other (id int8 PRIMARY KEY)`)
	d.legacy(testConfig("events_1"))
	for table, refused := range map[string]bool{"events": true, "events_1": true, "events_2": false, "other": false} {
		second := testConfig(table)
		second.Name = "second " + table
		l, err := postgres.OpenLegacy(d.ctx, second, d.url)
		d.ok(err)
		checks, err := l.Check(d.ctx)
		d.ok(err)
		found := slices.ContainsFunc(checks, func(c store.Check) bool { return c.Name == "legacy-other-migration" && c.Result == store.Refused })
		if err := l.Install(d.ctx); (err != nil) != refused || found != refused {
			t.Errorf("%s: %v, refused by the check: %v", table, err, found)
		}
		l.Close()
	}
}
