package postgres_test

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/postgres"
)

// worst are defaults of a role or a database under which a session would change a value, see other
// rows, read whole tables or be ended.
var worst = map[string]string{
	"client_encoding": "LATIN1", "DateStyle": "German, DMY", "TimeZone": "Asia/Kathmandu", "IntervalStyle": "sql_standard",
	"extra_float_digits": "-15", "bytea_output": "escape", "quote_all_identifiers": "on",
	"array_nulls": "off", "xmloption": "document", "standard_conforming_strings": "off", "backslash_quote": "off", "transform_null_equals": "on",
	"row_security": "on", "gin_fuzzy_search_limit": "1", "default_transaction_isolation": "serializable", "default_transaction_deferrable": "on",
	"idle_in_transaction_session_timeout": "1", "statement_timeout": "1", "lock_timeout": "1", "exit_on_error": "on",
	"enable_seqscan": "on", "enable_indexscan": "off", "enable_indexonlyscan": "off", "enable_bitmapscan": "off", "enable_tidscan": "off", "enable_nestloop": "off",
	"enable_hashjoin": "on", "enable_mergejoin": "on", "enable_partition_pruning": "off", "jit": "on", "jit_above_cost": "0", "plan_cache_mode": "force_generic_plan",
	"idle_session_timeout": "60000", "transaction_timeout": "60000", "log_parameter_max_length_on_error": "-1",
	"session_replication_role": "replica",
}

const sessionTable = ` (id timestamptz PRIMARY KEY, a text[], x xml, b bytea, f float8, i interval, n numeric, t timetz, j jsonb)`

// TestSettingsOfOthers: whatever the defaults of the database and of the role are, a row goes to the
// target and back unchanged, and every setting is what it should be.
func TestSettingsOfOthers(t *testing.T) {
	t.Parallel()
	from, to := newDatabase(t), newDatabase(t)
	from.exec(`CREATE TABLE products` + sessionTable + `;
		INSERT INTO products VALUES ('2024-02-29 12:00:00.123456+05:45', ARRAY['a', NULL, 'NULL', 'back\slash'], '<a/><b/>', '\x00ff27', 0.1::float8 + 0.2, '-1 mon 3 days', 1.10, '12:00:00.5+02', '{"a": "''\\"}')`)
	to.exec(`CREATE TABLE products` + sessionTable)
	role := "session_" + strings.ToLower(from.text(`SELECT substr(md5(random()::text), 1, 12)`))
	from.exec(`CREATE ROLE ` + role + ` SUPERUSER LOGIN PASSWORD 'x'`)
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		conn, err := pgx.Connect(ctx, from.url)
		from.ok(err)
		defer func() { _ = conn.Close(ctx) }()
		_, err = conn.Exec(ctx, `REASSIGN OWNED BY `+role+` TO CURRENT_USER; DROP OWNED BY `+role+`; DROP ROLE `+role)
		from.ok(err)
	})
	known := map[string]bool{}
	for name, value := range worst {
		if from.text(`SELECT count(*) FROM pg_settings WHERE lower(name) = lower($1)`, name) == "0" {
			continue
		}
		known[name] = true
		from.exec(fmt.Sprintf(`ALTER ROLE %s SET %s = '%s'`, role, name, value))
		to.exec(fmt.Sprintf(`DO $$ BEGIN EXECUTE format('ALTER DATABASE %%I SET %s = %%L', current_database(), '%s'); END $$`, name, value))
	}
	as := func(d *database) string {
		u, err := url.Parse(d.url)
		d.ok(err)
		u.User = url.UserPassword(role, "x")
		return u.String()
	}
	m := &migration.Config{
		Name:   "m",
		Legacy: migration.Legacy{Part: &postgres.LegacyConfig{Table: "products"}},
		Target: migration.Target{Part: &postgres.TargetConfig{Table: "products"}},
	}
	legacy, err := postgres.OpenLegacy(from.ctx, m, as(from))
	from.ok(err)
	defer legacy.Close()
	from.ok(legacy.Install(from.ctx))
	target, err := postgres.OpenTarget(to.ctx, m, to.url, legacy.Schema())
	to.ok(err)
	defer target.Close()
	to.ok(target.Prepare(to.ctx))
	for name, value := range worst {
		if !known[name] || name == "jit_above_cost" {
			continue
		}
		for side, read := range map[string]func() pgx.Row{
			"legacy": func() pgx.Row { return legacy.Pool().QueryRow(from.ctx, "SELECT current_setting($1)", name) },
			"target": func() pgx.Row { return target.Pool().QueryRow(to.ctx, "SELECT current_setting($1)", name) },
		} {
			var now string
			from.ok(read().Scan(&now))
			if now == value || now == value+"ms" || now == "1min" {
				t.Errorf("a session of %s has %s = %s, the default of its role or database", side, name, now)
			}
		}
	}
	// The connection that reads the log has them too; one that lost some on its way is refused.
	replicates := func(config *pgconn.Config) error {
		t.Helper()
		conn, err := pgconn.ConnectConfig(from.ctx, config)
		from.ok(err)
		defer func() { _ = conn.Close(from.ctx) }()
		return legacy.SettleReplication(from.ctx, conn)
	}
	config := legacy.ReplicationConfig()
	from.ok(replicates(config))
	delete(config.RuntimeParams, "IntervalStyle")
	if err := replicates(config); err == nil || !strings.Contains(err.Error(), "a session of the legacy PostgreSQL has IntervalStyle = sql_standard") {
		t.Errorf("a connection that has lost a setting: %v", err)
	}
	// There: the row, as legacy prints it, and back through the fence.
	const key = record.Key("2024-02-29T06:15:00.123456Z")
	rows, err := legacy.LookupLocked(from.ctx, []record.Key{key})
	from.ok(err)
	if !rows[0].Found {
		t.Fatal("legacy does not find its row")
	}
	results, err := target.Apply(to.ctx, []store.Write{{Key: key, Record: rows[0].Record, Version: rows[0].Version}})
	to.ok(err)
	to.ok(results[0].Err)
	const contents = `SELECT string_agg(p::text, '|') FROM (SELECT id AT TIME ZONE 'UTC', a, x::text, b, f, i, n, t, j FROM products) p`
	want := from.text(contents)
	if got := to.text(contents); got != want {
		t.Errorf("the target has %s, legacy %s", got, want)
	}
	_, err = legacy.RaiseFence(from.ctx, "A", wait)
	from.ok(err)
	entries, err := target.Get(to.ctx, []record.Key{key})
	to.ok(err)
	run, err := legacy.BeginReplay(from.ctx, "A")
	from.ok(err)
	_, err = legacy.Replay(from.ctx, run, []store.Row{{Key: key, Found: true, Record: entries[0].Record}})
	from.ok(err)
	if got := from.text(contents); got != want {
		t.Errorf("after the return legacy has %s, before %s", got, want)
	}
}

