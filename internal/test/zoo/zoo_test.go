package zoo

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/postgres"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// whole: make zoo moves all types, make test a tenth of them.
var whole = os.Getenv("MIGRATOR_ZOO") != ""

// zoo is a database with a table of every type.
type zoo struct {
	testing.TB
	url     string
	sql     *pgxpool.Pool
	columns []animal
	values  int // rows of the table: each has a value in one column
	lacking []string
}

// animal is a column, and the keys of the rows that have a value of it.
type animal struct {
	name, typ string
	rows      []int
}

func open(t testing.TB) *zoo {
	t.Helper()
	z := &zoo{TB: t, url: testenv.PostgresURLFrom(t, "zoo", fill)}
	var err error
	if z.sql, err = pgxpool.New(t.Context(), z.url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(z.sql.Close)
	rows, err := z.sql.Query(t.Context(), "SELECT x FROM unnest($1::text[]) x WHERE NOT EXISTS (SELECT FROM pg_extension WHERE extname = x)", extensions)
	if err != nil {
		t.Fatal(err)
	}
	if z.lacking, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
		t.Fatal(err)
	}
	if len(z.lacking) > 0 {
		t.Logf("%d of %d extensions are not installed here, and their types not tested: %s", len(z.lacking), len(extensions), strings.Join(z.lacking, ", "))
	}
	return z
}

// fill makes the types in an empty database.
func fill(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	sql := prepare
	rows, err := conn.Query(ctx, "SELECT name FROM pg_available_extensions WHERE name = ANY ($1)", extensions)
	if err != nil {
		return err
	}
	there, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, name := range there {
		sql += "; CREATE EXTENSION " + name + "; " + prepareOf[name]
	}
	_, err = conn.Exec(ctx, sql)
	return err
}

func (z *zoo) exec(sql string, args ...any) {
	z.Helper()
	if _, err := z.sql.Exec(z.Context(), sql, args...); err != nil {
		z.Fatalf("%v: %.300s", err, sql)
	}
}

// has reports whether the server has the type.
func (z *zoo) has(typ string) bool {
	typ, _, _ = strings.Cut(typ, " COLLATE")
	var there bool
	if err := z.sql.QueryRow(z.Context(), "SELECT to_regtype($1) IS NOT NULL", typ).Scan(&there); err != nil {
		z.Fatal(err)
	}
	return there
}

// types are the names of the types in values that the server has; of a tenth of them, unless whole.
func (z *zoo) types(of func(values []string) bool) []string {
	var names []string
	for i, typ := range slices.Sorted(maps.Keys(values)) {
		if of(values[typ]) && (whole || i%10 == 3 || typ == "jsonb" || typ == `"char"`) && z.has(typ) {
			names = append(names, typ)
		}
	}
	return names
}

func movable(values []string) bool { return len(values) > 0 }

// expressions are the SQL of a type's values.
func expressions(typ string) []string {
	plain, _, _ := strings.Cut(typ, " COLLATE")
	var all []string
	for _, v := range values[typ] {
		if sql, ok := strings.CutPrefix(v, "="); ok {
			all = append(all, sql+"::"+plain)
		} else {
			all = append(all, "'"+strings.ReplaceAll(v, "'", "''")+"'::"+plain)
		}
	}
	return all
}

// arrays are the SQL of arrays of a type's values.
func arrays(typ string) []string {
	plain, _, _ := strings.Cut(typ, " COLLATE")
	of := expressions(typ)
	all := "ARRAY[" + strings.Join(of, ", ") + "]::" + plain + "[]"
	return []string{
		"'{}'::" + plain + "[]", all, "ARRAY[" + of[0] + ", NULL]::" + plain + "[]", "ARRAY[NULL, " + of[0] + "]::" + plain + "[]",
		"array_fill(" + of[0] + ", ARRAY[1, 2])", "array_fill(" + of[0] + ", ARRAY[1], ARRAY[0])",
	}
}

// before15 reports whether the server is one whose arrays of "char" have bytes that are no text: plan refuses
// them.
func (z *zoo) before15() (yes bool) {
	z.Helper()
	if err := z.sql.QueryRow(z.Context(), "SELECT current_setting('server_version_num')::int < 150000").Scan(&yes); err != nil {
		z.Fatal(err)
	}
	return yes
}

// create makes the table of the types, and one of their arrays.
func (z *zoo) create(table string, types []string) {
	z.Helper()
	var columns, rows []string
	add := func(typ string, of []string) {
		a := animal{name: fmt.Sprintf("c%d", len(z.columns)), typ: typ}
		columns = append(columns, a.name+" "+typ)
		for _, sql := range of {
			z.values++
			a.rows = append(a.rows, z.values)
			rows = append(rows, fmt.Sprintf("INSERT INTO %s (id, %s) VALUES (%d, %s)", table, a.name, z.values, sql))
		}
		z.columns = append(z.columns, a)
	}
	for _, typ := range types {
		add(typ, expressions(typ))
		plain, collated, _ := strings.Cut(typ, " COLLATE")
		if collated == "" && z.has(plain+"[]") && (plain != `"char"` || !z.before15()) {
			add(plain+"[]", arrays(typ))
		}
	}
	z.exec("CREATE TABLE " + table + " (id bigint PRIMARY KEY, " + strings.Join(columns, ", ") + ");" + strings.Join(rows, ";"))
}

