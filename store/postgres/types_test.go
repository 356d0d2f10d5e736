package postgres_test

import (
	"testing"

	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/postgres"
)

// kinds is a table of every kind of type, with odd names. Each value says what its
// canonical text must be.
const kindsDDL = `
CREATE TYPE mood AS ENUM ('sad', 'so so', 'NULL');
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN price AS numeric(30,10) CHECK (VALUE > -1000000);
CREATE DOMAIN money_off AS price;
CREATE DOMAIN tags AS text[];
CREATE TABLE "Order Items" (
	dropped int,
	"user" uuid,
	"Line, No" int4,
	note text,
	flag bool, i2 int2, i8 int8, n numeric, n2 money_off, f8 float8, f4 float4,
	c char(5), v varchar(10), nm name, b bytea, d date, t time, tz timetz, ts timestamp, tstz timestamptz, iv interval,
	j json, jb jsonb, m mood, r int4range, ip inet, x xml, bits bit(3), pt point, p pair, bx box[],
	ai int[], an numeric[], af float8[], at text[], ab bool[], ay bytea[], ad timestamptz[], aj jsonb[], am mood[], dt tags,
	g int GENERATED ALWAYS AS ("Line, No" * 2) STORED,
	PRIMARY KEY ("user", "Line, No"),
	UNIQUE ("Line, No", "user")
);
ALTER TABLE "Order Items" DROP COLUMN dropped`

type kindCase struct {
	column, sql string // SQL of the value
	kind        record.Kind
	want        string
}

