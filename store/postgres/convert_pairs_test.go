package postgres

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// pairCase is a column of one type in legacy and another in the target.
type pairCase struct {
	from, to string
	as, zone string
	fit      fit
	moved    []string // SQL of legacy's values
	stay     []string // of those that are refused one by one
	damage   []string // SQL of target values that are not the first of moved
	equal    []string // of those that are the same as it, though another program wrote them
	reprints bool     // values may come back in another text, which legacy's type or the rule calls equal
}

var ints = []string{"0", "5", "-5", "NULL"}

var pairCases = []pairCase{
	// Numbers.
	{from: "int", to: "bigint", fit: lossless, moved: append(ints, "2147483647", "-2147483648"), damage: []string{"1", "NULL", "2147483648"}},
	{from: "bigint", to: "int", fit: partly, moved: ints, stay: []string{"2147483648"}, damage: []string{"1"}},
	{from: "smallint", to: "int", fit: lossless, moved: append(ints, "32767"), damage: []string{"1"}},
	{from: "int", to: "numeric(12,2)", fit: lossless, moved: append([]string{"5"}, append(ints, "2147483647")...), damage: []string{"5.01", "'NaN'", "-5", "NULL"}, equal: []string{"5.00"}},
	{from: "int", to: "numeric(5,2)", fit: partly, moved: ints, stay: []string{"1000"}, damage: []string{"0.01"}},
	{from: "int", to: "numeric", fit: lossless, moved: append([]string{"5"}, ints...), damage: []string{"5.01", "50"}, equal: []string{"5.000"}},
	{from: "bigint", to: "numeric", fit: lossless, moved: []string{"9007199254740993", "-9223372036854775808", "100"}, damage: []string{"9007199254740992", "9007199254740993.5"}},
	{from: "bigint", to: "numeric(19,0)", fit: lossless, moved: []string{"9223372036854775807", "0"}, damage: []string{"9223372036854775806"}},
	{from: "int", to: "numeric(5,-2)", fit: refused},
	{from: "int", to: "double precision", fit: lossless, moved: append(ints, "2147483647", "100000000"), damage: []string{"0.5", "'NaN'", "'Infinity'"}},
	{from: "int", to: "real", fit: needsAs},
	{from: "int", to: "real", as: "double", fit: partly, moved: append(ints, "16777216"), stay: []string{"16777217"}, damage: []string{"1"}},
	{from: "bigint", to: "double precision", fit: needsAs},
	{from: "bigint", to: "double precision", as: "double", fit: partly, moved: append(ints, "9007199254740992"), stay: []string{"9007199254740993"}, damage: []string{"1"}},
	{from: "numeric(12,0)", to: "bigint", fit: lossless, moved: []string{"5", "-5", "999999999999"}, stay: []string{"'NaN'"}, damage: []string{"6"}},
	{from: "numeric(12,0)", to: "int", fit: partly, moved: []string{"5"}, stay: []string{"999999999999"}, damage: []string{"6"}},
	{from: "numeric(12,2)", to: "int", fit: needsAs},
	{from: "numeric(12,2)", to: "int", as: "int", fit: partly, moved: []string{"5", "0", "-7.00", "NULL"}, stay: []string{"5.01"}, damage: []string{"6"}},
	{from: "numeric", to: "bigint", as: "numeric", fit: partly, moved: []string{"5", "1e3", "5.00"}, stay: []string{"5.01", "1e30", "'NaN'"}, damage: []string{"6"}, reprints: true},
	{from: "numeric", to: "bigint", fit: needsAs},
	{from: "numeric", to: "numeric(12,2)", fit: partly, moved: []string{"5.5", "0", "-0.01", "1e2"}, stay: []string{"0.005", "1e11"}, damage: []string{"5.51"}, reprints: true},
	{from: "numeric(12,2)", to: "numeric", fit: lossless, moved: []string{"5.50", "0", "'NaN'"}, damage: []string{"5.501", "5.51"}, equal: []string{"5.5", "5.5000"}},
	{from: "numeric(12,2)", to: "numeric(14,4)", fit: lossless, moved: []string{"5.50", "-0.01"}, damage: []string{"5.5001"}},
	{from: "numeric(12,4)", to: "numeric(12,2)", fit: needsAs},
	{from: "numeric(12,4)", to: "numeric(12,2)", as: "numeric", fit: partly, moved: []string{"5.5", "0"}, stay: []string{"5.001"}, damage: []string{"5.51"}},
	{from: "numeric(12,2)", to: "numeric(10,2)", fit: partly, moved: []string{"5.5"}, stay: []string{"1234567890"}, damage: []string{"5.51"}},
	{from: "numeric(12,2)", to: "double precision", fit: lossless, moved: []string{"0.10", "5", "-9999999999.99", "0.01", "'NaN'"}, damage: []string{"0.11", "0.1000000001"}},
	{from: "numeric", to: "double precision", fit: needsAs},
	{from: "numeric", to: "double precision", as: "double", fit: partly, moved: []string{"0.1", "1e20", "0.0000001"}, stay: []string{"12345678901234567890.1"}, damage: []string{"0.2"}},
	{from: "double precision", to: "numeric", fit: lossless, moved: []string{"0.1", "1e20", "1e-7", "5e-324", "'NaN'", "'-Infinity'", "-1.5", "1234567.125"}, damage: []string{"0.10000000000000000001", "0.2", "'NaN'"}},
	{from: "double precision", to: "numeric(20,5)", fit: needsAs},
	{from: "double precision", to: "numeric(20,5)", as: "numeric", fit: partly, moved: []string{"0.1", "1e10", "'NaN'"}, stay: []string{"0.000001", "'Infinity'"}, damage: []string{"0.2"}},
	{from: "double precision", to: "bigint", as: "int", fit: partly, moved: []string{"5", "1e15"}, stay: []string{"5.5", "'NaN'"}, damage: []string{"6"}},
	{from: "real", to: "double precision", fit: lossless, moved: []string{"0.1", "1e10", "-1e-10", "'NaN'", "'Infinity'", "16777216"}, damage: []string{"0.100001", "0.10000000001"}, equal: []string{"0.1::real::double precision"}},
	{from: "double precision", to: "real", fit: needsAs},
	{from: "double precision", to: "real", as: "double", fit: partly, moved: []string{"0.1", "1.5"}, stay: []string{"0.123456789", "1e300"}, damage: []string{"0.2"}},
	{from: "real", to: "numeric", fit: lossless, moved: []string{"0.1", "1e10", "'NaN'"}, damage: []string{"0.100000001"}},

	// Booleans.
	{from: "boolean", to: "int", fit: lossless, moved: []string{"true", "false", "NULL"}, damage: []string{"0", "2", "-1", "NULL"}},
	{from: "boolean", to: "smallint", fit: lossless, moved: []string{"false"}, damage: []string{"1"}},
	{from: "boolean", to: "text", fit: lossless, moved: []string{"true", "false"}, damage: []string{"'false'", "'truth'"}},
	{from: "boolean", to: "numeric", fit: refused},
	{from: "int", to: "boolean", fit: needsAs},
	{from: "int", to: "boolean", as: "boolean", fit: partly, moved: []string{"1", "0", "NULL"}, stay: []string{"2", "-1"}, damage: []string{"false", "NULL"}},
	{from: "text", to: "boolean", fit: needsAs},
	{from: "text", to: "boolean", as: "boolean", fit: partly, moved: []string{"'yes'", "'false'", "' T '"}, stay: []string{"'2'", "''", "'o'"}, damage: []string{"false"}, reprints: true},

	// Dates and times.
	{
		from: "date", to: "timestamp", fit: lossless, moved: []string{"'2024-02-29'", "'infinity'", "'-infinity'", "'0044-03-15 BC'", "'294276-12-31'"}, stay: []string{"'5874897-12-31'"},
		damage: []string{"'2024-02-29 00:00:00.000001'", "'2024-03-01'", "'infinity'"},
	},
	{from: "date", to: "timestamptz", fit: needsAs},
	{
		from: "date", to: "timestamptz", as: "timestamptz", zone: "Europe/Berlin", fit: partly, moved: []string{"'2024-02-29'", "'infinity'", "'2024-03-31'"},
		damage: []string{"'2024-02-29 00:00:00Z'"}, equal: []string{"'2024-02-28 23:00:00Z'"},
	},
	{from: "timestamp", to: "date", fit: needsAs},
	{from: "timestamp", to: "date", as: "date", fit: partly, moved: []string{"'2024-02-29'", "'-infinity'", "'0044-03-15 BC'"}, stay: []string{"'2024-02-29 12:00'"}, damage: []string{"'2024-03-01'"}},
	{from: "timestamptz", to: "date", fit: refused},
	{from: "timestamptz", to: "timestamp", fit: needsAs},
	{
		from: "timestamptz", to: "timestamp", as: "timestamptz", zone: "UTC", fit: lossless,
		moved:  []string{"'2024-02-29 12:00:00.123456+02:30'", "'infinity'", "'-infinity'", "'0044-03-15 00:00:00Z BC'", "'294276-12-31 23:59:59Z'", "NULL"},
		damage: []string{"'2024-02-29 12:00:00.123456'", "'2024-02-29 09:30:00.123457'"}, equal: []string{"'2024-02-29 09:30:00.123456'"},
	},
	{
		from: "timestamptz", to: "timestamp", as: "timestamp", zone: "Europe/Berlin", fit: partly,
		moved: []string{"'2024-02-29 11:00:00Z'", "'2024-07-01 10:00:00Z'", "'2024-10-27 01:30:00Z'", "'1850-01-01 00:00:00Z'", "'0044-03-15 12:00:00Z BC'", "'infinity'"},
		stay:  []string{"'2024-10-27 00:30:00Z'"}, damage: []string{"'2024-02-29 11:00:00'"}, equal: []string{"'2024-02-29 12:00:00'"},
	},
	{from: "timestamp", to: "timestamptz", fit: needsAs},
	{
		from: "timestamp", to: "timestamptz", as: "timestamptz", zone: "America/New_York", fit: partly,
		moved: []string{"'2018-11-04 01:30'", "'2024-07-01 12:00'", "'2018-03-11 01:59:59.999999'", "'infinity'", "'0044-03-15 12:00:00 BC'", "'1700-01-01'"},
		stay:  []string{"'2018-03-11 02:30'"}, damage: []string{"'2018-11-04 05:30:00Z'", "'2018-11-04 07:30:00Z'"}, equal: []string{"'2018-11-04 06:30:00Z'", "'2018-11-04 01:30 America/New_York'"},
	},
	{from: "timestamp", to: "timestamptz", as: "timestamp", zone: "UTC", fit: lossless, moved: []string{"'2024-03-31 02:30'", "'-infinity'", "'4713-01-01 00:00 BC'"}, damage: []string{"'2024-03-31 02:30+01'"}},
	{from: "timestamp", to: "timestamp(3)", fit: partly, moved: []string{"'2024-03-31 02:30:00.123'"}, damage: []string{"'2024-03-31 02:30:00.124'"}},
	{from: "time", to: "timetz", fit: refused},
	{from: "text", to: "date", as: "date", fit: partly, moved: []string{"'2024-02-29'", "'infinity'", "' 0044-03-15 BC'"}, stay: []string{"'2024-02-29 12:00'", "'tomorrow'", "'2024-02-30'"}, damage: []string{"'2024-03-01'"}, reprints: true},
	{
		from: "text", to: "timestamptz", as: "timestamptz", fit: partly, moved: []string{"'2024-02-29 12:00:00+02'", "'infinity'"}, stay: []string{"'2024-02-29 12:00:00'", "'now'"},
		damage: []string{"'2024-02-29 12:00:00Z'"}, equal: []string{"'2024-02-29 10:00:00Z'"}, reprints: true,
	},
	{from: "text", to: "timestamp", as: "timestamp", fit: partly, moved: []string{"'2024-02-29 12:00:00.5'"}, stay: []string{"'2024-02-29 12:00:00+02'"}, damage: []string{"'2024-02-29 12:00:00'"}, reprints: true},
	{from: "timestamptz", to: "text", fit: lossless, moved: []string{"'2024-02-29 12:00:00+02'", "'infinity'"}, damage: []string{"'2024-02-29T12:00:00Z'", "'x'"}, equal: []string{"'2024-02-29 10:00:00Z'"}},

	// Texts.
	{from: "text", to: "varchar", fit: lossless, moved: []string{"'abc'", "''", "'abc  '"}, damage: []string{"'abd'", "'abc '"}},
	{from: "varchar(10)", to: "text", fit: lossless, moved: []string{"'abc'", "'abc  '"}, damage: []string{"'abd'"}},
	{from: "text", to: "varchar(3)", fit: partly, moved: []string{"'abc'", "'äöü'"}, stay: []string{"'abcd'", "'abc '"}, damage: []string{"'abd'"}},
	{from: "text", to: "char(5)", fit: partly, moved: []string{"'ab'", "''", "'äöüäö'", "' a'"}, stay: []string{"'ab '", "'abcdef'"}, damage: []string{"'ac'", "' ab'"}, equal: []string{"'ab   '"}},
	{from: "char(5)", to: "text", fit: lossless, moved: []string{"'ab'", "''"}, damage: []string{"'ac   '"}},
	{from: "char(5)", to: "char(8)", fit: lossless, moved: []string{"'ab'", "'äöüäö'"}, damage: []string{"'ac'", "'abcdefgh'"}},
	{from: "char(5)", to: "char(3)", fit: partly, moved: []string{"'ab'"}, stay: []string{"'abcd'"}, damage: []string{"'ac'"}},
	{from: "char(5)", to: "varchar(3)", fit: partly, moved: []string{"'ab'"}, stay: []string{"'abcd'"}, damage: []string{"'ac'"}, equal: []string{"'ab '"}},
	{from: "text", to: "name", fit: partly, moved: []string{"'ab '", "repeat('x', 63)"}, stay: []string{"repeat('x', 64)", "repeat('ä', 32)"}, damage: []string{"'ac'"}},
	{from: "text", to: "citext", fit: lossless, moved: []string{"'aBc'", "''"}, damage: []string{"'abc'"}},
	{from: "citext", to: "text", fit: lossless, moved: []string{"'aBc'"}, damage: []string{"'abc'"}},
	{from: "text", to: "bytea", fit: refused},
	{from: "bytea", to: "text", fit: refused},
	{from: "text", to: "mood", fit: partly, moved: []string{"'sad'", "'so so'"}, stay: []string{"'happy'", "'sad '"}, damage: []string{"'so so'"}},
	{from: "mood", to: "text", fit: lossless, moved: []string{"'sad'", "'so so'"}, damage: []string{"'SAD'"}},
	{from: "mood", to: "humour", fit: partly, moved: []string{"'sad'"}, stay: []string{"'so so'"}, damage: []string{"'glad'"}},
	{from: "text", to: "uuid", fit: needsAs},
	{
		from: "text", to: "uuid", as: "uuid", fit: partly, moved: []string{"'F47AC10B-58CC-4372-A567-0E02B2C3D479'", "'{f47ac10b58cc4372a5670e02b2c3d479}'", "'f47a-c10b-58cc-4372-a567-0e02-b2c3-d479'"},
		stay: []string{"'f47ac10b'", "''"}, damage: []string{"'f47ac10b-58cc-4372-a567-0e02b2c3d478'"}, reprints: true,
	},
	{from: "varchar(36)", to: "uuid", as: "uuid", fit: partly, moved: []string{"'f47ac10b-58cc-4372-a567-0e02b2c3d479'"}, damage: []string{"'f47ac10b-58cc-4372-a567-0e02b2c3d478'"}},
	{from: "uuid", to: "text", fit: lossless, moved: []string{"'F47AC10B-58CC-4372-A567-0E02B2C3D479'"}, damage: []string{"'f47ac10b-58cc-4372-a567-0e02b2c3d478'", "'x'"}, equal: []string{"'F47AC10B-58CC-4372-A567-0E02B2C3D479'"}},
	{from: "uuid", to: "varchar(36)", fit: partly, moved: []string{"'F47AC10B-58CC-4372-A567-0E02B2C3D479'"}, damage: []string{"'x'"}},
	{from: "text", to: "int", fit: needsAs},
	{from: "text", to: "int", as: "int", fit: partly, moved: []string{"'007'", "' 5 '", "'-5'", "'5.0'"}, stay: []string{"'5.5'", "'x'", "''", "'99999999999'"}, damage: []string{"8"}, reprints: true},
	{from: "int", to: "text", fit: lossless, moved: []string{"5", "-5"}, damage: []string{"'5.1'", "'6'", "''"}, equal: []string{"'5'", "'05'"}},
	{from: "text", to: "numeric(12,2)", as: "numeric", fit: partly, moved: []string{"'1.5'", "'1e2'", "'0001'"}, stay: []string{"'1.555'", "'x'"}, damage: []string{"1.51"}, reprints: true},
	{from: "numeric(12,2)", to: "text", fit: lossless, moved: []string{"1.50", "'NaN'"}, damage: []string{"'1.501'", "'x'"}, equal: []string{"'1.5'"}},

	// JSON.
	{from: "json", to: "jsonb", fit: partly, moved: []string{`'{"b":1,  "a":[1.0,1e2], "a":2 }'`, `'null'`, `' 5 '`}, stay: []string{`'"\u0000"'`, `'"\ud800"'`}, damage: []string{`'{"b":1,"a":3}'`, `'{"b":1,"a":2,"c":1}'`}, reprints: true},
	{from: "json", to: "jsonb", as: "json", fit: lossless, moved: []string{`'{"b":1,  "a":[1.0,1e2], "a":2 }'`}, damage: []string{`'{"b":1,"a":3}'`}, reprints: true},
	{from: "jsonb", to: "json", fit: lossless, moved: []string{`'{"b":1.00,"a":[1e2]}'`, `'null'`}, damage: []string{`'{"b":1.01,"a":[1e2]}'`}, equal: []string{`'{"a":[100],"b":1}'`}},
	{from: "jsonb", to: "text", fit: lossless, moved: []string{`'{"b":1.00,"a":[1e2]}'`, `'"x"'`}, damage: []string{`'{"b":1.00,"a":[1]}'`, `'{'`}, equal: []string{`'{"a":[100],"b":1}'`}},
	{from: "json", to: "text", fit: lossless, moved: []string{`' {"b":1.00, "b":2}'`, `'"\ud800"'`}, damage: []string{`'{"b":1.00,"b":3}'`}},
	{from: "text", to: "json", fit: partly, moved: []string{`' {"b":1.00, "b":2}'`, `'null'`}, stay: []string{`'{'`, `''`}, damage: []string{`'{"b":2}'`}},
	{from: "text", to: "jsonb", fit: needsAs},
	{from: "text", to: "jsonb", as: "jsonb", fit: partly, moved: []string{`'{"b":1,  "a":2}'`, `'"x"'`}, stay: []string{`'{'`, `''`, `'"\u0000"'`}, damage: []string{`'{"b":1,"a":3}'`}, reprints: true},
	{from: "uuid", to: "jsonb", fit: refused},

	// Addresses, and others.
	{from: "cidr", to: "inet", fit: lossless, moved: []string{"'10.0.0.0/8'", "'10.1.2.3/32'", "'2001:db8::/32'", "'::1/128'"}, damage: []string{"'10.0.0.1/8'", "'10.0.0.0/9'"}},
	{from: "inet", to: "cidr", fit: partly, moved: []string{"'10.1.2.3'", "'10.0.0.0/8'", "'::1'"}, stay: []string{"'10.0.0.1/8'"}, damage: []string{"'10.1.2.4'"}},
	{from: "inet", to: "text", fit: lossless, moved: []string{"'10.1.2.3'", "'10.0.0.1/8'"}, damage: []string{"'10.1.2.4'"}},
	{from: "macaddr", to: "macaddr8", fit: refused},
	{from: "bit(3)", to: "bit(4)", fit: partly, moved: nil, stay: []string{"'101'"}},
	{from: "interval", to: "time", fit: refused},

	// Arrays.
	{from: "int[]", to: "numeric(12,2)[]", fit: lossless, moved: []string{"'{5,-5,NULL}'", "'{}'", "'{{1,2},{3,4}}'"}, damage: []string{"'{5.01,-5,NULL}'"}},
	{from: "int[]", to: "bigint[]", fit: lossless, moved: []string{"'{5,NULL}'", "'[0:1]={5,6}'"}, damage: []string{"'{6,NULL}'"}},
	{from: "date[]", to: "timestamp[]", fit: lossless, moved: []string{"'{2024-02-29,infinity,NULL}'"}, damage: []string{"'{2024-02-29 12:00,infinity,NULL}'"}},
	{from: "boolean[]", to: "int[]", fit: lossless, moved: []string{"'{t,f,NULL}'"}, damage: []string{"'{1,1,NULL}'", "'{1,0,2}'"}},
	{from: "text[]", to: "uuid[]", fit: needsAs},
	{from: "text[]", to: "uuid[]", as: "uuid", fit: partly, moved: []string{"'{F47AC10B-58CC-4372-A567-0E02B2C3D479,NULL}'"}, stay: []string{"'{x}'"}, damage: []string{"'{F47AC10B-58CC-4372-A567-0E02B2C3D478,NULL}'"}, reprints: true},
	{from: "timestamptz[]", to: "timestamp[]", as: "timestamptz", zone: "UTC", fit: lossless, moved: []string{"'{2024-02-29 12:00+01}'"}, damage: []string{"'{2024-02-29 12:00}'"}},
	{from: "text[]", to: "jsonb[]", as: "json", fit: refused},
	{from: "int[]", to: "int", fit: refused},

	// Domains.
	{from: "price", to: "numeric", fit: lossless, moved: []string{"5.50"}, damage: []string{"5.501"}, equal: []string{"5.5"}},
	{from: "int", to: "price", fit: partly, moved: []string{"5"}, stay: []string{"100000000"}, damage: []string{"5.01"}},
}

