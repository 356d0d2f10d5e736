package backfill_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/test/pairtest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/postgres"
)

// Into PostgreSQL: new rows by blocks, among them some that the target has, and
// once more after a rollback to legacy.
func TestBackfillIntoPostgres(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 1, 6000)
	url := testenv.PostgresURL(t)
	target := postgresTarget(t, url, p.Legacy.Schema())
	exec := func(sql string) {
		t.Helper()
		if _, err := target.Pool().Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	entries := func(keys ...record.Key) []store.Entry {
		t.Helper()
		found, err := target.Get(t.Context(), keys)
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	far := record.MakeVersion(1000, 0, 0)
	if _, err := target.Apply(t.Context(), []store.Write{
		{Key: "3100", Version: far, Deleted: true},
		{Key: "3200", Version: far, Record: record.Record{record.TextValue("3200"), record.TextValue("newer"), record.NullValue, record.NullValue}},
	}); err != nil {
		t.Fatal(err)
	}
	exec("INSERT INTO items (id, name) VALUES (3300, 'another owner''s'), (9000, 'a third owner''s')")
	b, _ := runBackfill(t, p)
	b.Target, b.ChunkRows, b.Batch = target, 500, 250
	got := run(t, b)
	if got.Rows != 6000 || got.Applied != 5998 || got.Newer != 2 || got.Swept != 0 || got.Foreign != 1 {
		t.Errorf("got %+v, want 5998 of 6000 applied, and another program's row left", got)
	}
	for i, e := range entries("3100", "3200", "3300", "9000") {
		want := []store.Presence{store.Tombstone, store.Live, store.Live, store.Unowned}[i]
		if i == 3 && (e.Record == nil || e.Record[1].Text != "a third owner's") || e.Presence != want || (e.Version == far) != (i < 2) || i == 2 && e.Version != got.Barrier {
			t.Errorf("%s is %s at %s, want %s", e.Key, e.Presence, e.Version, want)
		}
	}
	exec("DELETE FROM migrator_target.move WHERE key IN ('3100', '3200')")
	exec("DELETE FROM items WHERE id = 3200")

	p.Exec(t, "DELETE FROM items WHERE id % 10 = 3")
	p.Exec(t, "UPDATE items SET name = 'changed' WHERE id % 10 = 4")
	p.FillSimple(t, 6001, 7000)
	if got = run(t, b); got.Rows != 6400 || got.Applied != 6400 || got.Swept != 600 || got.Foreign != 1 {
		t.Errorf("once more: %+v, want 6400 rows, 600 swept, and another program's row left", got)
	}
	exec("DELETE FROM items WHERE id = 9000")
	const all = "SELECT md5(string_agg(i::text, ' ' ORDER BY id)) FROM items i"
	var legacys, targets string
	if err := p.SQL.QueryRow(t.Context(), all).Scan(&legacys); err != nil {
		t.Fatal(err)
	}
	if err := target.Pool().QueryRow(t.Context(), all).Scan(&targets); err != nil {
		t.Fatal(err)
	}
	if legacys != targets {
		t.Error("the tables differ")
	}
	var versions string
	if err := target.Pool().QueryRow(t.Context(), "SELECT string_agg(DISTINCT version || deleted, ' ') FROM migrator_target.move WHERE NOT deleted").Scan(&versions); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("%sfalse", got.Barrier.AppendText32(nil)); versions != want {
		t.Errorf("live versions %s, want %s alone", versions, want)
	}
}

func postgresTarget(t *testing.T, url string, schema *record.Schema) *postgres.Target {
	t.Helper()
	setUp(t, url, pairtest.SimpleDDL)
	target, err := postgres.OpenTarget(t.Context(), &migration.Config{Name: "move", Target: migration.Target{Store: "postgres", Part: &postgres.TargetConfig{Table: "items"}}}, url, schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = target.Close() })
	if err := target.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	return target
}

func setUp(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}
