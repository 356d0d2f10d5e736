package capture_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/capture"
	"github.com/stranglerfig/migrator/internal/test/pairtest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/postgres"
)

// A table without a replica identity is not published: PostgreSQL would refuse the application's own writes.
func TestReplicaIdentities(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, ddl, later, wrong string }{
		{"nothing", "ALTER TABLE items REPLICA IDENTITY NOTHING", "", "no replica identity"},
		{"no primary key", "ALTER TABLE items DROP CONSTRAINT items_pkey; CREATE UNIQUE INDEX ON items (id)", "", "no replica identity"},
		{"another index", "CREATE UNIQUE INDEX other ON items (code); ALTER TABLE items REPLICA IDENTITY USING INDEX other", "", `lacks the key's column "id"`},
		{"another index, later", "CREATE UNIQUE INDEX other ON items (code)", "ALTER TABLE items REPLICA IDENTITY USING INDEX other", `lacks the key's column "id"`},
		{"another primary key", "ALTER TABLE items DROP CONSTRAINT items_pkey, ADD PRIMARY KEY (code) INCLUDE (id); CREATE UNIQUE INDEX ON items (id)", "", `lacks the key's column "id"`},
		{"a wider index", "CREATE UNIQUE INDEX other ON items (code, id); ALTER TABLE items REPLICA IDENTITY USING INDEX other", "", ""},
		{"full", "ALTER TABLE items REPLICA IDENTITY FULL", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := pairtest.New(t, pairtest.Options{DDL: "CREATE TABLE items (id bigint PRIMARY KEY, code int NOT NULL, name text)"})
			p.Exec(t, "INSERT INTO items SELECT i, i, 'n' FROM generate_series(1, 9) i")
			p.Exec(t, c.ddl)
			if strings.HasSuffix(c.name, " primary key") {
				p.Config.Legacy.Part.(*postgres.LegacyConfig).Key = []string{"id"}
				p.Legacy.Close()
				if err := p.Open(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			r := prepare(t, p, nil)
			r.start()
			if c.wrong != "" && c.later == "" {
				if err := r.fails(); err == nil || !strings.Contains(err.Error(), c.wrong) {
					t.Fatal(err)
				}
				if got := found(capture.Check(t.Context(), p.Legacy, phases.CaptureBeside))["capture-table"]; !strings.Contains(got, "refused: ") || !strings.Contains(got, c.wrong) {
					t.Errorf("plan: %s", got)
				}
				p.Exec(t, "UPDATE items SET name = 'writes go on'")
				return
			}
			r.barrier()
			if c.later != "" {
				p.Exec(t, c.later)
			}
			p.Exec(t, "UPDATE items SET name = 'changed', code = code + 100")
			if c.wrong != "" {
				if err := r.fails(); err == nil || !strings.Contains(err.Error(), c.wrong) {
					t.Fatal(err)
				}
				return
			}
			p.Exec(t, "UPDATE items SET id = id + 100 WHERE id % 2 = 0")
			p.Exec(t, "DELETE FROM items WHERE id % 3 = 0")
			r.same()
		})
	}
}

