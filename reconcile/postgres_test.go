package reconcile_test

import (
	"encoding/json"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/internal/backfill"
	"github.com/stranglerfig/migrator/internal/repair"
	"github.com/stranglerfig/migrator/internal/test/pairtest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/postgres"
)

// The same classes where the target is a table: the owner's mark is then the row of
// the table of versions.
func TestEveryClassInAPostgresTarget(t *testing.T) {
	t.Parallel()
	const same = pairtest.SimpleDDL
	byBlocks := strings.Replace(same, "bigint", "numeric", 1)
	for how, ddl := range map[string][2]string{
		"by spans of keys": {same, same},
		"by blocks":        {byBlocks, byBlocks},
		"of other types":   {same, strings.NewReplacer("text", "varchar(100)", "amount numeric", "amount numeric(30,4)").Replace(same)},
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			everyClassInAPostgresTarget(t, ddl[0], ddl[1])
		})
	}
}

func everyClassInAPostgresTarget(t *testing.T, ddl, targetDDL string) {
	t.Helper()
	p := pairtest.New(t, pairtest.Options{DDL: ddl})
	p.FillSimple(t, 1, 2000)
	p.Exec(t, "UPDATE items SET name = 'é' WHERE id = 60")
	ctx, url := t.Context(), testenv.PostgresURL(t)
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	sql := func(text string, args ...any) {
		t.Helper()
		if _, err := pool.Exec(ctx, text, args...); err != nil {
			t.Fatal(err)
		}
	}
	sql(targetDDL)
	m := &migration.Config{Name: "move", Target: migration.Target{Part: &postgres.TargetConfig{Table: "items"}}}
	target, err := postgres.OpenTarget(ctx, m, url, p.Legacy.Schema())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = target.Close() })
	if err := target.Prepare(ctx); err != nil {
		t.Fatal(err)
	}
	done, err := (&backfill.Backfill{
		Legacy: p.Legacy, Barrier: p.Legacy, Locker: p.Legacy, Target: target, NotAfter: notAfter,
		Ledger: &pairtest.Backfills{Path: filepath.Join(t.TempDir(), "progress")},
	}).Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	rc, _ := reconciler(p)
	rc.Target, rc.Barrier = target, done.Barrier
	wantClean(t, rc)

	const side = `migrator_target.move`
	older, beyond := pairtest.Shift(done.Barrier, 0, -1), pairtest.Shift(done.Barrier, 0, 1<<40)
	version := func(v record.Version) string { return string(v.AppendText32(nil)) }
	sql("DELETE FROM items WHERE id = 10")
	sql("INSERT INTO items VALUES (9010, 'ghost'); ")
	sql("INSERT INTO "+side+" (key, version, deleted) VALUES ('9010', $1, false)", version(done.Barrier))
	sql("UPDATE items SET amount = -1 WHERE id = 20")
	sql("UPDATE items SET amount = NULL WHERE id = 30")
	sql("UPDATE items SET amount = -1 WHERE id = 40")
	sql("UPDATE "+side+" SET version = $1 WHERE key = '40'", version(older))
	sql("UPDATE "+side+" SET version = $1 WHERE key = '50'", version(beyond))
	sql("UPDATE items SET name = $1 WHERE id = 60", "e\u0301")
	sql("DELETE FROM " + side + " WHERE key = '70'")
	sql("INSERT INTO items VALUES (9070, 'unowned')")
	sql("DELETE FROM items WHERE id = 80")
	sql("UPDATE " + side + " SET deleted = true, expires = now() + interval '1 day' WHERE key = '80'")
	want := map[record.Key]reconcile.Class{
		"10": reconcile.Missing, "9010": reconcile.Extra, "20": reconcile.FieldDiff, "30": reconcile.FieldDiff, "40": reconcile.Stale,
		"50": reconcile.Ahead, "60": reconcile.Encoding, "70": reconcile.ForeignClass, "9070": reconcile.ForeignClass, "80": reconcile.Missing,
	}
	// A repair leaves another program's row, under a key that legacy lacks, until that program removes it.
	for _, o := range []reconcile.RunOptions{full, repaired} {
		r, found := run(t, rc, o)
		for k, class := range want {
			f := found[k]
			if kept := k == "9070"; f.Class != class || f.Repaired != (o.Repair && !kept) || (f.Repair == string(repair.Foreign)) != (o.Repair && kept) {
				t.Errorf("key %s: %+v, want %s", k, f, class)
			}
		}
		if int(r.Differences) != len(want) {
			t.Errorf("%d differences, want %d: %v", r.Differences, len(want), r.Classes)
		}
	}
	if r, found := run(t, rc, repaired); r.Differences != 1 || found["9070"].Class != reconcile.ForeignClass {
		t.Errorf("once more: %+v %+v", r, found)
	}
	if e, err := target.Get(ctx, []record.Key{"9070"}); err != nil || e[0].Presence != store.Unowned || e[0].Record[1].Text != "unowned" {
		t.Errorf("%+v (%v), want another program's row as it was", e, err)
	}
	sql("DELETE FROM items WHERE id = 9070")
	wantClean(t, rc)
}

// TestOddDocuments: a json value that some parsers refuse makes no document unreadable; it is
// compared, and read as legacy has it, byte for byte.
func TestOddDocuments(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{DDL: "CREATE TABLE items (id bigint PRIMARY KEY, note text, j json)", Key: "i:{id}", Format: "json"})
	odd := []string{`"\ud800"`, ` {"b" : 1,  "a":[1.0] }` + "\n", `{"a":1,"a":2}`, `1e999999`, `"\u0000"`, `{"_text":"x"}`, "null"}
	for i, text := range odd {
		p.Exec(t, "INSERT INTO items VALUES ($1, 'precious', $2::text::json)", i, text)
	}
	runBackfill(t, p)
	rc, _ := reconciler(p)
	wantClean(t, rc)
	for i, text := range odd {
		key := record.MakeKey(strconv.Itoa(i))
		doc, err := p.Redis.Get(t.Context(), "i:"+string(key)).Result()
		if err != nil {
			t.Fatal(err)
		}
		var parsed struct {
			Note string
			J    any
		}
		if err := json.Unmarshal([]byte(doc), &parsed); err != nil || parsed.Note != "precious" {
			t.Errorf("%s: %v", doc, err)
		}
		entries, err := p.Target.Get(t.Context(), []record.Key{key})
		if err != nil || entries[0].Record[2].Text != text {
			t.Errorf("%q is read as %+v, %v", text, entries, err)
		}
	}
	doc, err := p.Redis.Get(t.Context(), "i:0").Result()
	if err != nil || p.Redis.Set(t.Context(), "i:0", strings.Replace(doc, "ud800", "ud801", 1), 0).Err() != nil {
		t.Fatal(doc, err)
	}
	if _, found := run(t, rc, repaired); len(found) != 1 || found["0"].Path != "/j" {
		t.Errorf("%+v", found)
	}
	wantClean(t, rc)
}
