// Package pairtest gives a test two stores with records to move between them:
// PostgreSQL as legacy, Redis as the target, on private servers.
package pairtest

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	goredis "github.com/redis/go-redis/v9"

	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/postgres"
	"github.com/stranglerfig/migrator/store/redis"
)

// Pair is one migration's two stores. Its JSON lets another process Open them.
type Pair struct {
	Config    *migration.Config
	LegacyURL string
	TargetURL string
	IntoURL   string                  // of another PostgreSQL; "": Redis is the target
	Schema    *record.Schema          // as it was applied; nil: as the table is
	Into      *postgres.Target        `json:"-"`
	Legacy    *postgres.Legacy        `json:"-"`
	Target    *redis.Target           `json:"-"`
	Compare   *record.Comparer        `json:"-"`
	SQL       *pgxpool.Pool           `json:"-"` // a direct connection to legacy
	Redis     goredis.UniversalClient `json:"-"` // a direct connection to the target
}

// Options change the migration.
type Options struct {
	DDL     string // creates the table; empty: SimpleDDL; -: it is there
	Table   string // empty: items
	Key     string // of the target; empty: item:{id}
	Format  string
	Expires string
	Name    string // of the migration; empty: move
	Legacy  string // the URL of legacy's database; empty: one of its own on the shared server
	Into    string // creates the table in another PostgreSQL database, which is the target then; empty: Redis is
}

// SimpleDDL makes a table whose canonical texts are easy to write: see FillSimple.
const SimpleDDL = `CREATE TABLE items (id bigint PRIMARY KEY, name text, amount numeric, expires_at timestamptz)`

