package postgres_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/postgres"
	"github.com/stranglerfig/migrator/store/storetest"
)

func simpleTarget(t *testing.T, ddl string, tombstones time.Duration) (*database, *postgres.Target) {
	t.Helper()
	d := newDatabase(t)
	d.exec(ddl)
	return d, d.target(&migration.Config{Name: "m", Writing: migration.Writing{Tombstones: phases.Duration(tombstones)}}, storetest.Simple())
}

func write(id string, name string, lsn uint64) store.Write {
	return store.Write{Key: record.Key(id), Version: record.MakeVersion(1, 0, lsn), Record: record.Record{
		record.TextValue(id), record.TextValue(name), record.NullValue, record.NullValue,
	}}
}

// TestWaitingDoesNotExtendNotAfter: a write that waits for a lock, of the version or of
// the row, until after its not-after must not be applied.
func TestWaitingDoesNotExtendNotAfter(t *testing.T) {
	t.Parallel()
	d, target := simpleTarget(t, createTable(storetest.Simple()), 0)
	_, err := target.Apply(d.ctx, []store.Write{write("1", "one", 1), write("2", "two", 1)})
	d.ok(err)
	turn := uint64(1)
	for name, lock := range map[string]string{
		"the version": `SELECT FROM migrator_target.m WHERE key = '1' FOR UPDATE`,
		"the row":     `SELECT FROM "The Target" WHERE id = 1 FOR UPDATE`,
		"a new key":   `INSERT INTO migrator_target.m VALUES ('3', repeat('0', 32), false)`,
	} {
		tx := d.begin(pgx.TxOptions{})
		_, err = tx.Exec(d.ctx, lock)
		d.ok(err)
		turn++
		now, err := target.Now(d.ctx)
		d.ok(err)
		notAfter := now.Add(500 * time.Millisecond)
		writes := []store.Write{write("1", name, 10), write("2", name, turn), write("3", name, 10)}
		writes[0].NotAfter, writes[1].NotAfter, writes[2].NotAfter = notAfter, notAfter.Add(time.Hour), notAfter
		done := make(chan []store.Result, 1)
		go func() {
			results, err := target.Apply(d.ctx, writes)
			if err != nil {
				t.Error(err)
			}
			done <- results
		}()
		testenv.Await(d, "its not-after to be over", func() bool {
			now, err := target.Now(d.ctx)
			d.ok(err)
			return now.After(notAfter.Add(50 * time.Millisecond))
		})
		d.ok(tx.Rollback(d.ctx))
		results := <-done
		if results[0].Outcome != store.Late || results[1].Outcome != store.Applied || results[2].Outcome != store.Late {
			t.Errorf("waiting for %s: %+v", name, results)
		}
		if results[0].Version != record.MakeVersion(1, 0, 1) || !results[2].Version.IsZero() {
			t.Errorf("waiting for %s: versions %s and %s", name, results[0].Version, results[2].Version)
		}
		if got := d.text(`SELECT string_agg(name, ',' ORDER BY id) FROM "The Target"`); got != "one,"+name {
			t.Errorf("waiting for %s: the target holds %s", name, got)
		}
	}
}