// TestAPoolerInFrontOfAStore: a PgBouncer that refuses the session's settings is named by the row of
// the table of failures, and one that drops them by the setting. In no mode of its does a store open
// with other settings than it needs.
func TestAPoolerInFrontOfAStore(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(`CREATE TABLE products (id int PRIMARY KEY, name text)`)
	m := &migration.Config{
		Name:   "m",
		Legacy: migration.Legacy{Part: &postgres.LegacyConfig{Table: "products"}},
		Target: migration.Target{Part: &postgres.TargetConfig{Table: "products"}},
	}
	const drop = "ignore_startup_parameters = array_nulls,xmloption,extra_float_digits,bytea_output,quote_all_identifiers,timezone_abbreviations,backslash_quote," +
		"transform_null_equals,row_security,gin_fuzzy_search_limit,default_transaction_isolation,default_transaction_deferrable," +
		"idle_in_transaction_session_timeout,exit_on_error,enable_seqscan,enable_hashjoin,enable_mergejoin,enable_indexscan,enable_indexonlyscan," +
		"enable_bitmapscan,enable_tidscan,enable_nestloop,enable_partition_pruning,jit,plan_cache_mode,statement_timeout,lock_timeout,IntervalStyle"
	for _, mode := range []string{"session", "transaction"} {
		strict := testenv.Pgbouncer(t, testenv.PgbouncerOptions{URL: d.url, Mode: mode})
		_, err := postgres.OpenLegacy(d.ctx, m, strict.URL())
		if f, _ := hint.FailureOf(err); f.Code != "08P01" || !strings.Contains(err.Error(), "unsupported startup parameter") {
			t.Errorf("%s: %v", mode, err)
		}
		lax := testenv.Pgbouncer(t, testenv.PgbouncerOptions{URL: d.url, Mode: mode, Config: []string{drop}})
		_, err = postgres.OpenTarget(d.ctx, m, lax.URL(), nil)
		if err == nil || !strings.Contains(err.Error(), "a session of the target PostgreSQL has ") {
			t.Errorf("%s, settings dropped: %v", mode, err)
		}
	}
}