var kindCases = []kindCase{
	{"note", `''`, record.Text, ""},
	{"note", `'naïve 🦖 ' || chr(1) || E'\t\n"\\'`, record.Text, "naïve 🦖 \x01\t\n\"\\"},
	{"flag", `true`, record.Bool, "true"},
	{"flag", `false`, record.Bool, "false"},
	{"i2", `-32768`, record.Int, "-32768"},
	{"i8", `9223372036854775807`, record.Int, "9223372036854775807"},
	{"n", `12.500`, record.Decimal, "12.500"},
	{"n", `'NaN'`, record.Decimal, "NaN"},
	{"n", `1e-30`, record.Decimal, "0.000000000000000000000000000001"},
	{"n2", `12345678901234567890.0123456789`, record.Decimal, "12345678901234567890.0123456789"},
	{"f8", `0.1`, record.Float, "0.1"},
	{"f8", `'-Infinity'`, record.Float, "-Infinity"},
	{"f8", `5e-324`, record.Float, "5e-324"},
	{"f4", `0.1`, record.Float32, "0.1"},
	{"f4", `'NaN'`, record.Float32, "NaN"},
	{"c", `'ab'`, record.Text, "ab   "},
	{"v", `'ab '`, record.Text, "ab "},
	{"nm", `'a name'`, record.Text, "a name"},
	{"b", `'\x'`, record.Bytes, ""},
	{"b", `'\x00ff5c'`, record.Bytes, "\x00\xff\\"},
	{"d", `'2024-02-29'`, record.Date, "2024-02-29"},
	{"d", `'0044-03-15 BC'`, record.Date, "0044-03-15 BC"},
	{"d", `'infinity'`, record.Date, "infinity"},
	{"t", `'24:00:00'`, record.TimeOfDay, "24:00:00"},
	{"tz", `'04:05:06.7-08:30'`, record.TimeOfDay, "04:05:06.7-08:30"},
	{"ts", `'2024-02-29 12:00:00.1200'`, record.Timestamp, "2024-02-29T12:00:00.12"},
	{"ts", `'0044-03-15 00:00:00 BC'`, record.Timestamp, "0044-03-15T00:00:00 BC"},
	{"ts", `'-infinity'`, record.Timestamp, "-infinity"},
	{"tstz", `'2024-02-29 12:00:00+02:30'`, record.TimestampTZ, "2024-02-29T09:30:00Z"},
	{"tstz", `'0044-03-15 00:00:00Z BC'`, record.TimestampTZ, "0044-03-15T00:00:00Z BC"},
	{"tstz", `'infinity'`, record.TimestampTZ, "infinity"},
	{"tstz", `'12024-12-31 23:59:59.999999Z'`, record.TimestampTZ, "12024-12-31T23:59:59.999999Z"},
	{"iv", `'1 year -2 mons 3 days 04:05:06.7'`, record.Interval, "P10M3DT4H5M6.7S"},
	{"iv", `'0'`, record.Interval, "PT0S"},
	{"j", `'{"b" : 1, "b":2}'`, record.JSON, `{"b" : 1, "b":2}`},
	{"jb", `'null'`, record.JSON, "null"},
	{"jb", `'{"b":[1.50,{"a":null}]}'`, record.JSON, `{"b": [1.50, {"a": null}]}`},
	{"m", `'so so'`, record.Other, "so so"},
	{"r", `'[1,5)'`, record.Other, "[1,5)"},
	{"ip", `'10.0.0.0/8'`, record.Other, "10.0.0.0/8"},
	{"x", `'<a b="c">&amp;</a>'`, record.Other, `<a b="c">&amp;</a>`},
	{"bits", `'101'`, record.Other, "101"},
	{"pt", `'(1.5,-2)'`, record.Other, "(1.5,-2)"},
	{"p", `ROW(1, 'a "quoted", b')`, record.Other, `(1,"a ""quoted"", b")`},
	{"bx", `'{(1,2),(0,0);(3,4),(1,1)}'`, record.Array, `["(1,2),(0,0)","(3,4),(1,1)"]`},
	{"ai", `'{}'`, record.Array, `[]`},
	{"ai", `'{{1,2},{3,NULL}}'`, record.Array, `[[1,2],[3,null]]`},
	{"ai", `'[0:1]={1,2}'`, record.Array, `"[0:1]={1,2}"`},
	{"an", `'{1.50,NaN,-Infinity,12345678901234567890.1}'`, record.Array, `[1.50,"NaN","-Infinity",12345678901234567890.1]`},
	{"af", `'{0.1,Infinity,1e300}'`, record.Array, `[0.1,"Infinity",1e+300]`},
	{"at", `ARRAY['', 'NULL', NULL, 'a,b', '{"x\', E'tab\t\n', '🦖', ' ']`, record.Array, `["","NULL",null,"a,b","{\"x\\","tab\u0009\n","🦖"," "]`},
	{"ab", `'{t,f,NULL}'`, record.Array, `[true,false,null]`},
	{"ay", `ARRAY['\x00ff'::bytea, '\x']`, record.Array, `["AP8=",""]`},
	{"ad", `ARRAY['2024-02-29 12:00:00Z'::timestamptz, 'infinity']`, record.Array, `["2024-02-29T12:00:00Z","infinity"]`},
	{"aj", `ARRAY['[1, {"a": "}"}]'::jsonb, 'null', NULL, '"x"']`, record.Array, `"{\"[1, {\\\"a\\\": \\\"}\\\"}]\",\"null\",NULL,\"\\\"x\\\"\"}"`},
	{"aj", `ARRAY['[1, {"a": "}"}]'::jsonb, NULL, '"x"', '0']`, record.Array, `[[1, {"a": "}"}],null,"x",0]`},
	{"am", `'{sad,"NULL",NULL}'`, record.Array, `["sad","NULL",null]`},
	{"dt", `'{a,"b c"}'`, record.Array, `["a","b c"]`},
}

