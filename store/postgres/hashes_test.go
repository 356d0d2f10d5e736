package postgres_test

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/postgres"
)

// lookalikes are, per type, values that a weak hash would not distinguish.
var lookalikes = map[string][]string{
	"bool":    {"true", "false"},
	"int2":    {"0", "1", "-1", "-32768"},
	"int4":    {"0", "1", "-1", "2147483647", "-2147483648"},
	"int8":    {"0", "1", "-1", "4294967295", "4294967296", "-4294967296", "4294967297", "9223372036854775807", "-9223372036854775808", "18446744069414584320 - 9223372036854775808"},
	"numeric": {"0", "0.0", "1", "-1", "1.0", "10", "0.1", "10000", "1e-20", "-1e20", "'NaN'", "'Infinity'", "'-Infinity'"},
	"float8":  {"0", "1", "-1", "0.1", "5e-324", "'NaN'", "'Infinity'", "'-Infinity'"},
	"float4":  {"0", "1", "0.1", "'NaN'", "'Infinity'"},
	"text":    {"''", "'a'", "'A'", "'a '", "' a'", "'é'", "U&'e\\0301'", "E'\\t'", "'NULL'", "'0'"},
	"bpchar":  {"''", "'a'", "'a  '", "' a'"},
	"bytea":   {`''`, `'\x00'`, `'\x0000'`, `'\x61'`, `'\\x61'`},
	"date":    {"'2000-01-01'", "'2000-01-02'", "'0044-03-15 BC'", "'infinity'", "'-infinity'"},
	"time":    {"'00:00'", "'12:00'", "'12:00:00.000001'", "'24:00'"},
	"timestamp": {
		"'2000-01-01'", "'1970-01-01'", "'2000-01-01 00:00:00.000001'", "'2000-01-01 01:11:34.967296'", "'1999-12-31 22:48:25.032704'", "'infinity'", "'-infinity'", "'0044-03-15 BC'",
		"'294000-01-01'", "'294000-01-01 00:00:00.000001'",
	},
	"timestamptz": {"'2000-01-01Z'", "'2000-01-01 00:00:00.000001Z'", "'2000-01-01 01:00:00Z'", "'infinity'", "'-infinity'"},
	"interval":    {"'1 month'", "'30 days'", "'720 hours'", "'0'", "'-1 month'"},
	"uuid":        {"'00000000-0000-0000-0000-000000000000'", "'00000000-0000-0000-0000-000000000001'", "'00000001-0000-0000-0000-000000000000'"},
	"jsonb": {
		"'1'", "'-1'", "'1.0'", `'"1"'`, "'null'", "'true'", "'false'", "'[]'", "'{}'", "'[[]]'", "'[1,2]'", "'[[1],2]'", "'[[1,2]]'", "'[1,[2]]'", "'[2,1]'",
		`'{"a":{"b":1},"c":2}'`, `'{"a":{"b":1,"c":2}}'`, `'{"a":1,"b":2}'`, `'{"a":2,"b":1}'`, `'{"a":[]}'`, `'{"a":{}}'`, `'{"a":null}'`, `'""'`,
	},
	"json":   {`'{"a":1}'`, `'{"a": 1}'`, `'[1,2]'`, `'[[1],2]'`},
	"inet":   {"'10.0.0.1'", "'10.0.0.1/8'", "'10.0.0.1/32'"},
	"text[]": {"'{}'", "'{NULL}'", "'{\"NULL\"}'", "'{a,b}'", "'{{a},{b}}'", "'{{a,b}}'", "'{\"a,b\"}'", "'{\"\"}'"},
	"int[]":  {"'{1,2}'", "'{2,1}'", "'{{1,2}}'", "'[0:1]={1,2}'"},
}