// TestOneBadWriteFailsAlone: the other writes of its batch are applied.
func TestOneBadWriteFailsAlone(t *testing.T) {
	t.Parallel()
	d, target := simpleTarget(t, `CREATE TABLE "The Target" (id int4 PRIMARY KEY, name varchar(8) CHECK (name <> 'checked'), amount numeric, expires_at timestamptz);
		CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.name = 'raise' THEN RAISE EXCEPTION 'no'; END IF; RETURN NEW; END $$;
		CREATE TRIGGER no BEFORE INSERT ON "The Target" FOR EACH ROW EXECUTE FUNCTION no()`, 0)
	bad := map[string]store.Write{
		"too long": write("10", "nine chars", 1), "checked": write("20", "checked", 1), "raise": write("30", "raise", 1),
		"no number": write("x", "fine", 1), "out of range": write("99999999999", "fine", 1), "two parts": write("1,2", "fine", 1),
		"zero byte": write("40", "a\x00b", 1), "no UTF-8": write("50", "\xff", 1), "long key": write(strings.Repeat("7", 9000), "fine", 1),
	}
	mixed := write("60", "fine", 1)
	mixed.Record[2] = record.TextValue("s3cret")
	bad["no decimal"] = mixed
	var writes []store.Write
	for i := range 40 {
		writes = append(writes, write(itoa(100+i), "fine", 1))
	}
	for _, w := range bad {
		writes = append(writes, w)
	}
	results, err := target.Apply(d.ctx, writes)
	d.ok(err)
	for i, r := range results {
		switch good := i < 40; {
		case good && (r.Outcome != store.Applied || r.Err != nil):
			t.Errorf("a good write: %+v", r)
		case !good && (r.Err == nil || r.Outcome != ""):
			t.Errorf("the bad write %q %q: %+v", writes[i].Key, writes[i].Record[1].Text, r)
		case !good && (strings.Contains(r.Err.Error(), "s3cret") || strings.Contains(r.Err.Error(), "nine chars")):
			t.Errorf("an error contains a value: %v", r.Err)
		}
	}
	if got := d.text(`SELECT count(*) || ' ' || (SELECT count(*) FROM migrator_target.m) FROM "The Target"`); got != "40 40" {
		t.Errorf("records and versions: %s, want 40 of both", got)
	}
}

func TestPurge(t *testing.T) {
	t.Parallel()
	d, target := simpleTarget(t, createTable(storetest.Simple()), time.Millisecond)
	kept, gone, back := write("1", "", 2), write("2", "", 2), write("3", "", 2)
	kept.Deleted, kept.Keep, gone.Deleted, back.Deleted = true, true, true, true
	_, err := target.Apply(d.ctx, []store.Write{write("1", "a", 1), write("2", "a", 1), write("3", "a", 1), write("4", "a", 1)})
	d.ok(err)
	_, err = target.Apply(d.ctx, []store.Write{kept, gone, back})
	d.ok(err)
	_, err = target.Apply(d.ctx, []store.Write{write("3", "again", 3)})
	d.ok(err)
	testenv.Await(d, "the tombstone to be purged", func() bool {
		n, err := target.Purge(d.ctx)
		d.ok(err)
		return n == 1
	})
	n, err := target.Purge(d.ctx)
	d.ok(err)
	entries, err := target.Get(d.ctx, []record.Key{"1", "2", "3", "4"})
	d.ok(err)
	for i, want := range []store.Presence{store.Tombstone, store.Absent, store.Live, store.Live} {
		if entries[i].Presence != want {
			t.Errorf("key %s is %s, want %s", entries[i].Key, entries[i].Presence, want)
		}
	}
	if n != 0 {
		t.Errorf("%d more were purged", n)
	}
}

// TestForeignRows: rows that another client writes or deletes are recognised.
func TestForeignRows(t *testing.T) {
	t.Parallel()
	d, target := simpleTarget(t, createTable(storetest.Simple()), 0)
	tombstone, deleted := write("3", "", 5), write("3000", "", 5)
	tombstone.Deleted, deleted.Deleted = true, true
	_, err := target.Apply(d.ctx, []store.Write{write("1", "a", 5), write("2", "a", 5), tombstone, deleted})
	d.ok(err)
	d.exec(`DELETE FROM "The Target" WHERE id = 2; INSERT INTO "The Target" (id, name) SELECT g, 'theirs' FROM generate_series(3, 2500) g`)
	seen := map[record.Key]store.Entry{}
	d.ok(target.Scan(d.ctx, func(entries []store.Entry) error {
		for _, e := range entries {
			seen[e.Key] = e
		}
		return nil
	}))
	if !seen["2"].Vanished || seen["3000"].Presence != store.Tombstone || seen["3000"].Vanished || seen["3000"].Detail != "" {
		t.Errorf("a row that another program deleted: %+v; one that the migration did: %+v", seen["2"], seen["3000"])
	}
	if len(seen) != 2501 || seen["1"].Presence != store.Live || seen["2"].Presence != store.Tombstone || seen["2"].Detail == "" ||
		seen["3"].Presence != store.Unowned || seen["2500"].Presence != store.Unowned || seen["2500"].Record[1].Text != "theirs" {
		t.Errorf("Scan saw %d entries: %+v, %+v, %+v, %+v", len(seen), seen["1"], seen["2"], seen["3"], seen["2500"])
	}
	results, err := target.Apply(d.ctx, []store.Write{write("2", "b", 5), write("2", "b", 6), write("3", "b", 6)})
	d.ok(err)
	if results[0].Outcome != store.Older || results[1].Outcome != store.Applied || results[2].Outcome != store.Foreign {
		t.Errorf("%+v", results)
	}
	over := write("3", "b", 5)
	over.Overwrite = true
	newer := write("3", "b", 6)
	newer.Overwrite = true
	results, err = target.Apply(d.ctx, []store.Write{over, newer})
	d.ok(err)
	if results[0].Outcome != store.Older || results[1].Outcome != store.Applied {
		t.Errorf("%+v", results)
	}
}

