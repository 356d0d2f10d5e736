package storetest

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"testing"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// listStale returns the keys that ListStale yields.
func (b *targetFixture) listStale(than record.Version) []record.Key {
	b.t.Helper()
	lister, ok := b.target.(store.StaleLister)
	if !ok {
		b.t.Skip("this target has no ListStale")
	}
	found := map[record.Key]bool{}
	err := lister.ListStale(b.ctx, than, func(keys []record.Key) error {
		if len(keys) == 0 {
			b.t.Error("ListStale yielded nothing")
		}
		for _, key := range keys {
			found[key] = true
			b.get(key) // yield may use the target
		}
		return nil
	})
	if err != nil {
		b.t.Fatalf("ListStale: %v", err)
	}
	return slices.Sorted(maps.Keys(found))
}

// testListStale: it lists exactly the entries with an older version or with none, among
// all other kinds of entries.
func testListStale(t *testing.T, h TargetHarness) {
	b := simpleFixture(t, h)
	wantOlder := func(when string, than record.Version, want ...record.Key) {
		t.Helper()
		slices.Sort(want)
		if got := b.listStale(than); !slices.Equal(got, want) {
			t.Errorf("%s: older than %s: %q, want %q", when, than, got, want)
		}
	}
	wantOlder("empty", at(100))
	var writes []store.Write
	var all []record.Key
	for id := 1; id <= 2500; id++ {
		writes, all = append(writes, put(id, 100)), append(all, keyOf(id))
	}
	b.apply(writes...)
	wantOlder("all of one version", at(100))
	wantOlder("all of one version", at(101), all...)
	b.apply(put(3001, 99), put(3002, 101), remove(3003, 5), remove(3004, 200), put(3005, 5), remove(3005, 6),
		store.Write{Key: keyOf(3006), Record: simple(3006, 1), Version: record.MakeVersion(1, 2, 1)},
		store.Write{Key: keyOf(3007), Record: simple(3007, 1), Version: record.MakeVersion(0, 9, 900)})
	wantOlder("one is older", at(100), keyOf(3001), keyOf(3007))
	old := []record.Key{keyOf(3001), keyOf(3007)}
	if h.Foreign != nil {
		h.Foreign(t, b.target, keyOf(3010))
		old = append(old, keyOf(3010))
	}
	if h.WrongType != nil {
		h.WrongType(t, b.target, keyOf(3011)) // not a record for the sweep
	}
	if h.Damage != nil {
		b.apply(put(3012, 5), put(3013, 500))
		h.Damage(t, b.target, keyOf(3012))
		h.Damage(t, b.target, keyOf(3013))
		for _, e := range b.get(keyOf(3012), keyOf(3013)) {
			if e.IsStale(at(100)) {
				old = append(old, e.Key)
			}
		}
	}
	if h.UnknownKey != nil {
		h.UnknownKey(t, b.target)
	}
	wantOlder("with what is not ours", at(100), old...)
	if h.Foreign != nil { // over a tombstone whose version is known
		h.Foreign(t, b.target, keyOf(3003))
		h.Foreign(t, b.target, keyOf(3004))
		for _, e := range b.get(keyOf(3003), keyOf(3004)) {
			if e.IsStale(at(100)) {
				old = append(old, e.Key)
			}
		}
		wantOlder("over tombstones", at(100), old...)
	}
	if err := b.target.(store.StaleLister).ListStale(b.ctx, at(101), func([]record.Key) error { return errStop }); !errors.Is(err, errStop) {
		t.Errorf("ListStale hid the error of yield: %v", err)
	}
}

// testListStaleKeys: it lists keys with every kind of text.
func testListStaleKeys(t *testing.T, h TargetHarness) {
	for _, schema := range []*record.Schema{Composite(), instants()} {
		b := newTargetFixture(t, h, schema, TargetOptions{})
		var keys, old []record.Key
		for i, first := range []string{"", "eu", "a,b", "a%2Cb", "%", "tab\there", "\x7f", "naïve", "🦖", "'", "A"} {
			r := record.Record{text(strconv.Itoa(i)), text("note"), text(first)}
			if schema.Fields[2].Kind == record.TimestampTZ {
				r[2] = text("2024-01-0" + strconv.Itoa(1+i%2) + "T12:00:00.5Z")
			}
			key, err := schema.KeyOf(r)
			if err != nil {
				t.Fatal(err)
			}
			w := store.Write{Key: key, Record: r, Version: at(100)}
			if keys = append(keys, key); i%2 == 0 {
				old, w.Version = append(old, key), at(99)
			}
			b.apply(w)
		}
		slices.Sort(keys)
		slices.Sort(old)
		if got := b.listStale(at(99)); len(got) > 0 {
			t.Errorf("older than all: %q", got)
		}
		if got := b.listStale(at(100)); !slices.Equal(got, old) {
			t.Errorf("the older ones: %q, want %q", got, old)
		}
		if got := b.listStale(at(101)); !slices.Equal(got, keys) {
			t.Errorf("all: %q, want %q", got, keys)
		}
	}
}

// instants returns a schema whose key is a timestamp and a number.
func instants() *record.Schema {
	s := Composite()
	s.Fields[2] = field("tenant", record.TimestampTZ, "timestamptz", true)
	return s
}
