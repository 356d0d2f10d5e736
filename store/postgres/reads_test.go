package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/postgres"
)

// TestMovedRows: chunks of replaced storage are refused, and not read partially.
func TestMovedRows(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(partitioned)
	l := d.legacy(testConfig("products"))
	nothing := func(store.Row) error { return nil }
	for _, sql := range []string{`VACUUM FULL products_low`, `TRUNCATE products_low`, `ALTER TABLE products_low RENAME TO products_old`, `DROP TABLE products_old`} {
		chunks, err := l.Chunks(d.ctx, 10)
		d.ok(err)
		for _, c := range chunks {
			d.ok(l.Scan(d.ctx, c, nothing))
		}
		d.exec(sql)
		if err := l.Scan(d.ctx, chunks[0], nothing); !errors.Is(err, store.ErrMoved) {
			t.Errorf("%s: %v, want ErrMoved", sql, err)
		}
		d.ok(l.Scan(d.ctx, chunks[len(chunks)-1], nothing))
	}
}

// TestIndexesAreUsed: no lookup reads the whole table, and a chunk reads its blocks only.
func TestIndexesAreUsed(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(`CREATE TABLE "The Target" (region varchar(10), id int8, name text, PRIMARY KEY (region, id))`)
	d.exec(`CREATE TABLE products (LIKE "The Target" INCLUDING ALL);
		INSERT INTO products SELECT 'r' || g % 10, g, repeat('x', 100) FROM generate_series(1, 60000) g; ANALYZE products`)
	m := testConfig("products")
	l := d.legacy(m)
	target := d.target(m, l.Schema())
	d.exec(`INSERT INTO "The Target" SELECT * FROM products;
		INSERT INTO migrator_target."it's a test" SELECT region || ',' || id, lpad('1', 32, '0'), false FROM products`)
	writes, keys := make([]store.Write, 100), make([]record.Key, 100)
	for i := range writes {
		id, region := itoa(i+1), "r"+itoa((i+1)%10)
		keys[i] = record.MakeKey(region, id)
		writes[i] = store.Write{Key: keys[i], Version: record.MakeVersion(1, 0, 0), Record: record.Record{record.TextValue(region), record.TextValue(id), record.NullValue}}
	}
	d.exec(`ANALYZE`)
	chunks, err := l.Chunks(d.ctx, 1000)
	d.ok(err)
	if len(chunks) < 40 || len(chunks) > 100 {
		t.Errorf("60000 rows in chunks of 1000 are %d chunks", len(chunks))
	}
	const reads = `SELECT string_agg(relname || ' ' || seq_scan, ', ' ORDER BY relname) FROM pg_stat_user_tables WHERE relname = ANY ('{products,The Target,it''s a test}')`
	flush := func() { // sessions report at their end
		for _, pool := range []*pgxpool.Pool{l.Pool(), target.Pool(), d.pool} {
			pool.Reset()
		}
		d.await("the sessions to end", `NOT EXISTS (SELECT FROM pg_stat_activity
			WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid())`)
	}
	settled := func() string { // until version 14 a process of its own gathers the reports
		d.Helper()
		last, since := "", time.Now()
		testenv.Await(d, "the statistics to settle", func() bool {
			if now := d.text(reads); now != last {
				last, since = now, time.Now()
			}
			return time.Since(since) > 1500*time.Millisecond
		})
		return last
	}
	flush()
	before := settled()
	for range 8 { // more often than it takes for a generic plan
		rows, err := l.Lookup(d.ctx, keys)
		d.ok(err)
		locked, err := l.LookupLocked(d.ctx, keys[:20])
		d.ok(err)
		entries, err := target.Get(d.ctx, keys)
		d.ok(err)
		for i := range writes {
			high, low := writes[i].Version.Position()
			writes[i].Version = record.MakeVersion(writes[i].Version.Era(), high, low+1)
		}
		results, err := target.Apply(d.ctx, writes)
		d.ok(err)
		if results[99].Outcome != store.Applied {
			t.Fatalf("%+v", results[99])
		}
		if !rows[99].Found || !locked[19].Found || entries[99].Presence != store.Live {
			t.Fatal("a key was not found")
		}
		d.ok(l.Scan(d.ctx, chunks[3], func(store.Row) error { return nil }))
	}
	flush()
	if after := settled(); after != before {
		t.Errorf("tables were read as a whole: %s times, %s before", after, before)
	}
}

