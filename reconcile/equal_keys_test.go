package reconcile_test

import (
	"path/filepath"
	"slices"
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

// equalKeys are types of which equal keys have several texts. plan refuses them; a migration that
// an earlier version began may have one. was and is are equal.
var equalKeys = []struct {
	typ, was, is string // SQL
	key          string // of was
	named        bool   // Redis can have keys of the type
}{
	{"bpchar", "'a'", "'a  '", "a", true},
	{"numeric", "1.0", "1.00", "1.0", true},
	{"text COLLATE loose", "'a'", "'A'", "a", false},
	{"float8", "'-0'", "0", "-0", false},
	{"numeric[]", "ARRAY[1.0]", "ARRAY[1.00]", "[1.0]", false},
}

// No repair deletes the record of a key that legacy takes as equal to one it has; and the target
// gets the record that legacy has.
func TestEqualKeysAreNotDeleted(t *testing.T) {
	t.Parallel()
	for _, c := range equalKeys {
		key := record.MakeKey(c.key)
		ddl := "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false); CREATE TABLE items (id " + c.typ + " PRIMARY KEY, note text)"
		if c.named {
			t.Run(c.typ+" in Redis", func(t *testing.T) {
				t.Parallel()
				p := pairtest.New(t, pairtest.Options{DDL: ddl})
				p.Exec(t, "INSERT INTO items VALUES ("+c.was+", 'x')")
				runBackfill(t, p)
				rc, _ := reconciler(p)
				wantClean(t, rc)
				p.Exec(t, "UPDATE items SET id = "+c.is+", note = 'y'")
				for range 2 {
					_, found := run(t, rc, repaired)
					if f := found[key]; f.Class != reconcile.EqualKey || f.Repaired || f.Repair != string(repair.Equal) {
						t.Fatalf("%+v", found)
					}
				}
				entries, err := p.Target.Get(t.Context(), []record.Key{key})
				if err != nil || entries[0].Presence != store.Live {
					t.Fatalf("%+v, %v", entries, err)
				}
				if diffs := p.Diff(t); len(diffs) != 1 {
					t.Errorf("the record itself is not there: %v", diffs)
				}
			})
		}
		t.Run(c.typ+" in PostgreSQL", func(t *testing.T) {
			t.Parallel()
			url := testenv.PostgresURL(t)
			pool, err := pgxpool.New(t.Context(), url)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(pool.Close)
			sql := func(text string) {
				t.Helper()
				if _, err := pool.Exec(t.Context(), text); err != nil {
					t.Fatal(err)
				}
			}
			sql(ddl + "; CREATE SCHEMA away; CREATE TABLE away.items (LIKE items INCLUDING ALL); INSERT INTO items VALUES (" + c.was + ", 'x')")
			m := &migration.Config{
				Name: "move", Legacy: migration.Legacy{Part: &postgres.LegacyConfig{Table: "items"}},
				Target: migration.Target{Part: &postgres.TargetConfig{Table: "away.items"}},
			}
			legacy, err := postgres.OpenLegacy(t.Context(), m, url)
			if err != nil {
				t.Fatal(err)
			}
			m.Schema = legacy.Schema() // as applied
			legacy.Close()
			if legacy, err = postgres.OpenLegacy(t.Context(), m, url); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(legacy.Close)
			target, err := postgres.OpenTarget(t.Context(), m, url, legacy.Schema())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = target.Close() })
			for _, err := range []error{legacy.Install(t.Context()), target.Prepare(t.Context())} {
				if err != nil {
					t.Fatal(err)
				}
			}
			if _, err := (&backfill.Backfill{
				Legacy: legacy, Barrier: legacy, Locker: legacy, Target: target, NotAfter: notAfter,
				Ledger: &pairtest.Backfills{Path: filepath.Join(t.TempDir(), "progress")},
			}).Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			compare, err := record.NewComparer(legacy.Schema(), nil)
			if err != nil {
				t.Fatal(err)
			}
			rc := &reconcile.Reconciler{Legacy: legacy, Locker: legacy, Target: target, Ledger: &pairtest.Reconciles{}, Compare: compare, Options: reconcile.Options{NotAfter: notAfter}}
			wantClean(t, rc)
			sql("UPDATE items SET id = " + c.is + ", note = 'y'")
			if _, found := run(t, rc, repaired); found[key].Class != reconcile.EqualKey {
				t.Fatalf("%+v", found)
			}
			same := func() {
				t.Helper()
				var ok bool
				if err := pool.QueryRow(t.Context(), "SELECT count(*) = 1 AND bool_and(record_image_eq(l, a)) FROM items l JOIN away.items a USING (id)").Scan(&ok); err != nil || !ok {
					t.Fatalf("the target lacks the record that legacy has: %v", err)
				}
			}
			same()
			run(t, rc, repaired)
			same()
			wantClean(t, rc)

			// An application that changes the key to an equal one deletes a record and writes another,
			// in any order.
			rows := read(t, legacy)
			sql("UPDATE items SET id = " + c.was + ", note = 'z'")
			back := read(t, legacy)
			put, gone := store.Write{Key: back[0].Key, Record: back[0].Record}, store.Write{Key: rows[0].Key, Deleted: true}
			for n, writes := range [][]store.Write{{put, gone}, {gone, put}} {
				for i := range writes {
					writes[i].Version = record.MakeVersion(uint32(100+n), 0, 1)
				}
				results, err := target.Apply(t.Context(), writes)
				if err != nil || slices.ContainsFunc(results, func(r store.Result) bool { return r.Outcome != store.Applied }) {
					t.Fatalf("%+v, %v", results, err)
				}
				same()
			}

			// A return takes the target's records as they are.
			if _, err := legacy.RaiseFence(t.Context(), "A", notAfter*100); err != nil {
				t.Fatal(err)
			}
			replay, err := legacy.BeginReplay(t.Context(), "A")
			if err != nil {
				t.Fatal(err)
			}
			for _, list := range [][]store.Row{{{Key: rows[0].Key}}, {{Key: back[0].Key}, rows[0]}, {{Key: back[0].Key}}} {
				done, err := legacy.Replay(t.Context(), replay, list)
				if err != nil || len(done.Refused) > 0 {
					t.Fatalf("%+v, %v", done, err)
				}
				if now := read(t, legacy); len(now) != 1 {
					t.Fatalf("the return of %+v left %+v", list, now)
				}
			}
			if now := read(t, legacy); now[0].Key != rows[0].Key {
				t.Errorf("the return left %+v, want %+v", now, rows)
			}
		})
	}
}

// read returns all rows of legacy.
func read(t *testing.T, legacy *postgres.Legacy) (rows []store.Row) {
	t.Helper()
	chunks, err := legacy.Chunks(t.Context(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range chunks {
		if err := legacy.Scan(t.Context(), c, func(r store.Row) error {
			r.Record = r.Record.Clone()
			rows = append(rows, r)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	return rows
}
