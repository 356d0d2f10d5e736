package postgres_test

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/postgres"
	"github.com/stranglerfig/migrator/store/storetest"
)

// TestOthersSQLSTATEs: a trigger of the user's may fail with any SQLSTATE that this package takes
// for something else in its own statements. It is the row's fault, and no table of versions is
// missing; other rows are written.
func TestOthersSQLSTATEs(t *testing.T) {
	t.Parallel()
	d, target := simpleTarget(t, createTable(storetest.Simple())+`;
		CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF NEW.name = 'no table' THEN PERFORM FROM gone; END IF;
			IF NEW.name = 'no schema' THEN PERFORM gone.f(); END IF;
			IF NEW.name = 'no function' THEN PERFORM gone(1); END IF;
			IF NEW.name = 'no column' THEN PERFORM NEW.gone; END IF;
			IF length(NEW.name) = 5 THEN RAISE EXCEPTION USING ERRCODE = NEW.name, MESSAGE = 's3cret'; END IF;
			RETURN NEW;
		END $$;
		CREATE TRIGGER fails BEFORE INSERT ON "The Target" FOR EACH ROW EXECUTE FUNCTION fails()`, 0)
	bad := []string{"no table", "no schema", "no function", "no column", "42P01", "42883", "42703", "3F000", "42501", "0A000", "P0001", "23514", "22000", "42P10"}
	writes := []store.Write{write("1000", "fine", 1)}
	for i, name := range bad {
		writes = append(writes, write(itoa(i+1), name, 1))
	}
	results, err := target.Apply(d.ctx, writes)
	d.ok(err)
	for i, r := range results {
		if i == 0 {
			if r.Outcome != store.Applied {
				t.Errorf("the good write: %+v", r)
			}
			continue
		}
		if r.Err == nil || strings.Contains(r.Err.Error(), `key "`) || strings.Contains(r.Err.Error(), "table of versions") || strings.Contains(r.Err.Error(), "s3cret") && bad[i-1] != "P0001" && bad[i-1] != "23514" {
			t.Errorf("%s: %v", bad[i-1], r.Err)
		}
	}
	// What is really missing is said so.
	d.exec(`DROP TABLE migrator_target.m`)
	_, err = target.Apply(d.ctx, writes[:1])
	if err == nil || !strings.Contains(err.Error(), "table of versions") {
		t.Errorf("without the table of versions: %v", err)
	}
	d.exec(`DROP TABLE "The Target"`)
	d.ok(target.Prepare(d.ctx))
	_, err = target.Apply(d.ctx, writes[:1])
	if err == nil || strings.Contains(err.Error(), "table of versions") || !strings.Contains(err.Error(), "The Target") {
		t.Errorf("without the target table: %v", err)
	}
}

// TestRefusedValueNamesItsColumn: also where the server does not say which it is.
func TestRefusedValueNamesItsColumn(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	for column, value := range map[string]string{"regclass": "gone", "uuid": "x", "varchar(3)": "long", "numeric(3,1)": "123456", "int[]": "[\"x\"]", "timestamptz": "noon"} {
		d.exec(`DROP TABLE IF EXISTS "The Target"; CREATE TABLE "The Target" (id int PRIMARY KEY, fine text, odd ` + column + `)`)
		schema := &record.Schema{Key: []int{0}, Fields: []record.Field{
			{Name: "id", Target: "id", Kind: record.Int, Type: "integer", NotNull: true},
			{Name: "fine", Target: "fine", Kind: record.Text, Type: "text"},
			{Name: "odd", Target: "odd", Kind: record.Text, Type: "text"},
		}}
		target := d.target(&migration.Config{Name: "m"}, schema)
		results, err := target.Apply(d.ctx, []store.Write{{Key: "1", Version: record.FirstOf(1), Record: record.Record{record.TextValue("1"), record.TextValue("x"), record.TextValue(value)}}})
		d.ok(err)
		if err := results[0].Err; err == nil || strings.Contains(err.Error(), `key "`) || !strings.Contains(err.Error(), `column "odd"`) && !strings.Contains(err.Error(), `field "odd"`) {
			t.Errorf("%s: %v", column, err)
		}
	}
}