func TestEveryType(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(kindsDDL)
	m := &migration.Config{Name: "kinds", Legacy: migration.Legacy{Part: &postgres.LegacyConfig{Table: `"Order Items"`}}}
	keys := make([]record.Key, len(kindCases))
	for i, c := range kindCases {
		d.exec(`INSERT INTO "Order Items" ("user", "Line, No", "` + c.column + `") VALUES ('F47AC10B-58CC-4372-A567-0E02B2C3D479', ` + itoa(i) + `, ` + c.sql + `)`)
		keys[i] = record.MakeKey("f47ac10b-58cc-4372-a567-0e02b2c3d479", itoa(i))
	}
	l := d.legacy(m)
	schema := l.Schema()
	if len(schema.Key) != 2 || schema.Fields[schema.Key[0]].Name != "user" || schema.Fields[schema.Key[0]].Kind != record.UUID {
		t.Fatalf("the key is %v of %+v", schema.Key, schema.Fields)
	}
	if n2 := schema.Fields[schema.Index("n2")]; n2.Type != "money_off" {
		t.Errorf("a domain's type is %q", n2.Type)
	}
	rows, err := l.Lookup(d.ctx, keys)
	d.ok(err)
	for i, c := range kindCases {
		at := schema.Index(c.column)
		if schema.Fields[at].Kind != c.kind {
			t.Errorf("column %q (%s) is of kind %s, want %s", c.column, schema.Fields[at].Type, schema.Fields[at].Kind, c.kind)
		}
		if !rows[i].Found || rows[i].Record[at] != record.TextValue(c.want) {
			t.Errorf("%s %s: %q, want %q", c.column, c.sql, rows[i].Record[at].Text, c.want)
		}
		for f := range schema.Fields {
			name := schema.Fields[f].Name
			if name != c.column && name != "user" && name != "Line, No" && name != "g" && rows[i].Record[f] != record.NullValue {
				t.Errorf("%s %s: field %q is %v, want NULL", c.column, c.sql, name, rows[i].Record[f])
			}
		}
	}

	// What is read is what is written: to another table, and back through the fence.
	d.exec(`CREATE TABLE "The Target" (LIKE "Order Items" INCLUDING ALL)`)
	target := d.target(m, schema)
	writes := make([]store.Write, len(rows))
	for i, r := range rows {
		writes[i] = store.Write{Key: r.Key, Record: r.Record, Version: record.MakeVersion(1, 0, 1)}
	}
	results, err := target.Apply(d.ctx, writes)
	d.ok(err)
	for i, r := range results {
		if r.Outcome != store.Applied {
			t.Errorf("%s %s: %s, %v", kindCases[i].column, kindCases[i].sql, r.Outcome, r.Err)
		}
	}
	entries, err := target.Get(d.ctx, keys)
	d.ok(err)
	for i, e := range entries {
		for f := range e.Record {
			if e.Record[f] != rows[i].Record[f] {
				t.Errorf("%s: the target says %q of field %q, legacy %q", kindCases[i].sql, e.Record[f].Text, schema.Fields[f].Name, rows[i].Record[f].Text)
			}
		}
	}
	if _, err := l.RaiseFence(d.ctx, "A", wait); err != nil {
		t.Fatal(err)
	}
	before := d.text(`SELECT string_agg(o::text, E'\n' ORDER BY "Line, No") FROM "Order Items" o WHERE aj IS NULL`)
	run, err := l.BeginReplay(d.ctx, "A")
	d.ok(err)
	back, err := l.Replay(d.ctx, run, rows)
	d.ok(err)
	if len(back.Refused) > 0 {
		t.Errorf("refused: %v", back.Refused)
	}
	for i, r := range back.Rows {
		for f := range r.Record {
			if r.Record[f] != rows[i].Record[f] {
				t.Errorf("%s: field %q came back as %q, not %q", kindCases[i].sql, schema.Fields[f].Name, r.Record[f].Text, rows[i].Record[f].Text)
			}
		}
	}
	for table, now := range map[string]string{
		"legacy": d.text(`SELECT string_agg(o::text, E'\n' ORDER BY "Line, No") FROM "Order Items" o WHERE aj IS NULL`),
		"target": d.text(`SELECT string_agg(o::text, E'\n' ORDER BY "Line, No") FROM "The Target" o WHERE aj IS NULL`),
	} {
		if now != before {
			t.Errorf("%s differs from what was read:\n%s\nwas\n%s", table, now, before)
		}
	}
}

func TestFieldsAndExclude(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(kindsDDL)
	m := &migration.Config{
		Name: "kinds", Legacy: migration.Legacy{Part: &postgres.LegacyConfig{Table: `"Order Items"`, Key: []string{"Line, No", "user"}}},
		Fields: []migration.Field{{Name: "note", Target: "remark"}, {Name: "user"}, {Name: "Line, No"}},
	}
	s := d.legacy(m).Schema()
	if len(s.Fields) != 3 || s.Fields[0].Target != "remark" || s.Fields[1].Target != "user" || s.Key[0] != 2 || s.Key[1] != 1 {
		t.Errorf("the schema is %+v", s)
	}
	m = &migration.Config{Name: "kinds", Legacy: migration.Legacy{Part: &postgres.LegacyConfig{Table: `"Order Items"`}}, Exclude: []string{"pt", "bx"}}
	s = d.legacy(m).Schema()
	if s.Index("pt") >= 0 || s.Index("bx") >= 0 || s.Index("note") < 0 {
		t.Errorf("excluded columns are in %+v", s)
	}
}