// TestEqualHashesMeanEqualValues pairs each value of a type with each other value and
// NULL: values with equal hashes are equal for the comparison, and a value's hash is
// reproducible.
func TestEqualHashesMeanEqualValues(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	types := slices.Sorted(maps.Keys(lookalikes))
	pairs := 0
	lookalikes := maps.Clone(lookalikes)
	for _, typ := range types {
		lookalikes[typ] = append(slices.Clip(lookalikes[typ]), "NULL")
		pairs = max(pairs, len(lookalikes[typ])*len(lookalikes[typ]))
	}
	var insert strings.Builder
	for side, table := range []string{"l", `"The Target"`} {
		fmt.Fprintf(&insert, "CREATE TABLE %s (id bigint PRIMARY KEY", table)
		for i, typ := range types {
			fmt.Fprintf(&insert, ", v%d %s", i, typ)
		}
		insert.WriteString(");")
		for id := range pairs {
			fmt.Fprintf(&insert, "INSERT INTO %s SELECT %d", table, id)
			for _, typ := range types {
				values, n := lookalikes[typ], len(lookalikes[typ])
				fmt.Fprintf(&insert, ", (%s)::%s", values[[]int{id / n % n, id % n}[side]], typ)
			}
			insert.WriteString(";")
		}
	}
	d.exec(insert.String())
	l := d.legacy(testConfig("l"))
	target := d.target(&migration.Config{Name: "m"}, l.Schema())
	compare, err := record.NewComparer(l.Schema(), nil)
	d.ok(err)
	ours, theirs := records(d, l), entries(d, target, pairs)
	for i, typ := range types {
		values, n := lookalikes[typ], int64(len(lookalikes[typ]))
		h := store.Hashing{Fields: []int{0, i + 1}, Seed: rand.Int64()}
		left, err := l.Hashes(d.ctx, everything, h)
		d.ok(err)
		right, err := target.Hashes(d.ctx, everything, h)
		d.ok(err)
		if len(left) != pairs || len(right) != pairs {
			t.Fatalf("%d and %d hashes of %d rows", len(left), len(right), pairs)
		}
		for id := range n * n {
			a, b := values[id/n], values[id%n]
			one, other := make(record.Record, len(types)+1), make(record.Record, len(types)+1)
			one[i+1], other[i+1] = ours[id][i+1], theirs[id][i+1]
			switch same := left[id] == right[id]; {
			case a == b && !same:
				t.Errorf("%s: %s hashes in two ways", typ, a)
			case same && !compare.Equal(one, other):
				t.Errorf("%s: %s and %s have one hash", typ, a, b)
			}
		}
	}
}

var everything = store.Span{From: math.MinInt64, To: math.MaxInt64}

func records(d *database, l *postgres.Legacy) map[int64]record.Record {
	all := map[int64]record.Record{}
	chunks, err := l.Chunks(d.ctx, 1000)
	d.ok(err)
	for _, c := range chunks {
		d.ok(l.Scan(d.ctx, c, func(r store.Row) error {
			id, err := strconv.ParseInt(string(r.Key), 10, 64)
			all[id] = r.Record.Clone()
			return err
		}))
	}
	return all
}

func entries(d *database, target *postgres.Target, n int) map[int64]record.Record {
	keys := make([]record.Key, n)
	for id := range keys {
		keys[id] = record.Key(strconv.Itoa(id))
	}
	found, err := target.Get(d.ctx, keys)
	d.ok(err)
	all := map[int64]record.Record{}
	for id, e := range found {
		all[int64(id)] = e.Record
	}
	return all
}

// TestChecksumsDetectExchangedValues: the checksum changes if two rows exchange a value,
// or two keys or two columns are exchanged.
func TestChecksumsDetectExchangedValues(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(`CREATE TABLE l (id bigint PRIMARY KEY, a text, b text, n int, x float8, at timestamptz);
		INSERT INTO l SELECT i, 'a' || i, 'b' || i, CASE WHEN i % 2 = 0 THEN i END, CASE WHEN i % 3 = 0 THEN 0 ELSE i END, now() + i * interval '1 hour' FROM generate_series(-500, 500) i;
		CREATE TABLE "The Target" (LIKE l INCLUDING ALL)`)
	l := d.legacy(testConfig("l"))
	target := d.target(&migration.Config{Name: "m"}, l.Schema())
	for what, damage := range map[string]string{
		"nothing":           "",
		"a text exchanged":  `UPDATE "The Target" SET a = CASE id WHEN 1 THEN 'a2' ELSE 'a1' END WHERE id IN (1, 2)`,
		"all texts moved":   `UPDATE "The Target" SET a = 'a' || CASE id WHEN 500 THEN -500 ELSE id + 1 END`,
		"NULL exchanged":    `UPDATE "The Target" SET n = CASE id WHEN 1 THEN 2 END WHERE id IN (1, 2)`,
		"zero exchanged":    `UPDATE "The Target" SET x = CASE id WHEN 3 THEN 4 ELSE 0 END WHERE id IN (3, 4)`,
		"zero became NULL":  `UPDATE "The Target" SET x = NULL WHERE x = 0`,
		"columns exchanged": `UPDATE "The Target" SET a = b, b = a WHERE id = 7`,
		"an instant moved":  `UPDATE "The Target" SET at = at + interval '1 microsecond' WHERE id = 7`,
		"keys exchanged":    `UPDATE "The Target" SET id = 10007 WHERE id = 7; UPDATE "The Target" SET id = 7 WHERE id = 8; UPDATE "The Target" SET id = 8 WHERE id = 10007`,
	} {
		d.exec(`TRUNCATE "The Target"; INSERT INTO "The Target" TABLE l`)
		if damage != "" {
			d.exec(damage)
		}
		h := store.Hashing{Fields: []int{0, 1, 2, 3, 4, 5}, Seed: rand.Int64()}
		ours, err := l.Checksums(d.ctx, everything, 0, h)
		d.ok(err)
		theirs, err := target.Checksums(d.ctx, everything, 0, h)
		d.ok(err)
		if ours[0].Rows != 1001 || (ours[0] == theirs[0]) != (damage == "") {
			t.Errorf("%s: %v and %v", what, ours, theirs)
		}
		// In parts: those that damage has not reached agree.
		span := store.Span{From: -500, To: 500}
		if ours, err = l.Checksums(d.ctx, span, 100, h); err != nil || len(ours) != 11 || ours[10].Rows != 1 {
			t.Fatal(ours, err)
		}
		if theirs, err = target.Checksums(d.ctx, span, 100, h); err != nil {
			t.Fatal(err)
		}
		if what == "a text exchanged" && (ours[5] == theirs[5] || ours[4] != theirs[4] || ours[10] != theirs[10]) {
			t.Errorf("%s: %v and %v", what, ours, theirs)
		}
	}
}