// TestKeysThatPrintDifferently: 1.0 and 1.00 are one value but two records' keys.
func TestKeysThatPrintDifferently(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(`CREATE TABLE products (id numeric PRIMARY KEY, code char(4) NOT NULL UNIQUE); INSERT INTO products VALUES (1.0, 'ab'), (2, 'cd')`)
	l := d.legacy(testConfig("products"))
	rows, err := l.Lookup(d.ctx, []record.Key{"1.0", "1.00", "1", "2", "2.0"})
	d.ok(err)
	for i, want := range []bool{true, false, false, true, false} {
		if rows[i].Found != want {
			t.Errorf("key %q: found %t", rows[i].Key, rows[i].Found)
		}
	}
	m := testConfig("products")
	m.Legacy.Part.(*postgres.LegacyConfig).Key = []string{"code"}
	rows, err = d.legacy(m).LookupLocked(d.ctx, []record.Key{"ab  ", "ab", "cd  "})
	d.ok(err)
	for i, want := range []bool{true, false, true} {
		if rows[i].Found != want {
			t.Errorf("key %q: found %t", rows[i].Key, rows[i].Found)
		}
	}
}

// as returns the URL with another role.
func (d *database) as(role string) string {
	d.Helper()
	u, err := url.Parse(d.url)
	d.ok(err)
	u.User = url.UserPassword(role, "app")
	return u.String()
}

// role creates a role and drops it when the test ends: roles outlive the database.
func (d *database) role(name, attributes string) string {
	d.Helper()
	role := fmt.Sprintf("%s_%d", name, time.Now().UnixNano())
	d.exec("CREATE ROLE " + role + " LOGIN PASSWORD 'app' " + attributes)
	d.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(d.ctx), time.Minute)
		defer cancel()
		_, _ = d.pool.Exec(ctx, "DROP OWNED BY "+role+" CASCADE; DROP ROLE "+role)
	})
	return role
}

// TestRoles: what an application's role and an operator's role with few privileges can do.
func TestRoles(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(`CREATE TABLE products (id int8 PRIMARY KEY, name text)`)
	app := d.role("app", "")
	d.exec(`GRANT SELECT, INSERT, UPDATE, DELETE ON products TO ` + app)
	m := testConfig("products")
	poor, err := postgres.OpenLegacy(d.ctx, m, d.as(app))
	d.ok(err)
	t.Cleanup(poor.Close)
	for name, do := range map[string]func() error{
		"Barrier":      func() error { _, err := poor.Barrier(d.ctx, wait); return err },
		"LookupLocked": func() error { _, err := poor.LookupLocked(d.ctx, []record.Key{"1"}); return err },
		"RaiseFence":   func() error { _, err := poor.RaiseFence(d.ctx, "A", wait); return err },
		"FenceState":   func() error { _, _, err := poor.FenceState(d.ctx); return err },
	} {
		if h, _ := hint.Of(do()); h.Do != hint.Apply {
			t.Errorf("%s before Install: the hint is %v", name, h)
		}
	}
	err = poor.Install(d.ctx)
	if h, _ := hint.Of(err); h.Do != hint.Apply || !strings.Contains(h.Text, "GRANT CREATE") {
		t.Errorf("Install without privilege: %v, and the hint is %v", err, h)
	}
	d.wants(poor, "legacy-schema", store.Refused)
	d.wants(poor, "legacy-fence", store.Warned)
	d.wants(poor, "legacy-privileges", store.Good)
	d.legacy(m)
	d.wants(poor, "legacy-schema", store.Good)
	d.ok(poor.Install(d.ctx)) // nothing is left to do
	var version string
	d.ok(poor.Pool().QueryRow(d.ctx, `INSERT INTO products VALUES (1, 'one') RETURNING `+postgres.VersionExpr(m.Name)).Scan(&version))
	if _, err := record.ParseVersion(version); err != nil || version == "" {
		t.Errorf("the application's version is %q", version)
	}
	rows, err := poor.LookupLocked(d.ctx, []record.Key{"1"})
	if err != nil || !rows[0].Found {
		t.Errorf("a role without ownership can't repair: %+v, %v", rows, err)
	}
	if _, err := poor.RaiseFence(d.ctx, "A", wait); err == nil || store.IsFenced(err) {
		t.Errorf("a role without ownership fenced the table: %v", err)
	}
	d.exec(`INSERT INTO products VALUES (2, 'two')`)

	reader := d.role("reader", "")
	d.exec(`GRANT SELECT ON products TO ` + reader + `; ALTER TABLE products ENABLE ROW LEVEL SECURITY; CREATE POLICY none ON products USING (false)`)
	blind, err := postgres.OpenLegacy(d.ctx, m, d.as(reader))
	d.ok(err)
	t.Cleanup(blind.Close)
	d.wants(blind, "legacy-privileges", store.Refused)
	d.wants(blind, "legacy-policies", store.Refused)
	if rows, err := blind.Lookup(d.ctx, []record.Key{"1"}); err == nil {
		t.Errorf("a policy hid a row from Lookup: %+v", rows)
	}
	d.wants(d.legacy(m), "legacy-policies", store.Good)
}

