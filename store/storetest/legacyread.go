package storetest

import (
	"context"
	"errors"
	"testing"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

func testLegacySchema(b *legacyFixture) {
	s := b.store.Schema()
	id, name := s.Index("id"), s.Index("name")
	if id < 0 || name < 0 || len(s.Key) != 1 || s.Key[0] != id {
		b.Fatalf("the schema is %+v: want a key id, and a name", s)
	}
	if f := s.Fields[id]; f.Kind != record.Int || !f.NotNull || f.Target != "id" {
		b.Errorf("the key's field is %+v", f)
	}
	if f := s.Fields[name]; f.Kind != record.Text || f.NotNull {
		b.Errorf("the name's field is %+v", f)
	}
}

func testLegacyChunks(b *legacyFixture) {
	const n = 3000
	b.putMany(n)
	for _, rows := range []int{1, 100, 1000, 10 * n} {
		all, chunks := b.scan(rows)
		if len(all) != n {
			b.Fatalf("chunks of %d rows: %d records, want %d", rows, len(all), n)
		}
		for id := 1; id <= n; id++ {
			r, ok := all[keyOf(id)]
			if !ok || r[b.store.Schema().Index("name")] != record.TextValue(legacyName(id)) {
				b.Fatalf("chunks of %d rows: record %d is %v", rows, id, r)
			}
		}
		if rows == 100 && (len(chunks) < 10 || len(chunks) > 120) {
			b.Errorf("%d chunks for %d rows in hundreds", len(chunks), n)
		}
	}
	// A record that is added later is in one of the existing chunks.
	chunks, err := b.store.Chunks(b.ctx, 100)
	b.ok(err)
	b.put(n+1, "late")
	found := false
	for _, c := range chunks {
		b.ok(b.store.Scan(b.ctx, c, func(r store.Row) error {
			found = found || r.Key == keyOf(n+1)
			return nil
		}))
	}
	if !found {
		b.Error("a record added after the chunks were cut is in none of them")
	}
}

func testLegacyEmpty(b *legacyFixture) {
	all, chunks := b.scan(100)
	if len(all) != 0 || len(chunks) == 0 {
		b.Fatalf("%d records in %d chunks of an empty store: want none in at least one", len(all), len(chunks))
	}
}

func testLegacyScanStops(b *legacyFixture) {
	b.putMany(10)
	chunks, err := b.store.Chunks(b.ctx, 1000)
	b.ok(err)
	calls := 0
	err = b.store.Scan(b.ctx, chunks[0], func(store.Row) error { calls++; return errStop })
	if !errors.Is(err, errStop) || calls != 1 {
		b.Errorf("Scan hid the error of yield: %v after %d calls", err, calls)
	}
	b.put(11, "and it still works")
	if all, _ := b.scan(1000); len(all) != 11 {
		b.Errorf("%d records, want 11", len(all))
	}
}

func testLegacyLookup(b *legacyFixture) {
	b.putMany(5)
	keys := []record.Key{keyOf(3), keyOf(99), keyOf(1), keyOf(3), keyOf(5)}
	for name, lookup := range map[string]func(context.Context, []record.Key) ([]store.Row, error){
		"Lookup": b.store.Lookup, "LookupLocked": b.store.LookupLocked,
	} {
		rows, err := lookup(b.ctx, keys)
		b.ok(err)
		if len(rows) != len(keys) {
			b.Fatalf("%s: %d rows for %d keys", name, len(rows), len(keys))
		}
		for i, id := range []int{3, 0, 1, 3, 5} {
			if rows[i].Key != keys[i] || rows[i].Found != (id != 0) {
				b.Errorf("%s: row %d is %+v", name, i, rows[i])
			} else if id != 0 && b.name(rows[i]) != legacyName(id) {
				b.Errorf("%s: row %d is of another record", name, i)
			}
			if (name == "LookupLocked" && id != 0) == rows[i].Version.IsZero() {
				b.Errorf("%s: row %d has version %q", name, i, rows[i].Version)
			}
		}
		if rows, err := lookup(b.ctx, nil); err != nil || len(rows) != 0 {
			b.Errorf("%s of nothing: %v, %v", name, rows, err)
		}
	}
	many := make([]record.Key, 2500)
	for i := range many {
		many[i] = keyOf(i)
	}
	rows, err := b.store.Lookup(b.ctx, many)
	b.ok(err)
	found := 0
	for _, r := range rows {
		if r.Found {
			found++
		}
	}
	if found != 5 {
		b.Errorf("%d of 2500 found, want 5", found)
	}
}

// testLegacyOddKeys looks up keys that a target may have and legacy can't have.
func testLegacyOddKeys(b *legacyFixture) {
	b.putMany(2)
	keys := []record.Key{"", "one", keyOf(1), "1,2", "01", "+1", " 1", "1.0", "99999999999999999999999", "%GG", "\x00", "\xff", keyOf(2)}
	for name, lookup := range map[string]func(context.Context, []record.Key) ([]store.Row, error){
		"Lookup": b.store.Lookup, "LookupLocked": b.store.LookupLocked,
	} {
		rows, err := lookup(b.ctx, keys)
		b.ok(err)
		for i, r := range rows {
			if want := keys[i] == keyOf(1) || keys[i] == keyOf(2); r.Found != want || r.Key != keys[i] {
				b.Errorf("%s of %q: found %t", name, keys[i], r.Found)
			}
		}
	}
}

func testLegacyContext(b *legacyFixture) {
	b.put(1, "one")
	ctx, cancel := context.WithCancel(b.ctx)
	cancel()
	for name, do := range map[string]func() error{
		"Chunks":       func() error { _, err := b.store.Chunks(ctx, 1); return err },
		"Lookup":       func() error { _, err := b.store.Lookup(ctx, []record.Key{"1"}); return err },
		"LookupLocked": func() error { _, err := b.store.LookupLocked(ctx, []record.Key{"1"}); return err },
		"Barrier":      func() error { _, err := b.store.Barrier(ctx, legacyWait); return err },
		"RaiseFence":   func() error { _, err := b.store.RaiseFence(ctx, "a", legacyWait); return err },
		"FenceState":   func() error { _, _, err := b.store.FenceState(ctx); return err },
	} {
		b.Run(name, func(t *testing.T) {
			if err := do(); !errors.Is(err, context.Canceled) {
				t.Errorf("%v, want context.Canceled", err)
			}
		})
	}
	b.put(1, "two")
}
