package postgres_test

import (
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/postgres"
)

// TestKeysByTheCatalog: what a type is made of decides whether it is a key, and so does the unique
// index, wherever the type, the column or the index has its collation from.
func TestKeysByTheCatalog(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(`CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
		CREATE EXTENSION citext;
		CREATE DOMAIN ci AS citext; CREATE TYPE inner_pair AS (a int, b ci); CREATE TYPE outer_pair AS (a int, b inner_pair); CREATE DOMAIN outers AS outer_pair[];
		CREATE DOMAIN loose_text AS text COLLATE loose; CREATE TYPE loose_pair AS (a int, b text COLLATE loose); CREATE TYPE exact_pair AS (a int, b text COLLATE "C");
		CREATE TYPE loose_range AS RANGE (subtype = text, collation = loose); CREATE TYPE exact_range AS RANGE (subtype = text);
		CREATE DOMAIN price AS numeric(12,2); CREATE TYPE priced AS (a price, b numeric(12,2)); CREATE TYPE mood AS ENUM ('a', 'b'); CREATE DOMAIN moods AS mood;
		CREATE FUNCTION backwards(int4, int4) RETURNS int4 LANGUAGE sql IMMUTABLE STRICT RETURN btint4cmp($2, $1);
		CREATE OPERATOR CLASS odd_ops FOR TYPE int4 USING btree AS OPERATOR 1 >, OPERATOR 2 >=, OPERATOR 3 =, OPERATOR 4 <=, OPERATOR 5 <, FUNCTION 1 backwards(int4, int4)`)
	for i, c := range []struct {
		ddl string // of the table; k is the key
		why string // "": it is accepted
	}{
		{"k outers PRIMARY KEY", `domain outers: its elements: its field "b": its field "b": domain ci: citext`},
		{"k citext[] PRIMARY KEY", "its elements: citext"},
		{"k loose_text PRIMARY KEY", "collation"},
		{"k loose_text[] PRIMARY KEY", "collation"},
		{"k loose_pair PRIMARY KEY", `its field "b": its collation`},
		{"k exact_pair PRIMARY KEY", ""},
		{"k loose_range PRIMARY KEY", "its bounds: its collation"},
		{"k loose_multirange PRIMARY KEY", "its ranges: its bounds: its collation"},
		{"k exact_range PRIMARY KEY", ""},
		{"k text PRIMARY KEY", ""},
		{"k text COLLATE loose PRIMARY KEY", "its collation"},
		{"k text NOT NULL; CREATE UNIQUE INDEX ON t (k COLLATE loose)", "of the unique index: its collation"},
		{"k text PRIMARY KEY; CREATE UNIQUE INDEX ON t (k COLLATE loose)", "of the unique index: its collation"},
		{"k text NOT NULL; CREATE UNIQUE INDEX ON t (k text_pattern_ops)", ""},
		{"k text COLLATE loose NOT NULL; CREATE UNIQUE INDEX ON t (k COLLATE \"C\")", "its collation"},
		{"k int NOT NULL; CREATE UNIQUE INDEX ON t (k odd_ops)", "class of operators"},
		{"k bpchar PRIMARY KEY", "'a' and 'a '"},
		{"k bpchar[] PRIMARY KEY", "its elements: bpchar"},
		{"k char(5) PRIMARY KEY", ""},
		{"k char(5)[] PRIMARY KEY", ""},
		{"k numeric PRIMARY KEY", "1.0 and 1.00"},
		{"k numeric(12,2) PRIMARY KEY", ""},
		{"k price PRIMARY KEY", ""},
		{"k price[] PRIMARY KEY", ""},
		{"k priced PRIMARY KEY", `its field "b": numeric`},
		{"k numrange PRIMARY KEY", "its bounds: numeric"},
		{"k int4range PRIMARY KEY", ""},
		{"k int4multirange PRIMARY KEY", ""},
		{"k float4 PRIMARY KEY", "0 and -0"},
		{"k interval PRIMARY KEY", "30 days"},
		{"k jsonb PRIMARY KEY", "jsonb"},
		{"k tsvector PRIMARY KEY", "nothing says"},
		{"k mood PRIMARY KEY", ""},
		{"k mood[] PRIMARY KEY", ""},
		{"k moods PRIMARY KEY", "domain over an enum"},
		{"k timetz PRIMARY KEY", ""},
		{"k bytea PRIMARY KEY", ""},
		{"k inet PRIMARY KEY", ""},
		{"k cidr PRIMARY KEY", ""},
		{"k varchar PRIMARY KEY", ""},
		{"k name PRIMARY KEY", ""},
		{"k oidvector PRIMARY KEY", ""},
	} {
		d.exec("DROP TABLE IF EXISTS t")
		columns, rest, _ := strings.Cut(c.ddl, ";")
		d.exec("CREATE TABLE t (" + columns + ");" + rest)
		m := testConfig("t")
		m.Legacy.Part.(*postgres.LegacyConfig).Key = []string{"k"}
		l, err := postgres.OpenLegacy(d.ctx, m, d.url)
		d.ok(err)
		checks, err := l.Check(d.ctx)
		l.Close()
		d.ok(err)
		for _, check := range checks {
			if check.Name != "legacy-key" {
				continue
			}
			if refused := check.Result == store.Refused; refused != (c.why != "") || !strings.Contains(check.Detail, c.why) {
				t.Errorf("%d, %s: %s: %s", i, c.ddl, check.Result, check.Detail)
			}
		}
	}
}

