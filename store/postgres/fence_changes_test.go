package postgres_test

import (
	"slices"
	"testing"

	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/postgres"
)

// TestChangedSinceTheFence: rows that were written since, wherever; the mark stays the fence's own
// while this server has it.
func TestChangedSinceTheFence(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(partitioned + `; INSERT INTO products VALUES (2, 'two'), (200, 'more')`)
	l := d.legacy(testConfig("products"))
	before, err := l.FenceMark(d.ctx, "A", "")
	d.ok(err)
	d.exec(`UPDATE products SET name = 'before the fence' WHERE id = 2`)
	_, err = l.RaiseFence(d.ctx, "A", wait)
	d.ok(err)
	mark, err := l.FenceMark(d.ctx, "A", "")
	d.ok(err)
	changed := func(mark string) []record.Key {
		keys, err := l.ChangedSince(d.ctx, mark, 100)
		d.ok(err)
		slices.Sort(keys)
		return keys
	}
	if got := changed(mark); len(got) != 0 {
		t.Errorf("of a whole fence: %q", got)
	}
	d.exec(`ALTER TABLE products DISABLE TRIGGER USER; UPDATE products SET name = 'taken' WHERE id = 100; INSERT INTO products VALUES (3, 'taken')`)
	d.exec(`UPDATE migrator_legacy.migration SET relation = relation`) // written again
	if again, err := l.FenceMark(d.ctx, "A", mark); err != nil || again != mark {
		t.Errorf("the mark went from %s to %s, %v", mark, again, err)
	}
	if got := changed(mark); !slices.Equal(got, []record.Key{"100", "3"}) {
		t.Errorf("%q", got)
	}
	if got := changed(before); !slices.Equal(got, []record.Key{"100", "2", "3"}) {
		t.Errorf("since before: %q", got)
	}
	if got, err := l.ChangedSince(d.ctx, mark, 1); len(got) != 1 || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	for _, noted := range []string{"7:1", ""} {
		if other, err := l.FenceMark(d.ctx, "A", noted); err != nil || other == noted || other == mark {
			t.Errorf("noted %q: %s, %v: want the present row's", noted, other, err)
		}
	}
	if other, err := l.FenceMark(d.ctx, "B", mark); err != nil || other == mark {
		t.Errorf("of another attempt: %s, %v", other, err)
	}
	if _, err := l.ChangedSince(d.ctx, "1:x", 1); err == nil {
		t.Error("a mark that is none")
	}
}

// TestAPromotedStandbyLacksTheFence: it was away when the fence was raised, and not expected. What it
// takes is listed, though it gives out transaction numbers that the former server gave too.
func TestAPromotedStandbyLacksTheFence(t *testing.T) {
	t.Parallel()
	d, server := ownServer(t)
	d.exec(`CREATE TABLE products (id int8 PRIMARY KEY, name text); INSERT INTO products VALUES (1, 'one'), (2, 'two')`)
	m := testConfig("products")
	m.Legacy.Part.(*postgres.LegacyConfig).Standbys = []string{}
	l := d.legacy(m)
	b := testenv.PostgresStandby(t, server, "second")
	d.ok(b.Kill())
	era, err := l.RaiseFence(d.ctx, "A", wait)
	d.ok(err)
	mark, err := l.FenceMark(d.ctx, "A", "")
	d.ok(err)
	l.Close()
	d.pool.Close()
	d.ok(server.Kill())
	d.ok(b.Restart(d.ctx))
	d.url = b.URL()
	d.connect()
	d.exec(`SELECT pg_promote()`)
	d.await("the promotion", `SELECT NOT pg_is_in_recovery()`)
	d.exec(`UPDATE products SET name = 'taken' WHERE id = 2`)

	promoted, err := postgres.OpenLegacy(d.ctx, m, d.url)
	d.ok(err)
	t.Cleanup(promoted.Close)
	gaps, err := promoted.FenceGaps(d.ctx, "A")
	if gaps == "" || err != nil {
		t.Fatalf("gaps: %q, %v", gaps, err)
	}
	earlier, err := promoted.FenceMark(d.ctx, "A", mark)
	d.ok(err)
	d.ok(promoted.RestoreFence(d.ctx, "A", era, era, wait))
	if _, err := d.pool.Exec(d.ctx, `UPDATE products SET name = 'x'`); !store.IsFenced(err) {
		t.Errorf("the promoted server takes writes: %v", err)
	}
	keys, err := promoted.ChangedSince(d.ctx, earlier, 100)
	if err != nil || !slices.Equal(keys, []record.Key{"2"}) {
		t.Errorf("since %s, and not %s: %q, %v", earlier, mark, keys, err)
	}
}