func (c *pairCase) name() string {
	return strings.TrimSpace(c.from + " to " + c.to + " " + strings.TrimSpace(c.as+" "+c.zone))
}

// TestPairsOfTypes: what plan calls lossless is moved, compared as the same, found once it is
// damaged, and given back as it was; what it does not, it refuses.
func TestPairsOfTypes(t *testing.T) {
	t.Parallel()
	pool, err := connect(t.Context(), "target", testenv.PostgresURL(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	b := &pairBench{pool: pool}
	b.exec(t, `CREATE EXTENSION citext; CREATE TYPE mood AS ENUM ('sad', 'so so'); CREATE TYPE humour AS ENUM ('glad', 'sad'); CREATE DOMAIN price AS numeric(10,2)`)
	for i := range pairCases {
		c := &pairCases[i]
		t.Run(c.name(), func(t *testing.T) { b.run(t, i, c) })
	}
}

type pairBench struct {
	pool *pgxpool.Pool
}

// stores are what OpenLegacy and OpenTarget return, on one pool.
func (b *pairBench) stores(t *testing.T, m *migration.Config) (*Legacy, *Target) {
	t.Helper()
	source, err := describe(t.Context(), b.pool, "legacy", legacyConfig(m).Table)
	if err != nil {
		t.Fatal(err)
	}
	legacy := &Legacy{pool: b.pool, name: m.Name}
	if legacy.shape, err = legacyShape(m, source); err != nil {
		t.Fatal(err)
	}
	into, err := describe(t.Context(), b.pool, "target", targetConfig(m).Table)
	if err != nil {
		t.Fatal(err)
	}
	target := &Target{pool: b.pool, migration: m.Name, side: pgx.Identifier{"migrator_target", m.Name}.Sanitize()}
	if target.shape, err = targetShape(into, legacy.shape.schema); err != nil {
		t.Fatal(err)
	}
	target.shape.convert(m.Compare)
	return legacy, target
}

func (b *pairBench) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := b.pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// pairRun is one case's stores.
type pairRun struct {
	*pairBench
	t       *testing.T
	c       *pairCase
	legacy  *Legacy
	target  *Target
	compare *record.Comparer
	from    string // legacy's table
	into    string
	keys    []record.Key
}

func (b *pairBench) run(t *testing.T, number int, c *pairCase) {
	from, into := fmt.Sprintf("l%d", number), fmt.Sprintf("t%d", number)
	if older := false; strings.Contains(c.to, ",-") && b.pool.QueryRow(t.Context(), "SELECT current_setting('server_version_num')::int < 150000").Scan(&older) == nil && older {
		t.Skip("a negative scale needs PostgreSQL 15")
	}
	b.exec(t, fmt.Sprintf("CREATE TABLE %s (id int PRIMARY KEY, c %s); CREATE TABLE %s (id int PRIMARY KEY, c %s)", from, c.from, into, c.to))
	rule := record.Rule{Path: "/c", As: c.as, Zone: c.zone}
	m := &migration.Config{
		Name:   from,
		Legacy: migration.Legacy{Part: &LegacyConfig{Table: from}}, Target: migration.Target{Part: &TargetConfig{Table: into}},
	}
	if c.as != "" {
		m.Compare = []record.Rule{rule}
	}
	legacy, target := b.stores(t, m)
	var f findings
	target.checkConversions(&f)
	want := map[fit]store.CheckResult{lossless: store.Good, partly: store.Warned, needsAs: store.Refused, refused: store.Refused}[c.fit]
	if len(f) != 1 || f[0].Result != want || target.shape.verdicts[1].fit != c.fit || !strings.Contains(f[0].Detail, `"c"`) {
		t.Fatalf("plan says %+v (%d), want %s (%d)", f, target.shape.verdicts[1].fit, want, c.fit)
	}
	if c.fit == needsAs && !strings.Contains(f[0].Hint.Text, "as: ") {
		t.Errorf("the remedy names no rule: %s", f[0].Hint.Text)
	}
	if c.fit == needsAs || c.fit == refused {
		return
	}
	compare, err := record.NewComparer(legacy.Schema(), m.Compare)
	if err != nil {
		t.Fatal(err)
	}
	if err := target.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := &pairRun{pairBench: b, t: t, c: c, legacy: legacy, target: target, compare: compare, from: from, into: into}
	for i, sql := range append(slices.Clone(c.moved), c.stay...) {
		b.exec(t, fmt.Sprintf("INSERT INTO %s VALUES (%d, %s)", from, i, sql))
		r.keys = append(r.keys, record.MakeKey(fmt.Sprint(i)))
	}
	r.applied()
	if len(c.stay) > 0 {
		r.exec(t, "TRUNCATE "+into+"; TRUNCATE "+target.side)
		if err := r.load(); err == nil {
			t.Errorf("%v are loaded", c.stay)
		}
	}
	if len(c.moved) == 0 {
		return
	}
	b.exec(t, fmt.Sprintf("DELETE FROM %s WHERE id >= %d", from, len(c.moved)))
	r.keys = r.keys[:len(c.moved)]
	r.loaded()
	r.hashed()
	r.given()
	r.found()
}

func (r *pairRun) rows() []store.Row {
	r.t.Helper()
	rows, err := r.legacy.Lookup(r.t.Context(), r.keys)
	if err != nil {
		r.t.Fatal(err)
	}
	return rows
}

func (r *pairRun) entries() []store.Entry {
	r.t.Helper()
	entries, err := r.target.Get(r.t.Context(), r.keys)
	if err != nil {
		r.t.Fatal(err)
	}
	return entries
}

// applied writes one record at a time, as dual and repair do.
func (r *pairRun) applied() {
	rows := r.rows()
	var writes []store.Write
	for _, row := range rows {
		writes = append(writes, store.Write{Key: row.Key, Record: row.Record, Version: record.MakeVersion(1, 1, 1)})
	}
	results, err := r.target.Apply(r.t.Context(), writes)
	if err != nil {
		r.t.Fatal(err)
	}
	for i, result := range results {
		refuse := i >= len(r.c.moved)
		switch {
		case refuse && !errors.Is(result.Err, store.ErrRecord):
			r.t.Errorf("%s is written: %+v", r.c.stay[i-len(r.c.moved)], result)
		case refuse && strings.Contains(result.Err.Error(), fmt.Sprintf("key %q", writes[i].Key)): // its text may be kept
			r.t.Errorf("the refusal names the key: %v", result.Err)
		case refuse && r.unfit(writes[i].Record) && !strings.Contains(result.Err.Error(), `field "c": to `):
			r.t.Errorf("the refusal names no field, or no reason: %v", result.Err)
		case !refuse && result.Outcome != store.Applied:
			r.t.Errorf("%s: %+v", r.c.moved[i], result)
		}
	}
	r.same("applied")
}

// unfit reports whether the value is refused before it is sent.
func (r *pairRun) unfit(of record.Record) bool {
	c := r.target.shape.columns[1]
	if !c.changesThere() {
		return false
	}
	_, err := c.conversion.toTarget(nil, []byte(of[1].Text))
	return err != nil
}

func (r *pairRun) same(how string) {
	r.t.Helper()
	rows, entries := r.rows(), r.entries()
	for i, sql := range r.c.moved {
		if d := r.compare.Compare(rows[i].Record, entries[i].Record); entries[i].Presence != store.Live || len(d) > 0 {
			r.t.Errorf("%s %s: legacy has %q, the target %q (%s %s): %v", how, sql, rows[i].Record, entries[i].Record, entries[i].Presence, entries[i].Detail, d)
		}
	}
}

// loaded writes all by COPY, as a backfill does, and compares in blocks.
func (r *pairRun) loaded() {
	r.exec(r.t, "TRUNCATE "+r.into+"; TRUNCATE "+r.target.side)
	if err := r.load(); err != nil {
		r.t.Fatal(err)
	}
	r.same("loaded")
}

func (r *pairRun) load() error {
	ctx := r.t.Context()
	chunks, err := r.legacy.Chunks(ctx, 1000)
	if err != nil {
		r.t.Fatal(err)
	}
	version := record.MakeVersion(1, 1, 2)
	for _, chunk := range chunks {
		err := r.legacy.ScanBlocks(ctx, chunk, 1000, func() *record.Block { return new(record.Block) }, func(block *record.Block) error {
			written := make([]bool, block.Rows())
			now, err := r.target.Now(ctx)
			if err != nil {
				return err
			}
			if err := r.target.BulkLoad(ctx, store.BulkWrite{Block: block, Version: version, NotAfter: now.Add(60e9)}, written); err != nil {
				return err
			}
			if slices.Contains(written, false) {
				r.t.Errorf("of %d rows some are not loaded: %v", block.Rows(), written)
			}
			sent := false
			return r.target.BulkCompare(ctx, []int{0, 1}, func() (*record.Block, record.Version, error) {
				if sent {
					return nil, version, nil
				}
				sent = true
				return block, version, nil
			}, func(_ *record.Block, same []bool) error {
				if !r.c.reprints && r.c.fit == lossless && slices.Contains(same, false) && isExact(r.c) {
					r.t.Errorf("blocks: %v are the same of %v", same, r.c.moved)
				}
				return nil
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// isExact reports whether all texts come back byte for byte: not floats, of which the target may
// print the same number otherwise.
func isExact(c *pairCase) bool { return c.from != "double precision" && c.from != "real" }

// hashed: the servers hash alike what they say they do.
func (r *pairRun) hashed() {
	ctx, fields := r.t.Context(), []int{0, 1}
	ours, err := r.legacy.HashForm(ctx, fields)
	theirs, err2 := r.target.HashForm(ctx, fields)
	if err != nil || err2 != nil {
		r.t.Fatal(err, err2)
	}
	if ours != theirs {
		return
	}
	span := store.Span{From: -10, To: 1000}
	a, err := r.legacy.Hashes(ctx, span, store.Hashing{Fields: fields, Seed: 7})
	b, err2 := r.target.Hashes(ctx, span, store.Hashing{Fields: fields, Seed: 7})
	if err != nil || err2 != nil {
		r.t.Fatal(err, err2)
	}
	for id, hash := range a {
		if b[id] != hash {
			r.t.Errorf("%s: the servers hash it differently", r.c.moved[id])
		}
	}
}

var errUndone = errors.New("undone")

// give writes entries back to legacy, in a transaction that is undone.
func (r *pairRun) give(entries []store.Entry, look func(tx pgx.Tx, done store.Replayed) error) {
	r.t.Helper()
	var rows []store.Row
	for _, e := range entries {
		rows = append(rows, store.Row{Key: e.Key, Found: true, Record: e.Record})
	}
	ctx := r.t.Context()
	err := inTx(ctx, r.legacy.pool, pgx.ReadWrite, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "CREATE TEMP TABLE was ON COMMIT DROP AS TABLE "+r.from+"; UPDATE "+r.from+" SET c = NULL; DELETE FROM "+r.from+" WHERE id % 2 = 1"); err != nil {
			return err
		}
		w, err := r.legacy.replayWriter(ctx, tx, "none")
		if err != nil {
			return err
		}
		defer w.close(ctx)
		w.keep = true
		if err := w.offer(ctx, rows); err != nil {
			return err
		}
		if err := look(tx, w.result(rows)); err != nil {
			return err
		}
		return errUndone
	})
	if !errors.Is(err, errUndone) {
		r.t.Fatal(err)
	}
}

// given returns all records to legacy: the rows are what they were.
func (r *pairRun) given() {
	entries := r.entries()
	r.give(entries, func(tx pgx.Tx, done store.Replayed) error {
		if len(done.Refused) > 0 {
			r.t.Errorf("legacy refuses %+v", done.Refused)
		}
		scan, err := tx.Query(r.t.Context(), "SELECT coalesce(pg_catalog.format('%s', w.c), 'NULL'), coalesce(pg_catalog.format('%s', n.c), 'NULL'), record_image_eq(w, n) FROM was w JOIN "+r.from+" n USING (id)")
		if err != nil {
			return err
		}
		count := 0
		var was, is string
		var same bool
		if _, err := pgx.ForEachRow(scan, []any{&was, &is, &same}, func() error {
			count++
			if !same && !r.c.reprints {
				r.t.Errorf("%s came back as %s", was, is)
			}
			return nil
		}); err != nil {
			return err
		}
		if count != len(entries) {
			r.t.Errorf("%d of %d rows came back", count, len(entries))
		}
		for i, row := range done.Rows {
			if d := r.compare.Compare(row.Record, entries[i].Record); len(d) > 0 {
				r.t.Errorf("%s came back as %q: %v", r.c.moved[i], row.Record, d)
			}
		}
		return nil
	})
}

// found damages the first record.
func (r *pairRun) found() {
	rows := r.rows()
	look := func(sql string) (store.Entry, []record.Difference) {
		r.exec(r.t, "UPDATE "+r.into+" SET c = "+sql+" WHERE id = 0")
		e := r.entries()[0]
		return e, r.compare.Compare(rows[0].Record, e.Record)
	}
	for _, sql := range r.c.damage {
		e, d := look(sql)
		if e.Presence != store.Live {
			continue
		}
		if len(d) == 0 {
			r.t.Errorf("the target has %s for %s, and nothing finds it: %q", sql, r.c.moved[0], e.Record)
		}
		// A return would not change it silently.
		r.give([]store.Entry{e}, func(_ pgx.Tx, done store.Replayed) error {
			for _, row := range done.Rows {
				if d := r.compare.Compare(row.Record, e.Record); len(d) > 0 {
					r.t.Errorf("the target's %s, %q, would come back as %q", sql, e.Record, row.Record)
				}
			}
			return nil
		})
	}
	for _, sql := range r.c.equal {
		if e, d := look(sql); e.Presence != store.Live || len(d) > 0 {
			r.t.Errorf("the target has %s for %s: %v %s %s %q", sql, r.c.moved[0], d, e.Presence, e.Detail, e.Record)
		}
	}
}