func (d *database) wants(c store.Checker, name string, result store.CheckResult) {
	d.Helper()
	checks, err := c.Check(d.ctx)
	d.ok(err)
	for _, check := range checks {
		if check.Name == name && check.Result == result {
			if result != store.Good && check.Hint.IsZero() {
				d.Errorf("%s has no hint", name)
			}
			return
		}
	}
	d.Errorf("no check %s is %s: %+v", name, result, checks)
}

// TestUnloggedLegacyIsRefused: the position in the log is the version, and only a logged change moves it.
func TestUnloggedLegacyIsRefused(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(`CREATE TABLE products (id int PRIMARY KEY, revision bigint NOT NULL) PARTITION BY RANGE (id);
		CREATE TABLE low PARTITION OF products FOR VALUES FROM (0) TO (10);
		CREATE UNLOGGED TABLE high PARTITION OF products DEFAULT`)
	m := testConfig("products")
	d.wants(d.legacy(m), "legacy-table", store.Refused)
	m.Legacy.Part = &postgres.LegacyConfig{Table: "products", VersionColumn: "revision"}
	checks, err := d.legacy(m).Check(d.ctx)
	d.ok(err)
	for _, check := range checks {
		if check.Name == "legacy-table" && check.Result == store.Refused {
			t.Errorf("with a version column: %+v", check)
		}
	}
	d.exec(`ALTER TABLE high SET LOGGED`)
	d.wants(d.legacy(testConfig("products")), "legacy-table", store.Good)
}

func TestCheckWarnsOfTypes(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(`CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
		CREATE UNLOGGED TABLE products (a float8, b numeric, c text COLLATE loose, d interval, e text[], id int NOT NULL UNIQUE, price money,
			must text NOT NULL, cls regclass, PRIMARY KEY (a, b, c, d, e));
		ALTER TABLE products REPLICA IDENTITY NOTHING`)
	m := testConfig("products")
	m.Exclude = []string{"must"}
	l := d.legacy(m)
	d.wants(l, "legacy-key", store.Refused)
	d.wants(l, "legacy-types", store.Refused)
	d.wants(l, "legacy-types", store.Warned)
	d.wants(l, "legacy-table", store.Refused)
	d.wants(l, "legacy-return", store.Warned)
	d.wants(l, "legacy-replica-identity", store.Warned)
	d.wants(l, "legacy-wal-level", store.Good)
	d.wants(l, "legacy-clock", store.Good)
	d.exec(`CREATE TABLE "The Target" (id int4 PRIMARY KEY, name text NOT NULL, price int, extra text NOT NULL)`)
	schema := &record.Schema{Key: []int{0}, Fields: []record.Field{
		{Name: "id", Target: "id", Kind: record.Int, Type: "bigint", NotNull: true},
		{Name: "name", Target: "name", Kind: record.Text, Type: "text"},
		{Name: "price", Target: "price", Kind: record.Decimal, Type: "numeric"},
	}}
	target := d.target(testConfig("products"), schema)
	d.wants(target, "target-fields", store.Refused)
	d.wants(target, "target-fields", store.Warned)
	d.wants(target, "target-schema", store.Good)
	schema.Fields[0].Kind = record.Text
	if _, err := postgres.OpenTarget(d.ctx, &migration.Config{Name: "m", Target: migration.Target{Part: &postgres.TargetConfig{Table: `"The Target"`}}}, d.url, schema); err == nil {
		t.Error("a text key was accepted for an integer column")
	}
	schema.Fields[1].Target = "nome"
	if _, err := postgres.OpenTarget(d.ctx, &migration.Config{Name: "m", Target: migration.Target{Part: &postgres.TargetConfig{Table: `"The Target"`}}}, d.url, schema); err == nil || !strings.Contains(err.Error(), "id, name, price, extra") {
		t.Errorf("a missing column: %v", err)
	}
}