// TestKeysWithNull: a composite with a field that is NULL is not NULL.
func TestKeysWithNull(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(`CREATE TYPE pair AS (a int, b text); CREATE TABLE items (k pair PRIMARY KEY, n int); CREATE TABLE "The Target" (LIKE items INCLUDING ALL);
		INSERT INTO items VALUES (ROW(1, NULL), 1), (ROW(NULL, NULL), 2), (ROW(NULL, ''), 3)`)
	m := testConfig("items")
	l := d.legacy(m)
	target := d.target(m, l.Schema())
	var writes []store.Write
	var keys []record.Key
	chunks, err := l.Chunks(d.ctx, 100)
	d.ok(err)
	d.ok(l.Scan(d.ctx, chunks[0], func(r store.Row) error {
		writes = append(writes, store.Write{Key: r.Key, Record: r.Record.Clone(), Version: record.MakeVersion(1, 0, 1)})
		keys = append(keys, r.Key)
		return nil
	}))
	_, err = target.Apply(d.ctx, writes)
	d.ok(err)
	rows, err := l.Lookup(d.ctx, keys)
	d.ok(err)
	entries, err := target.Get(d.ctx, keys)
	d.ok(err)
	for i := range keys {
		if !rows[i].Found || entries[i].Presence != store.Live || entries[i].Record[1] != rows[i].Record[1] {
			t.Errorf("%q: legacy %+v, target %+v", keys[i], rows[i], entries[i])
		}
	}
	if len(keys) != 3 {
		t.Errorf("%q", keys)
	}
}

// TestAnUnknownTypeIsTried: of a type that is not PostgreSQL's or contrib's, plan reads some texts
// back.
func TestAnUnknownTypeIsTried(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	// lossy prints the bits of a number that it reads as a number; exact is one that it reads.
	for name, functions := range map[string][2]string{"lossy": {"float4in", "int4out"}, "exact": {"int4in", "int4out"}} {
		d.exec("CREATE TYPE " + name + "; CREATE FUNCTION " + name + "_in(cstring) RETURNS " + name + " IMMUTABLE STRICT LANGUAGE internal AS '" + functions[0] + "';" +
			"CREATE FUNCTION " + name + "_out(" + name + ") RETURNS cstring IMMUTABLE STRICT LANGUAGE internal AS '" + functions[1] + "';" +
			"CREATE TYPE " + name + " (input = " + name + "_in, output = " + name + "_out, internallength = 4, passedbyvalue, alignment = int4)")
	}
	d.exec("CREATE TABLE good (id int PRIMARY KEY, v exact, w exact[]); INSERT INTO good VALUES (1, '7', '{7}'); CREATE TABLE bad (id int PRIMARY KEY, v lossy[]); INSERT INTO bad VALUES (1, '{7}')")
	d.wants(d.legacy(testConfig("good")), "legacy-types", store.Good)
	d.wants(d.legacy(testConfig("bad")), "legacy-types", store.Refused)
}