func TestUnpreparedTargetHasAHint(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(createTable(storetest.Simple()))
	target, err := postgres.OpenTarget(d.ctx, &migration.Config{Name: "m", Target: migration.Target{Part: &postgres.TargetConfig{Table: `"The Target"`}}}, d.url, storetest.Simple())
	d.ok(err)
	t.Cleanup(func() { _ = target.Close() })
	_, get := target.Get(d.ctx, []record.Key{"1"})
	_, apply := target.Apply(d.ctx, []store.Write{write("1", "a", 1)})
	_, purge := target.Purge(d.ctx)
	scan := target.Scan(d.ctx, func([]store.Entry) error { return nil })
	for name, err := range map[string]error{"Get": get, "Apply": apply, "Purge": purge, "Scan": scan} {
		if h, _ := hint.Of(err); h.Do != hint.Apply {
			t.Errorf("%s: %v", name, err)
		}
	}
	d.wants(target, "target-schema", store.Good)
}

// TestTablesWithRulesAreRefused: PostgreSQL refuses ON CONFLICT on a table with rules,
// which Check reports before any write.
func TestTablesWithRulesAreRefused(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(createTable(storetest.Simple()))
	d.exec(`CREATE TABLE audit (id bigint); CREATE RULE gone AS ON DELETE TO "The Target" DO ALSO INSERT INTO audit VALUES (old.id)`)
	target := d.target(&migration.Config{Name: "m"}, storetest.Simple())
	d.wants(target, "target-table", store.Good)
	if results, err := target.Apply(d.ctx, []store.Write{write("1", "a", 1)}); err != nil || results[0].Outcome != store.Applied {
		t.Errorf("%+v, %v", results, err)
	}
	checks, err := target.Check(d.ctx)
	d.ok(err)
	if slices.ContainsFunc(checks, func(c store.Check) bool { return c.Name == "target-rules" }) {
		t.Error("a rule for DELETE is refused")
	}
	d.exec(`CREATE RULE audited AS ON INSERT TO "The Target" DO ALSO INSERT INTO audit VALUES (new.id)`)
	d.wants(d.target(&migration.Config{Name: "m"}, storetest.Simple()), "target-rules", store.Refused)
}

// TestUniqueValuesThatChangeHands: within one batch from a record that is deleted; between two that are there if the
// target looks at the end of a transaction.
func TestUniqueValuesThatChangeHands(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		constraint string
		exchanges  bool
	}{{`UNIQUE (name)`, false}, {`UNIQUE (name) DEFERRABLE INITIALLY DEFERRED`, true}} {
		t.Run(c.constraint, func(t *testing.T) {
			t.Parallel()
			d, target := simpleTarget(t, createTable(storetest.Simple())+`; ALTER TABLE "The Target" ADD `+c.constraint, 0)
			apply := func(writes ...store.Write) (refused int) {
				t.Helper()
				results, err := target.Apply(d.ctx, writes)
				d.ok(err)
				for _, r := range results {
					if r.Err != nil {
						refused++
					}
				}
				return refused
			}
			if n := apply(write("1", "a", 1), write("2", "b", 1), write("9", "c", 1)); n != 0 {
				t.Fatal("the first writes are refused")
			}
			gone := write("9", "", 2)
			gone.Deleted, gone.Record = true, nil
			if n := apply(write("0", "c", 2), gone); n != 0 {
				t.Errorf("%d refused, of a value that a deleted record had", n)
			}
			if n := apply(write("1", "b", 3), write("2", "a", 3)); (n == 0) != c.exchanges {
				t.Errorf("%d refused, of two that exchange a value", n)
			}
		})
	}
}
