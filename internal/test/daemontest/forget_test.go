package daemontest

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	goredis "github.com/redis/go-redis/v9"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/test/clitest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
)

// forgetting is an operator with a migration in shadow-write whose target has a copy of everything,
// and a version of a record that was deleted.
func forgetting(t *testing.T) *operator {
	t.Helper()
	o := newOperator(t, "items", "  table: items\n", "  key: item:{id}\n", clitest.Served)
	o.SQL(o.Legacy, `CREATE TABLE items (id bigint PRIMARY KEY, name text);
		INSERT INTO items SELECT i, 'item ' || i FROM generate_series(1, 20) i`)
	o.Does("init", "apply", "phase advance", "backfill run")
	o.SQL(o.Legacy, `DELETE FROM items WHERE id = 20`)
	o.repairs(t)
	return o
}

func (o *operator) forgotten(t *testing.T, args ...string) (f app.Forgotten) {
	t.Helper()
	code, out, errs := o.Try(append([]string{"forget", "items", "-o", "json"}, args...)...)
	if err := json.Unmarshal([]byte(out), &f); code != clitest.Done || err != nil {
		t.Fatalf("exit code %d, %v: %s%s", code, err, out, errs)
	}
	return f
}

const leftSQL = `SELECT count(*) FROM pg_namespace WHERE nspname = 'migrator_legacy'`

