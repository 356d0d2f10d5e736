package postgres_test

import (
	"cmp"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/postgres"
	"github.com/stranglerfig/migrator/store/storetest"
)

// database is a database of the test's own, with an application's connection.
type database struct {
	*testing.T
	ctx  context.Context
	url  string
	pool *pgxpool.Pool
}

func newDatabase(t *testing.T) *database {
	t.Helper()
	return newDatabaseAt(t, testenv.PostgresURL(t))
}

func newDatabaseAt(t *testing.T, url string) *database {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return &database{T: t, ctx: ctx, url: url, pool: pool}
}

func (d *database) exec(sql string, args ...any) {
	d.Helper()
	if _, err := d.pool.Exec(d.ctx, sql, args...); err != nil {
		d.Fatalf("%s: %v", sql, err)
	}
}

func (d *database) text(sql string, args ...any) string {
	d.Helper()
	var s string
	if err := d.pool.QueryRow(d.ctx, sql, args...).Scan(&s); err != nil {
		d.Fatalf("%s: %v", sql, err)
	}
	return s
}

func (d *database) ok(err error) {
	d.Helper()
	if err != nil {
		d.Fatal(err)
	}
}

// begin starts a transaction that is rolled back when the test ends: closing the pool
// would wait for it.
func (d *database) begin(o pgx.TxOptions) pgx.Tx {
	d.Helper()
	tx, err := d.pool.BeginTx(d.ctx, o)
	d.ok(err)
	d.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(d.ctx)) })
	return tx
}

func testConfig(table string) *migration.Config {
	return &migration.Config{Name: "it's a test", Legacy: migration.Legacy{Store: "postgres", Part: &postgres.LegacyConfig{Table: table}}}
}

// legacy opens the store and installs its schema.
func (d *database) legacy(m *migration.Config) *postgres.Legacy {
	d.Helper()
	l, err := postgres.OpenLegacy(d.ctx, m, d.url)
	d.ok(err)
	d.Cleanup(l.Close)
	d.ok(l.Install(d.ctx))
	return l
}

type fixture struct {
	*database
	store   *postgres.Legacy
	version string // SQL expression
	removed string // the same for a deletion
}

func (f *fixture) Store() storetest.LegacyStore { return f.store }

func (f *fixture) Begin(ctx context.Context) (storetest.LegacyTx, error) {
	tx, err := f.pool.Begin(ctx)
	if err == nil {
		f.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }) // closing the pool would wait for it
	}
	return appTx{f, tx}, err
}

type appTx struct {
	f *fixture
	pgx.Tx
}

func (a appTx) Put(ctx context.Context, id int, name string) (record.Version, error) {
	return a.write(ctx, `INSERT INTO products (id, name) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name RETURNING `+a.f.version, id, name)
}

func (a appTx) Remove(ctx context.Context, id int) (record.Version, error) {
	return a.write(ctx, `DELETE FROM products WHERE id = $1 RETURNING `+cmp.Or(a.f.removed, a.f.version), id)
}

func (a appTx) write(ctx context.Context, sql string, args ...any) (record.Version, error) {
	var text string
	err := a.QueryRow(ctx, sql, args...).Scan(&text)
	if store.IsFenced(err) {
		return record.Version{}, errors.Join(store.ErrFenced, err)
	}
	if err != nil {
		return record.Version{}, err
	}
	return record.ParseVersion(text)
}

func TestLegacyConformance(t *testing.T) {
	t.Parallel()
	for name, table := range map[string]string{
		"plain": `CREATE TABLE products (id int8 PRIMARY KEY, name text)`,
		"partitioned": `CREATE TABLE products (name text, id int8 PRIMARY KEY) PARTITION BY HASH (id);
			CREATE TABLE products_0 PARTITION OF products FOR VALUES WITH (MODULUS 2, REMAINDER 0);
			CREATE TABLE products_1 PARTITION OF products FOR VALUES WITH (MODULUS 2, REMAINDER 1) PARTITION BY RANGE (id);
			CREATE TABLE products_1_low PARTITION OF products_1 FOR VALUES FROM (MINVALUE) TO (50);
			CREATE TABLE "Products 1 Rest" PARTITION OF products_1 DEFAULT;`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.RunLegacy(t, storetest.LegacyHarness{Open: func(t *testing.T) storetest.LegacyFixture {
				d := newDatabase(t)
				d.exec(table)
				return &fixture{database: d, store: d.legacy(testConfig("products")), version: postgres.VersionExpr("it's a test")}
			}})
		})
	}
	t.Run("version column", func(t *testing.T) {
		t.Parallel()
		storetest.RunLegacy(t, storetest.LegacyHarness{Own: true, Open: func(t *testing.T) storetest.LegacyFixture {
			d := newDatabase(t)
			d.exec(`CREATE SEQUENCE revisions;
				CREATE TABLE products (id int8 PRIMARY KEY, name text, revision int8 NOT NULL DEFAULT 0);
				CREATE FUNCTION revise() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
					NEW.revision := nextval('revisions'); RETURN NEW; END $$;
				CREATE TRIGGER revise BEFORE INSERT OR UPDATE ON products FOR EACH ROW EXECUTE FUNCTION revise()`)
			m := testConfig("products")
			m.Legacy.Part.(*postgres.LegacyConfig).VersionColumn = "revision"
			return &fixture{
				database: d, store: d.legacy(m), version: postgres.VersionColumnExpr(m.Name, "revision"),
				removed: postgres.VersionColumnExpr(m.Name, "nextval('revisions')"),
			}
		}})
	})
}