// TestHashFormsDiffer: columns whose texts may have different meanings have different forms;
// columns that differ in width only have the same form.
func TestHashFormsDiffer(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(`CREATE TABLE l (id int PRIMARY KEY, n numeric(10,2), j json, v varchar(10), i int2, c char(3), tags text[])`)
	l := d.legacy(testConfig("l"))
	for ddl, same := range map[string]bool{
		"id bigint PRIMARY KEY, n numeric(10,2), j json, v text, i int8, c char(3), tags text[]":    true,
		"id bigint PRIMARY KEY, n numeric(10,2), j json, v text, i int8, c char(5), tags text[]":    false, // converted
		"id bigint PRIMARY KEY, n numeric, j json, v text, i int8, c char(3), tags text[]":          false,
		"id bigint PRIMARY KEY, n numeric(10,2), j jsonb, v text, i int8, c char(3), tags text[]":   false,
		"id bigint PRIMARY KEY, n numeric(10,2), j json, v text, i int8, c char(3), tags varchar[]": false,
		"id bigint PRIMARY KEY, n numeric(10,2), j json, v text, i text, c char(3), tags text[]":    false,
	} {
		d.exec(`DROP TABLE IF EXISTS "The Target"; CREATE TABLE "The Target" (` + ddl + `)`)
		target := d.target(&migration.Config{Name: "m"}, l.Schema())
		fields := []int{0, 1, 2, 3, 4, 5, 6}
		ours, err := l.HashForm(d.ctx, fields)
		d.ok(err)
		theirs, err := target.HashForm(d.ctx, fields)
		d.ok(err)
		if ours == "" || (ours == theirs) != same {
			t.Errorf("%s:\n%s\n\n%s", ddl, ours, theirs)
		}
	}
}

// TestSpansCoverAllKeys: each key is in exactly one span, and the spans cover all integers.
func TestSpansCoverAllKeys(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(`CREATE TABLE l (id bigint PRIMARY KEY); INSERT INTO l VALUES (-9223372036854775808), (9223372036854775807); INSERT INTO l SELECT i * i * i FROM generate_series(-1000, 1000) i;
		CREATE TABLE none (id smallint PRIMARY KEY); CREATE TABLE texts (id text PRIMARY KEY); CREATE TABLE two (a int, b int, PRIMARY KEY (a, b))`)
	for table, want := range map[string]int{"l": 21, "none": 1} {
		l := d.legacy(testConfig(table))
		chunks, ok, err := l.Spans(d.ctx, 100)
		d.ok(err)
		spans := make([]store.Span, len(chunks))
		for i, c := range chunks {
			if spans[i], ok = l.SpanOf(c); !ok {
				t.Fatalf("%s: chunk %d is not a span", table, i)
			}
		}
		if !ok || len(spans) != want || spans[0].From != math.MinInt64 || spans[len(spans)-1].To != math.MaxInt64 {
			t.Fatalf("%s: %v spans: %+v", table, len(spans), spans)
		}
		for i := range spans[1:] {
			if spans[i+1].From != spans[i].To+1 || chunks[i].Rows != 100 {
				t.Errorf("%+v follows %+v of %d rows", spans[i+1], spans[i], chunks[i].Rows)
			}
		}
	}
	for _, table := range []string{"texts", "two"} {
		l := d.legacy(testConfig(table))
		form, err := l.HashForm(d.ctx, []int{0})
		d.ok(err)
		if _, ok, err := l.Spans(d.ctx, 100); ok || err != nil || form != "" {
			t.Errorf("%s has spans (%v) or a form %q", table, err, form)
		}
	}
}