func TestPartitions(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{DDL: `CREATE TABLE items (id bigint PRIMARY KEY, name text) PARTITION BY RANGE (id);
		CREATE TABLE low PARTITION OF items FOR VALUES FROM (0) TO (100);
		CREATE TABLE gone (name text, dropped int, id bigint PRIMARY KEY);
		ALTER TABLE gone DROP dropped;
		ALTER TABLE items ATTACH PARTITION gone FOR VALUES FROM (100) TO (200)`})
	r := begin(t, p, nil)
	p.Exec(t, "INSERT INTO items SELECT i, 'n' || i FROM generate_series(0, 199) i")
	p.Exec(t, "UPDATE items SET id = id + 100 WHERE id < 50 AND id % 2 = 1 AND NOT EXISTS (SELECT FROM items o WHERE o.id = items.id + 100)")
	p.Exec(t, "DELETE FROM items WHERE id BETWEEN 110 AND 120")
	p.Exec(t, "UPDATE items SET id = id + 105 WHERE id BETWEEN 5 AND 15") // from one partition into the other
	r.same()
	p.Exec(t, "CREATE TABLE high (id bigint PRIMARY KEY, name text); ALTER TABLE items ATTACH PARTITION high FOR VALUES FROM (200) TO (300)")
	p.Exec(t, "INSERT INTO items SELECT i, 'attached' FROM generate_series(200, 299) i")
	p.Exec(t, "UPDATE items SET name = 'again' WHERE id % 10 = 0")
	r.same()
	// One partition's TRUNCATE: its records go, and no other.
	p.Exec(t, "TRUNCATE gone")
	p.Exec(t, "INSERT INTO items VALUES (150, 'after')")
	r.same()
	tx(t, p, "INSERT INTO items VALUES (151, 'never seen')", "UPDATE items SET name = 'stays' WHERE id < 5", "TRUNCATE gone", "INSERT INTO items VALUES (152, 'after')")
	r.same()
	tx(t, p, "INSERT INTO items VALUES (153, 'never seen')", "TRUNCATE items", "INSERT INTO items SELECT i, 'new' FROM generate_series(0, 250, 10) i")
	r.same()
	p.Exec(t, "ALTER TABLE items DETACH PARTITION high; UPDATE high SET name = 'not ours'; UPDATE items SET name = 'ours' WHERE id < 10")
	r.caughtUp()
	if e := r.get("200"); e.Presence != store.Live || e.Record[1].Text == "not ours" {
		t.Errorf("a change of a detached partition was brought: %+v", e)
	}
	p.Exec(t, "TRUNCATE items")
	r.caughtUp()
	if e := r.get("3"); e.Presence != store.Tombstone {
		t.Errorf("after a TRUNCATE of the whole: %s", e.Presence)
	}
}

func TestColumnsThatChange(t *testing.T) {
	t.Parallel()
	open := func(t *testing.T) *running {
		p := pairtest.New(t, pairtest.Options{DDL: "CREATE TABLE items (id bigint PRIMARY KEY, name text, other text, n int, double int GENERATED ALWAYS AS (n * 2) STORED)"})
		r := begin(t, p, nil)
		p.Exec(t, "INSERT INTO items (id, name, other, n) SELECT i, 'n' || i, 'o' || i, i FROM generate_series(1, 9) i")
		r.same()
		return r
	}
	name := func(r *running, want string) {
		t.Helper()
		r.caughtUp()
		if e := r.get("1"); e.Presence != store.Live || e.Record[1].Text != want {
			t.Errorf("%+v, want the name %q", e, want)
		}
	}
	t.Run("added", func(t *testing.T) {
		t.Parallel()
		r := open(t)
		r.Exec(t, "ALTER TABLE items ADD later text DEFAULT 'x'")
		r.Exec(t, "UPDATE items SET name = 'a', later = 'y'")
		r.same()
		r.Exec(t, "ALTER TABLE items DROP later, ADD later int; UPDATE items SET name = 'b', later = 7")
		r.same()
	})
	t.Run("renamed", func(t *testing.T) {
		t.Parallel()
		r := prepareRenamed(t)
		// By number: the column of that name is another one now.
		r.Exec(t, "ALTER TABLE items RENAME name TO title")
		r.Exec(t, "UPDATE items SET title = 'mine'")
		name(r, "mine")
	})
	t.Run("renamed, and a row must be read", func(t *testing.T) {
		t.Parallel()
		p := pairtest.New(t, pairtest.Options{DDL: "CREATE TABLE items (id bigint PRIMARY KEY, name text, big text); ALTER TABLE items ALTER big SET STORAGE EXTERNAL"})
		r := begin(t, p, nil)
		p.Exec(t, "INSERT INTO items SELECT i, 'n' || i, repeat('x', 9000) FROM generate_series(1, 9) i")
		r.same()
		p.Exec(t, "ALTER TABLE items RENAME name TO title; UPDATE items SET id = id + 10")
		if err := r.fails(); !errors.Is(err, capture.ErrColumns) {
			t.Fatal(err)
		}
		// As after an apply, or the name of before: nothing was skipped.
		p.Exec(t, "ALTER TABLE items RENAME title TO name")
		r.start()
		r.same()
	})
	t.Run("swapped", func(t *testing.T) {
		t.Parallel()
		r := prepareRenamed(t)
		r.Exec(t, "BEGIN; ALTER TABLE items RENAME name TO t; ALTER TABLE items RENAME other TO name; ALTER TABLE items RENAME t TO other; COMMIT")
		r.Exec(t, "UPDATE items SET other = 'mine', name = 'not mine'")
		name(r, "mine")
	})
	for what, ddl := range map[string]string{
		"dropped": "ALTER TABLE items DROP other", "retyped": "ALTER TABLE items ALTER other TYPE varchar(99)",
		"dropped and added": "ALTER TABLE items DROP other, ADD other text",
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			r := open(t)
			r.Exec(t, ddl)
			r.Exec(t, "UPDATE items SET name = 'changed'")
			if err := r.fails(); !errors.Is(err, capture.ErrColumns) {
				t.Fatal(err)
			}
		})
	}
}