func config(table string) *migration.Config {
	return &migration.Config{Name: "zoo", Legacy: migration.Legacy{Store: postgres.KindName, Part: &postgres.LegacyConfig{Table: table}}}
}

func (z *zoo) legacy(m *migration.Config) *postgres.Legacy {
	z.Helper()
	l, err := postgres.OpenLegacy(z.Context(), m, z.url)
	if err != nil {
		z.Fatal(err)
	}
	z.Cleanup(l.Close)
	return l
}

// read returns all rows, by id.
func (z *zoo) read(l store.LegacyRecords) map[int]record.Record {
	z.Helper()
	keys := make([]record.Key, z.values)
	for i := range keys {
		keys[i] = record.MakeKey(fmt.Sprint(i + 1))
	}
	rows, err := l.Lookup(z.Context(), keys)
	if err != nil {
		z.Fatal(err)
	}
	all := map[int]record.Record{}
	for i, row := range rows {
		if !row.Found {
			z.Fatalf("row %d is not there", i+1)
		}
		all[i+1] = row.Record
	}
	return all
}

// TestEveryTypeIsInTheZoo: a type that a later server or extension brings must get values here.
func TestEveryTypeIsInTheZoo(t *testing.T) {
	t.Parallel()
	z := open(t)
	rows, err := z.sql.Query(t.Context(), `
		SELECT format_type(t.oid, -1) FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace LEFT JOIN pg_type e ON e.oid = t.typelem
		WHERE t.typtype IN ('b', 'd', 'e', 'r', 'm', 'c') AND n.nspname IN ('pg_catalog', 'public')
		  AND NOT coalesce(t.typlen = -1 AND e.typarray = t.oid, false)
		  AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind <> 'c')`)
	if err != nil {
		t.Fatal(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	short := map[string]string{"time without time zone": "time", "timestamp without time zone": "timestamp", `"bit"`: "bit(3)"}
	// Of these a value has the same text as of the range that is there.
	alike := []string{"loosemultirange", "floatmultirange", "pairmultirange", "ci_multirange"}
	for _, name := range names {
		if s, ok := short[name]; ok {
			name = s
		}
		if _, ok := values[name]; !ok && !slices.Contains(alike, name) {
			t.Errorf("the zoo has no values of type %s", name)
		}
	}
}

// pairs calls yield for each two values of a column, and whether the server takes them as equal:
// by the operator = (no such operator: false).
func (z *zoo) pairs(table string, a animal, yield func(i, j int, same, equal bool)) {
	z.Helper()
	rows, err := z.sql.Query(z.Context(), fmt.Sprintf(`SELECT x.id, y.id, NOT record_image_ne(ROW(x.%[1]s), ROW(y.%[1]s)), equal(x.%[1]s, y.%[1]s)
		FROM %[2]s x JOIN %[2]s y ON x.id < y.id WHERE x.%[1]s IS DISTINCT FROM NULL AND y.%[1]s IS DISTINCT FROM NULL`, a.name, table))
	if err != nil {
		z.Fatal(err)
	}
	var i, j int
	var same, equal bool
	if _, err := pgx.ForEachRow(rows, []any{&i, &j, &same, &equal}, func() error {
		yield(i, j, same, equal)
		return nil
	}); err != nil {
		z.Fatalf("%s: %v", a.typ, err)
	}
}

// equal is = as an index of the type's default class sees it, where there is one.
const equalFunction = `
CREATE FUNCTION equal(a anyelement, b anyelement) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	RETURN array_eq(ARRAY[ROW(a)], ARRAY[ROW(b)]);
EXCEPTION WHEN undefined_function THEN RETURN false;
END $$`

// TestDifferentValuesHaveDifferentTexts: whatever PostgreSQL can tell apart has different
// canonical texts, in every type; and it is a difference, unless the type's = or the comparison of
// JSON by its meaning takes the two as equal.
func TestDifferentValuesHaveDifferentTexts(t *testing.T) {
	t.Parallel()
	z := open(t)
	z.exec(equalFunction)
	z.create("zoo", z.types(movable))
	l := z.legacy(config("zoo"))
	records, schema := z.read(l), l.Schema()
	compare, err := record.NewComparer(schema, nil)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, a := range z.columns {
		at := schema.Index(a.name)
		json := schema.Fields[at].Kind == record.JSON || schema.Fields[at].Element == record.JSON
		z.pairs("zoo", a, func(i, j int, same, equal bool) {
			n++
			x, y := records[i][at], records[j][at]
			if same != (x == y) {
				t.Errorf("%s: rows %d and %d are the same: %v, their texts: %v\n%q\n%q", a.typ, i, j, same, x == y, x.Text, y.Text)
			}
			one, other := slices.Clone(records[i]), slices.Clone(records[j])
			other[0] = one[0]
			if agrees := compare.Equal(one, other); agrees && !same && !equal && !json || same && !agrees {
				t.Errorf("%s: rows %d and %d are equal to the comparison, not to PostgreSQL:\n%q\n%q", a.typ, i, j, x.Text, y.Text)
			}
		})
	}
	t.Logf("%d pairs of %d values of %d types", n, z.values, len(z.columns))
}

// TestEqualKeysHaveOneText: plan refuses a key of a type of which two values are equal to its
// unique index and have different texts. The type alone decides, not the values of a table.
func TestEqualKeysHaveOneText(t *testing.T) {
	t.Parallel()
	z := open(t)
	z.exec(equalFunction)
	types := z.types(movable)
	z.create("zoo", types)
	records := z.read(z.legacy(config("zoo")))
	var good, refused []string
	for i, a := range z.columns {
		table := "keyed_" + a.name
		if _, err := z.sql.Exec(t.Context(), "CREATE TABLE "+table+" (k "+a.typ+" PRIMARY KEY)"); err != nil {
			continue // a type without a class of btree
		}
		m := config(table)
		l := z.legacy(m)
		checks, err := l.Check(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		at := slices.IndexFunc(checks, func(c store.Check) bool { return c.Name == "legacy-key" })
		if checks[at].Result == store.Refused {
			refused = append(refused, a.typ)
			if !strings.Contains(checks[at].Detail, "as equal") || checks[at].Hint.Text == "" {
				t.Errorf("%s: %+v", a.typ, checks[at])
			}
			continue
		}
		good = append(good, a.typ)
		field := i + 1
		z.pairs("zoo", a, func(i, j int, _, equal bool) {
			if x, y := records[i][field].Text, records[j][field].Text; equal && x != y {
				t.Errorf("a key of type %s was accepted, and %q is equal to %q", a.typ, x, y)
			}
		})
	}
	documented(t, good, refused, types)
	t.Logf("accepted as a key: %s\nrefused: %s", strings.Join(good, ", "), strings.Join(refused, ", "))
	if whole && (!slices.Contains(good, "isbn13") || !slices.Contains(good, "uuid") || !slices.Contains(good, "mood") || !slices.Contains(good, "pair[]")) && len(z.lacking) == 0 {
		t.Error("a type that is exact was refused")
	}
}

// documented compares the types with docs/types.md: one row for each, which says whether it is a key.
func documented(t *testing.T, good, refused, types []string) {
	t.Helper()
	page, err := os.ReadFile("../../../docs/types.md")
	if err != nil {
		t.Fatal(err)
	}
	says := map[string]string{} // by type: yes, or no with the reason
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 {
			continue
		}
		for i, name := range strings.Split(cells[1], "`") {
			if i%2 == 1 && !strings.Contains(cells[1], " inside ") {
				says[name] = strings.TrimSpace(cells[len(cells)-2])
			}
		}
	}
	for typ := range values {
		if _, there := says[typ]; !there && !slices.Contains(own, typ) {
			t.Errorf("docs/types.md does not have %s", typ)
		}
	}
	for _, typ := range types {
		yes := strings.HasPrefix(says[typ], "yes")
		switch {
		case slices.Contains(own, typ):
		case slices.Contains(good, typ) && !yes:
			t.Errorf("docs/types.md says of a key of %s: %s", typ, says[typ])
		case slices.Contains(refused, typ) && yes, !slices.Contains(good, typ) && yes:
			t.Errorf("docs/types.md says that %s can be a key", typ)
		}
	}
}

// TestTypesThatCantBeMoved: plan names each.
func TestTypesThatCantBeMoved(t *testing.T) {
	t.Parallel()
	z := open(t)
	for _, typ := range z.types(func(values []string) bool { return len(values) == 0 }) {
		for shape, ddl := range map[string]string{"itself": typ, "an array": typ + "[]", "a composite": "holder"} {
			if shape == "an array" && !z.has(typ+"[]") {
				continue
			}
			z.exec("DROP TABLE IF EXISTS t; DROP TYPE IF EXISTS holder; CREATE TYPE holder AS (a int, b " + typ + "); CREATE TABLE t (id int PRIMARY KEY, v " + ddl + ")")
			refused(z, "t", typ)
			if !whole {
				break
			}
		}
	}
	nestedTypes := []string{"xml"}
	if z.before15() {
		nestedTypes = append(nestedTypes, `"char"`)
	}
	for _, nested := range nestedTypes {
		z.exec("DROP TABLE IF EXISTS t; DROP TYPE IF EXISTS holder; CREATE TYPE holder AS (a int, b " + nested + "); CREATE TABLE t (id int PRIMARY KEY, v holder)")
		refused(z, "t", nested)
	}
}

func refused(z *zoo, table, typ string) {
	z.Helper()
	l := z.legacy(config(table))
	defer l.Close()
	checks, err := l.Check(z.Context())
	if err != nil {
		z.Fatal(err)
	}
	for _, c := range checks {
		if c.Name == "legacy-types" && c.Result == store.Refused && strings.Contains(c.Detail, typ) {
			return
		}
	}
	z.Errorf("%s is not refused: %+v", typ, checks)
}