// TestRecordThatCannotBePrinted: in a database whose encoding is SQL_ASCII, a text that is no UTF-8
// makes its record an error that names it. It is not taken for one that is not there.
func TestRecordThatCannotBePrinted(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	name := strings.ToLower("ascii_" + d.text(`SELECT substr(md5(random()::text), 1, 12)`))
	d.exec(`CREATE DATABASE ` + name + ` TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'`)
	t.Cleanup(func() {
		conn, err := pgx.Connect(t.Context(), d.url)
		if err == nil {
			_, _ = conn.Exec(t.Context(), `DROP DATABASE `+name+` WITH (FORCE)`)
			_ = conn.Close(t.Context())
		}
	})
	u, err := url.Parse(d.url)
	d.ok(err)
	u.Path = "/" + name
	conn, err := pgx.Connect(d.ctx, u.String())
	d.ok(err)
	defer func() { _ = conn.Close(d.ctx) }()
	_, err = conn.Exec(d.ctx, `SET client_encoding = 'SQL_ASCII'; CREATE TABLE products (id int PRIMARY KEY, name text);
		INSERT INTO products SELECT i, 'fine' FROM generate_series(1, 100) i; UPDATE products SET name = convert_from('\xe9', 'SQL_ASCII') WHERE id = 42`)
	d.ok(err)
	l, err := postgres.OpenLegacy(d.ctx, testConfig("products"), u.String())
	d.ok(err)
	defer l.Close()
	d.ok(l.Install(d.ctx))
	keys := []record.Key{"41", "42", "no number", "43", "99999999999"}
	rows, err := l.Lookup(d.ctx, slices.DeleteFunc(slices.Clone(keys), func(k record.Key) bool { return k == "42" }))
	if err != nil || !rows[0].Found || rows[1].Found || !rows[2].Found || rows[3].Found {
		t.Errorf("the others: %+v, %v", rows, err)
	}
	chunks, err := l.Chunks(d.ctx, 1000)
	d.ok(err)
	for what, read := range map[string]func() error{
		"Lookup":       func() error { _, err := l.Lookup(d.ctx, keys); return err },
		"LookupLocked": func() error { _, err := l.LookupLocked(d.ctx, keys); return err },
		"Scan":         func() error { return l.Scan(d.ctx, chunks[0], func(store.Row) error { return nil }) },
		"ScanBlocks": func() error {
			return l.ScanBlocks(d.ctx, chunks[0], 10, func() *record.Block { return new(record.Block) }, func(*record.Block) error { return nil })
		},
	} {
		if err := read(); err == nil || !strings.Contains(err.Error(), `key "42"`) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestKeysOfBytes: any bytes are a key, of which the table of versions holds a text; keys that are
// texts already keep theirs.
func TestKeysOfBytes(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(`CREATE TABLE "The Target" (id bytea, n int, name text, PRIMARY KEY (id, n))`)
	schema := &record.Schema{Key: []int{0, 1}, Fields: []record.Field{
		{Name: "id", Target: "id", Kind: record.Bytes, Type: "bytea", NotNull: true},
		{Name: "n", Target: "n", Kind: record.Int, Type: "integer", NotNull: true},
		{Name: "name", Target: "name", Kind: record.Text, Type: "text"},
	}}
	target := d.target(&migration.Config{Name: "m"}, schema)
	var writes []store.Write
	for _, id := range []string{"", "ab", "a,b", "%FF", "\xff", "\xff\xfe", "é", "\xc3", "\x00\xff%", "\"\\", "\xef\xbf\xbd", "%25FF"} {
		writes = append(writes, store.Write{Key: record.MakeKey(id, "7"), Version: record.FirstOf(2), Record: record.Record{record.TextValue(id), record.TextValue("7"), record.TextValue("x")}})
	}
	block := new(record.Block)
	block.Reset(3)
	for _, w := range writes[:6] {
		for _, v := range w.Record {
			block.Add(append(block.Buffer(), v.Text...))
		}
	}
	now, err := target.Now(d.ctx)
	d.ok(err)
	written := make([]bool, 6)
	d.ok(target.BulkLoad(d.ctx, store.BulkWrite{Block: block, Version: record.FirstOf(1), NotAfter: now.Add(wait)}, written))
	if slices.Contains(written, false) {
		t.Errorf("bulk loaded: %v", written)
	}
	results, err := target.Apply(d.ctx, writes)
	d.ok(err)
	for i, r := range results {
		if r.Outcome != store.Applied {
			t.Errorf("%q: %+v", writes[i].Key, r)
		}
	}
	want := map[record.Key]bool{}
	var keys []record.Key
	for _, w := range writes {
		want[w.Key], keys = true, append(keys, w.Key)
	}
	entries, err := target.Get(d.ctx, keys)
	d.ok(err)
	for i, e := range entries {
		if e.Presence != store.Live || e.Version != record.FirstOf(2) || e.Record[0].Text != writes[i].Record[0].Text {
			t.Errorf("%q: %+v", keys[i], e)
		}
	}
	seen := map[record.Key]bool{}
	d.ok(target.Scan(d.ctx, func(entries []store.Entry) error {
		for _, e := range entries {
			seen[e.Key] = true
			if !want[e.Key] || e.Presence != store.Live {
				t.Errorf("Scan finds %q: %s", e.Key, e.Presence)
			}
		}
		return nil
	}))
	if len(seen) != len(want) {
		t.Errorf("Scan finds %d of %d", len(seen), len(want))
	}
	stale := map[record.Key]bool{}
	d.ok(target.ListStale(d.ctx, record.FirstOf(3), func(keys []record.Key) error {
		for _, key := range keys {
			stale[key] = true
		}
		return nil
	}))
	if len(stale) != len(want) {
		t.Errorf("ListStale finds %d of %d", len(stale), len(want))
	}
	for i := range writes {
		writes[i].Deleted, writes[i].Version = true, record.FirstOf(3)
	}
	_, err = target.Apply(d.ctx, writes)
	d.ok(err)
	if left := d.text(`SELECT count(*) || ' ' || (SELECT count(*) FROM migrator_target.m WHERE deleted) FROM "The Target"`); left != "0 12" {
		t.Errorf("after the deletes: %s", left)
	}
}