func prepareRenamed(t *testing.T) *running {
	p := pairtest.New(t, pairtest.Options{DDL: "CREATE TABLE items (id bigint PRIMARY KEY, name text, other text)"})
	r := begin(t, p, nil)
	p.Exec(t, "INSERT INTO items SELECT i, 'n' || i, 'o' || i FROM generate_series(1, 9) i")
	r.same()
	return r
}

// Values that the log prints as a query does, and those that it does not.
func TestValuesOfManyTypes(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{DDL: pairtest.MessyDDL + `; ALTER TABLE "Order Items" ADD doc2 xml, ADD letter "char"`, Table: pairtest.MessyTable, Key: pairtest.MessyKey})
	p.Exec(t, `ALTER DATABASE `+databaseOf(t, p)+` SET datestyle = 'German'; ALTER DATABASE `+databaseOf(t, p)+` SET timezone = 'UTC-5'`)
	r := begin(t, p, nil)
	p.FillMessy(t, 500)
	p.Exec(t, `UPDATE "Order Items" SET doc2 = '<?xml version="1.0" encoding="UTF-8"?><a>ü</a>', letter = 'x' WHERE id % 3 = 0`)
	p.FillMessyFrom(t, 501, 600)
	r.same()
}

func databaseOf(t *testing.T, p *pairtest.Pair) (name string) {
	t.Helper()
	if err := p.SQL.QueryRow(t.Context(), "SELECT quote_ident(current_database())").Scan(&name); err != nil {
		t.Fatal(err)
	}
	return name
}

// What the target can't store is journalled; the others go on.
func TestARecordThatTheTargetRefuses(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{DDL: "CREATE TABLE items (id bigint PRIMARY KEY, name text)"})
	target := postgresTarget(t, p, "CREATE TABLE items (id bigint PRIMARY KEY, name text CHECK (length(name) < 100))")
	r := begin(t, p, func(c *capture.Capture) { c.Target = target })
	p.Exec(t, "INSERT INTO items SELECT i, repeat('x', 10 * i) FROM generate_series(1, 12) i")
	p.Exec(t, "UPDATE items SET name = 'short' WHERE id = 12")
	r.caughtUp()
	keys := map[record.Key]bool{}
	for _, f := range r.ledger.refused {
		keys[f.Key] = true
		if strings.Contains(f.Err.Error(), "xxx") {
			t.Errorf("the error has a value: %v", f.Err)
		}
	}
	delete(keys, "12") // if the two were not one flush
	if len(keys) != 2 || !keys["10"] || !keys["11"] {
		t.Errorf("journalled: %v", r.ledger.refused)
	}
	entries, err := target.Get(t.Context(), []record.Key{"9", "12"})
	if err != nil || entries[0].Presence != store.Live || entries[1].Record[1].Text != "short" {
		t.Errorf("%+v, %v", entries, err)
	}
}