// TestForgetAnAbandonedMigration: a dry run lists, and changes nothing; then all is gone but the
// records; the history stays whole; the table can be moved again, by the same name and by another.
func TestForgetAnAbandonedMigration(t *testing.T) {
	t.Parallel()
	o := forgetting(t)
	plan := o.forgotten(t, "--dry-run")
	if plan.Forgotten || len(plan.Target) != 3 || len(plan.Legacy) == 0 || len(plan.State) == 0 {
		t.Errorf("%+v", plan)
	}
	if records := plan.Target[2]; records.Count != 19 || !records.Stays {
		t.Errorf("the target's records: %+v", plan.Target)
	}
	if tombstones := plan.Target[1]; tombstones.Count != 1 || tombstones.Stays {
		t.Errorf("the target's tombstones: %+v", plan.Target)
	}
	if again := o.forgotten(t, "--dry-run"); len(again.State) != len(plan.State) {
		t.Errorf("the dry run has changed something: %+v", again)
	}
	if code, _, errs := o.Try("forget", "items"); code != clitest.Usage || !strings.Contains(errs, "--yes") {
		t.Errorf("without --yes: exit code %d: %s", code, errs)
	}
	if code, _, errs := o.Try("forget", "others", "--yes"); code != clitest.Usage || !strings.Contains(errs, "describes items") {
		t.Errorf("another name: exit code %d: %s", code, errs)
	}
	if f := o.forgotten(t, "--yes", "--reason", "given up"); !f.Forgotten || f.Before {
		t.Errorf("%+v", f)
	}
	if f := o.forgotten(t, "--yes"); !f.Before {
		t.Errorf("repeated: %+v", f)
	}
	if n := o.number(t, o.Legacy, leftSQL); n != 0 {
		t.Error("legacy has migrator's schema")
	}
	if keys := o.keys(t); len(keys) != 19 {
		t.Errorf("the target has %q", keys)
	}
	o.Does("history verify items")

	if code, out, errs := o.Try("apply"); code != clitest.Done || !strings.Contains(errs, "19 of 19 keys hold records of an earlier migration") {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
	// It has copied nothing yet: the records are the earlier one's.
	if f := o.forgotten(t, "--yes", "--delete-records"); !f.Forgotten || f.Records != 0 || len(o.keys(t)) != 19 {
		t.Errorf("%+v, the target has %q", f, o.keys(t))
	}
	o.Does("apply", "history verify items", "phase advance", "backfill run", "reconcile run --full", "history verify items", "phase rollback --to legacy --yes")
	o.SQL(o.Legacy, `UPDATE items SET name = name || '!'`)
	o.Does("phase advance", "backfill run --again", "reconcile run --full", "phase rollback --to legacy --yes")
	if code, _, errs := o.Try("forget", "items", "--yes", "--delete-records"); code != clitest.Done {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	if keys := o.keys(t); len(keys) != 0 {
		t.Errorf("the target has %q", keys)
	}
	o.Write("migration.yaml", strings.Replace(o.read(t, "migration.yaml"), "name: items", "name: goods", 1))
	o.Does("apply", "phase advance", "backfill run", "reconcile run --full")
}

// TestForgetIsRefusedWhereItWouldHarm: in other phases, and beside a daemon.
func TestForgetIsRefusedWhereItWouldHarm(t *testing.T) {
	t.Parallel()
	o := forgetting(t)
	refused := func(words string, args ...string) {
		t.Helper()
		code, _, errs := o.Try(append([]string{"forget", "items", "--yes"}, args...)...)
		if code != clitest.Usage && code != clitest.NotYet || !strings.Contains(errs, words) {
			t.Errorf("exit code %d: %s", code, errs)
		}
	}
	o.Does("phase advance")
	refused("migrator phase rollback --to legacy")
	o.SQL(o.Legacy, `INSERT INTO items VALUES (20, 'again')`)
	o.repairs(t)
	o.Does("reconcile run --full", "phase advance", "reconcile run --full", "phase advance", "reconcile run --full", "phase advance")
	refused("items is on retain")
	o.Does("phase rollback --to grace --yes", "phase rollback --to legacy --yes")
	refused("is no orphan", "--orphan")
	d := o.serve(t)
	d.awaits("the daemon to lead", func() bool { return strings.Contains(d.logText(), `"leading"`) })
	refused("a daemon leads items")
}

// TestForgetACompleteMigration: the fence goes with it, the records stay.
func TestForgetACompleteMigration(t *testing.T) {
	t.Parallel()
	o := forgetting(t)
	o.Does("phase advance", "reconcile run --full", "phase advance", "reconcile run --full", "phase advance", "reconcile run --full", "phase advance", "phase advance")
	if code, _, errs := o.Try("forget", "items", "--yes", "--delete-records"); code != clitest.Usage || !strings.Contains(errs, "the only ones that are current") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	o.SQL(o.Legacy, `INSERT INTO migrator_legacy.set_aside VALUES ('items', 'a', '1', false, '{}', '', '', '', '')`)
	if code, _, errs := o.Try("forget", "items", "--yes"); code != clitest.Usage || !strings.Contains(errs, "1 records that a rollback set aside") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	if f := o.forgotten(t, "--yes", "--drop-set-aside"); !f.Forgotten {
		t.Errorf("%+v", f)
	}
	if keys := o.keys(t); len(keys) != 19 {
		t.Errorf("the target has %q", keys)
	}
	o.SQL(o.Legacy, `INSERT INTO items VALUES (30, 'legacy takes writes again')`)
	if n := o.number(t, o.Legacy, leftSQL); n != 0 {
		t.Error("legacy has migrator's schema")
	}
	// A dropped table, too.
	o.Does("apply")
	o.SQL(o.Legacy, `DROP TABLE items`)
	if f := o.forgotten(t, "--yes"); !f.Forgotten {
		t.Errorf("%+v", f)
	}
}

// TestForgetAnOrphan: of a state database that no longer exists.
func TestForgetAnOrphan(t *testing.T) {
	t.Parallel()
	o := forgetting(t)
	o.SQL(o.State, `DROP SCHEMA migrator CASCADE`)
	o.Does("init")
	if code, _, errs := o.Try("forget", "items", "--yes"); code != clitest.Usage || !strings.Contains(errs, "as an orphan") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	if code, out, _ := o.Try("apply"); code != clitest.Usage || !strings.Contains(out, "belong to another migration: items@") {
		t.Errorf("exit code %d: %s", code, out)
	}
	if f := o.forgotten(t, "--yes", "--orphan"); !f.Forgotten || len(f.State) != 0 {
		t.Errorf("%+v", f)
	}
	o.Does("forget items --yes --orphan", "apply", "phase advance", "backfill run", "reconcile run --full")
}

// TestForgetInEachTarget: a table, and documents on the nodes of a cluster, keep the records and nothing else of the migration;
// another one takes them over; and with --delete-records nothing is left.
func TestForgetInEachTarget(t *testing.T) {
	t.Parallel()
	inTable := func(t *testing.T, o *operator) func() []string {
		o.Target = testenv.PostgresURL(t)
		o.SQL(o.Target, `CREATE TABLE goods (id bigint PRIMARY KEY, name text, more jsonb)`)
		return func() (names []string) {
			conn, err := pgx.Connect(t.Context(), o.Target)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close(t.Context()) }()
			rows, err := conn.Query(t.Context(), `SELECT name FROM goods UNION ALL
				SELECT c.relname FROM pg_class c WHERE c.relnamespace = to_regnamespace('migrator_target') ORDER BY 1`)
			if err == nil {
				names, err = pgx.CollectRows(rows, pgx.RowTo[string])
			}
			if err != nil {
				t.Fatal(err)
			}
			return names
		}
	}
	inCluster := func(t *testing.T, o *operator) func() []string {
		onlyLong(t)
		cluster, err := testenv.StartRedisCluster(t.Context(), 3)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := cluster.Stop(context.Background()); err != nil {
				t.Error(err)
			}
		})
		o.Target = cluster.URL()
		return func() (names []string) {
			for _, node := range cluster.Nodes {
				client := goredis.NewClient(&goredis.Options{Addr: node.Addr()})
				found, err := client.Keys(t.Context(), "*").Result()
				_ = client.Close()
				if err != nil {
					t.Fatal(err)
				}
				names = append(names, found...)
			}
			return names
		}
	}
	for name, c := range map[string]struct {
		target string
		open   func(t *testing.T, o *operator) (names func() []string)
	}{
		"table":                  {"  store: postgres\n  url_file: target.url\n  table: goods\n", inTable},
		"documents in a cluster": {"  store: redis\n  url_file: target.url\n  key: item:{id}\n  format: json\n  numbers: string\n", inCluster},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOperator(t, "items", "  table: items\n", "  key: item:{id}\n", clitest.Served)
			names := c.open(t, o)
			o.Write("target.url", o.Target)
			o.Write("migration.yaml", "name: items\nlegacy:\n  store: postgres\n  url_file: legacy.url\n  table: items\ntarget:\n"+c.target+clitest.Served)
			o.SQL(o.Legacy, `CREATE TABLE items (id bigint PRIMARY KEY, name text, more jsonb);
				INSERT INTO items SELECT i, 'item ' || i, jsonb_build_object('n', 12345678901234567890 + i) FROM generate_series(1, 20) i`)
			o.Does("init", "apply", "phase advance", "backfill run")
			o.SQL(o.Legacy, `DELETE FROM items WHERE id = 20`)
			o.repairs(t)
			plan := o.forgotten(t, "--dry-run")
			counts := map[int64]int{}
			for _, trace := range plan.Target {
				counts[trace.Count]++
			}
			if counts[19] != 1 || counts[1] < 1 {
				t.Errorf("want 19 records or their versions, and a tombstone: %+v", plan.Target)
			}
			if f := o.forgotten(t, "--yes"); !f.Forgotten || f.Records != 0 {
				t.Errorf("%+v", f)
			}
			if got := names(); len(got) != 19 {
				t.Errorf("%d names, want the records: %q", len(got), got)
			}
			if f := o.forgotten(t, "--yes"); !f.Before {
				t.Errorf("repeated: %+v", f)
			}
			// What is there is taken over, and what changed meanwhile found.
			o.SQL(o.Legacy, `UPDATE items SET name = name || '!' WHERE id % 2 = 0`)
			o.Does("apply", "phase advance", "backfill run", "reconcile run --full", "phase rollback --to legacy --yes")
			if f := o.forgotten(t, "--yes", "--delete-records"); !f.Forgotten || f.Records != 19 {
				t.Errorf("%+v", f)
			}
			if got := names(); len(got) != 0 {
				t.Errorf("it has left %q", got)
			}
			o.Does("history verify items")
		})
	}
}

func (o *operator) number(t *testing.T, url, sql string) (n int64) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	if err := conn.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func (o *operator) keys(t *testing.T) []string {
	t.Helper()
	options, err := goredis.ParseURL(o.Target)
	if err != nil {
		t.Fatal(err)
	}
	client := goredis.NewClient(options)
	defer func() { _ = client.Close() }()
	keys, err := client.Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func (o *operator) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(o.Path(name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// repairs makes a run that finds differences, and repairs them.
func (o *operator) repairs(t *testing.T) {
	t.Helper()
	if code, out, errs := o.Try("reconcile", "run", "--full", "--repair"); code != clitest.NotYet {
		t.Fatalf("exit code %d: %s%s", code, out, errs)
	}
}
