package postgres_test

import (
	"slices"
	"testing"

	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/storetest"
)

// TestListStaleDistinguishesKeys: a foreign record is found although its unescaped text
// equals another key that has a version.
func TestListStaleDistinguishesKeys(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	schema := storetest.Composite()
	d.exec(createTable(schema))
	target := d.target(&migration.Config{Name: "keys"}, schema)
	w := store.Write{
		Key: record.MakeKey("a,b", "1"), Version: record.MakeVersion(1, 0, 100),
		Record: record.Record{record.TextValue("1"), record.NullValue, record.TextValue("a,b")},
	}
	_, err := target.Apply(d.ctx, []store.Write{w})
	d.ok(err)
	d.exec(`INSERT INTO "The Target" (number, tenant) VALUES (1, 'a%2Cb')`)
	var old []record.Key
	d.ok(target.ListStale(d.ctx, w.Version, func(keys []record.Key) error {
		old = append(old, keys...)
		return nil
	}))
	if want := []record.Key{record.MakeKey("a%2Cb", "1")}; !slices.Equal(old, want) {
		t.Errorf("%q, want %q", old, want)
	}
}