func postgresTarget(t *testing.T, p *pairtest.Pair, ddl string) *postgres.Target {
	t.Helper()
	url := testenv.PostgresURL(t)
	q := pairtest.SQL(t, url)
	if _, err := q.Exec(t.Context(), ddl); err != nil {
		t.Fatal(err)
	}
	target, err := postgres.OpenTarget(t.Context(), &migration.Config{Name: "move", Target: migration.Target{Store: "postgres", Part: &postgres.TargetConfig{Table: "items"}}}, url, p.Legacy.Schema())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = target.Close() })
	if err := target.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	return target
}

// Two migrations of one database: the one that can't go on does not stop the other.
func TestABrokenMigrationBesideAnother(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{DDL: pairtest.SimpleDDL + "; CREATE TABLE others (id bigint PRIMARY KEY, name text, extra text)"})
	q := pairtest.New(t, pairtest.Options{Name: "Other-move", Legacy: p.LegacyURL, DDL: "-", Table: "others", Key: "other:{id}"})
	r, broken := begin(t, p, nil), begin(t, q, nil)
	p.Exec(t, "ALTER TABLE others DROP extra")
	tx(t, p, "INSERT INTO others VALUES (1, 'x')", "INSERT INTO items (id) VALUES (1)")
	if err := broken.fails(); !errors.Is(err, capture.ErrColumns) {
		t.Fatal(err)
	}
	p.FillSimple(t, 2, 100)
	r.same()
	if err := broken.c.Forget(t.Context()); err != nil {
		t.Fatal(err)
	}
	var slots int
	if err := p.SQL.QueryRow(t.Context(), "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()").Scan(&slots); err != nil || slots != 1 {
		t.Errorf("%d slots are left (%v), want that of the other migration", slots, err)
	}
}

// A fence's message, and that of its lift, are places in the log.
func TestBehindAFenceNothingIsApplied(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	r := begin(t, p, nil)
	p.FillSimple(t, 1, 3)
	p.Exec(t, "UPDATE items SET name = 'before the fence'")
	if _, err := p.Legacy.RaiseFence(t.Context(), "attempt", 10*time.Second); err != nil {
		t.Fatal(err)
	}
	fenced := r.until("the fence", func(p capture.Progress) bool { return p.Fence == "attempt" })
	if e := r.get("1"); e.Record[1].Text != "before the fence" || e.Version.Era() >= fenced.Era {
		t.Errorf("past the fence's message the target has %+v in era %d", e, fenced.Era)
	}
	// Every role may write messages: one without the secret is no marker.
	p.Exec(t, `SELECT pg_logical_emit_message(true, 'migrator:move', '{"kind":"lift","era":9,"attempt":"attempt"}'), pg_logical_emit_message(true, 'migrator:move', 'no marker')`)
	run, err := p.Legacy.BeginReplay(t.Context(), "attempt")
	if err != nil {
		t.Fatal(err)
	}
	copied := store.Row{Key: "1", Found: true, Record: record.Record{record.TextValue("1"), record.TextValue("an early copy"), record.NullValue, record.NullValue}}
	if _, err := p.Legacy.Replay(t.Context(), run, []store.Row{copied}); err != nil {
		t.Fatal(err)
	}
	r.caughtUp()
	if e := r.get("1"); e.Record[1].Text != "before the fence" {
		t.Errorf("a copy was applied: %+v", e)
	}
	if err := r.end(); err != nil { // the fence is part of the progress
		t.Fatal(err)
	}
	r.start()
	era, err := p.Legacy.EndReplay(t.Context(), run, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	r.until("the lift", func(p capture.Progress) bool { return p.Fence == "" && p.Era == era })
	p.Exec(t, "UPDATE items SET name = 'after the lift'")
	r.same()
	if e := r.get("1"); e.Version.Era() != era {
		t.Errorf("era %d, want %d", e.Version.Era(), era)
	}
	raised, err := p.Legacy.RaiseEra(t.Context(), record.MakeVersion(era+3, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	p.Exec(t, "UPDATE items SET name = 'in a new era'")
	r.same()
	if e := r.get("1"); e.Version.Era() != raised {
		t.Errorf("era %d, want %d", e.Version.Era(), raised)
	}
}