// New creates the table in a database of its own, and an empty target.
func New(t testing.TB, o Options) *Pair {
	t.Helper()
	if o.DDL == "" {
		o.DDL = SimpleDDL
	}
	if o.Table == "" {
		o.Table = "items"
	}
	if o.Key == "" {
		o.Key = "item:{id}"
	}
	if o.Name == "" {
		o.Name = "move"
	}
	if o.Legacy == "" {
		o.Legacy = testenv.PostgresURL(t)
	}
	m := &migration.Config{
		Name:   o.Name,
		Legacy: migration.Legacy{Store: postgres.KindName, Part: &postgres.LegacyConfig{Table: o.Table}},
		Target: migration.Target{Store: redis.KindName, Part: &redis.TargetConfig{KeyTemplate: o.Key, Format: o.Format, Expires: o.Expires}},
	}
	p := &Pair{Config: m, LegacyURL: o.Legacy, TargetURL: testenv.RedisURL(t)}
	p.SQL = SQL(t, p.LegacyURL)
	if o.DDL != "-" {
		p.Exec(t, o.DDL)
	}
	if o.Into != "" {
		p.IntoURL = testenv.PostgresURL(t)
		if _, err := SQL(t, p.IntoURL).Exec(t.Context(), o.Into); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	if p.Into != nil {
		if err := p.Into.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Legacy.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.Redis = p.Target.Client()
	return p
}

// SQL is a direct connection to a database.
func SQL(t testing.TB, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// Open opens the stores of Config and the URLs. A helper process that has received these calls
// it alone.
func (p *Pair) Open(ctx context.Context) error {
	if p.Config.Legacy.Part == nil { // it came as JSON
		text, err := json.Marshal(p.Config)
		if err != nil {
			return err
		}
		if p.Config, err = migration.Stored(text, postgres.Kind(), redis.Kind()); err != nil {
			return err
		}
	}
	p.Config.Schema = p.Schema
	var err error
	if p.Legacy, err = postgres.OpenLegacy(ctx, p.Config, p.LegacyURL); err != nil {
		return err
	}
	if p.Target, err = redis.Open(ctx, p.Config, p.TargetURL, p.Legacy.Schema()); err != nil {
		return err
	}
	if p.IntoURL != "" {
		m := *p.Config
		part, _ := m.Legacy.Part.(*postgres.LegacyConfig)
		m.Target = migration.Target{Store: postgres.KindName, Part: &postgres.TargetConfig{Table: part.Table}}
		if p.Into, err = postgres.OpenTarget(ctx, &m, p.IntoURL, p.Legacy.Schema()); err != nil {
			return err
		}
	}
	p.Compare, err = record.NewComparer(p.Legacy.Schema(), nil)
	return err
}

// Close closes both stores.
func (p *Pair) Close() {
	p.Legacy.Close()
	_ = p.Target.Close()
	if p.Into != nil {
		_ = p.Into.Close()
	}
}

// Records is the target.
func (p *Pair) Records() store.Target {
	if p.Into != nil {
		return p.Into
	}
	return p.Target
}

// Exec runs SQL in legacy directly.
func (p *Pair) Exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	if _, err := p.SQL.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

// FillSimple adds the items from to to, one in seven without a name.
func (p *Pair) FillSimple(t testing.TB, from, to int) {
	t.Helper()
	p.Exec(t, `INSERT INTO items SELECT i, CASE WHEN i % 7 > 0 THEN 'name ' || i END, (i * 1.25)::numeric
		FROM generate_series($1::bigint, $2::bigint) i`, from, to)
}

// MessyDDL makes a table of odd names and many types; MessyTable and MessyKey go with it.
const (
	MessyDDL = `CREATE TABLE "Order Items" (
		"user" text NOT NULL, id integer NOT NULL, uuid uuid, "Placed At" timestamptz, local timestamp, day date,
		price numeric(30,10), ratio float8, small real, blob bytea, tags text[], numbers int[], doc jsonb, raw json,
		ok boolean, took interval, net inet, note text, PRIMARY KEY ("user", id))`
	MessyTable = `"Order Items"`
	MessyKey   = "order:{user}:{id}"
)

// FillMessy adds n records of values that are hard to preserve: NULL beside empty, infinities,
// NaN, long decimals, four-byte characters, nested JSON.
func (p *Pair) FillMessy(t testing.TB, n int) {
	t.Helper()
	p.FillMessyFrom(t, 1, n)
}

// FillMessyFrom adds the records from from to to.
func (p *Pair) FillMessyFrom(t testing.TB, from, to int) {
	t.Helper()
	p.Exec(t, `INSERT INTO "Order Items" ("user", id, uuid, "Placed At", local, day, price, ratio, small, blob, tags, numbers, doc, raw, ok, took, net, note) SELECT
		(ARRAY['eu', 'a,b', '50%', '', 'größe', '日本', '😀 user', E'tab\there', 'x{y}'])[1 + i % 9], i,
		CASE WHEN i % 11 > 0 THEN md5(i::text)::uuid END,
		CASE i % 13 WHEN 0 THEN NULL WHEN 1 THEN 'infinity' WHEN 2 THEN '-infinity' WHEN 3 THEN '0044-03-15 12:00:00+00 BC'
			ELSE timestamptz '2024-02-29 12:00:00.123456+02' + i * interval '1 second' END,
		CASE WHEN i % 5 > 0 THEN timestamp '1999-12-31 23:59:59.5' + i * interval '1 hour' END,
		CASE i % 6 WHEN 0 THEN NULL WHEN 1 THEN 'infinity' ELSE date '2000-01-01' + i END,
		CASE i % 8 WHEN 0 THEN NULL WHEN 1 THEN 'NaN' ELSE 12345678901234567890.0123456789 - i END,
		CASE i % 9 WHEN 0 THEN NULL WHEN 1 THEN 'NaN' WHEN 2 THEN '-Infinity' ELSE sqrt(i) END,
		CASE i % 9 WHEN 0 THEN NULL ELSE (i / 3.0)::real END,
		CASE i % 4 WHEN 0 THEN NULL WHEN 1 THEN '' ELSE decode(md5(i::text), 'hex') END,
		CASE i % 5 WHEN 0 THEN NULL WHEN 1 THEN '{}' ELSE ARRAY['a "quoted"', NULL, '', 'NULL', 'x,' || i] END,
		CASE i % 3 WHEN 0 THEN NULL ELSE ARRAY[i, -i, NULL] END,
		CASE i % 7 WHEN 0 THEN NULL WHEN 1 THEN 'null' ELSE jsonb_build_object('n', i, 'deep', jsonb_build_array(1.10, 'ü', NULL, jsonb_build_object('k', i % 3 = 0)), 'big', 9007199254740993) END,
		CASE i % 7 WHEN 0 THEN NULL ELSE '{"b": 1.0, "a" : [ ' || i || ' ]}' END::json,
		CASE i % 3 WHEN 0 THEN NULL ELSE i % 2 = 0 END,
		CASE i % 4 WHEN 0 THEN NULL ELSE make_interval(months => i % 20, days => -i % 9, secs => i + 0.25) END,
		CASE i % 5 WHEN 0 THEN NULL ELSE ('10.0.0.' || i % 256)::inet END,
		CASE i % 4 WHEN 0 THEN NULL WHEN 1 THEN '' WHEN 2 THEN '𝔘𝔫𝔦𝔠𝔬𝔡𝔢 👩‍👩‍👧 ' || i ELSE E'line\nbreak \\ "quote" ' || i END
		FROM generate_series($1::int, $2::int) i`, from, to)
}
