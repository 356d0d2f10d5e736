package storetest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

func testAbsentAndOrder(t *testing.T, h TargetHarness) {
	b := simpleFixture(t, h)
	b.gone(keyOf(1), store.Absent, record.Version{})
	b.apply(put(2, 1), remove(3, 1))
	entries := b.get(keyOf(3), keyOf(1), keyOf(2), keyOf(1), keyOf(2))
	want := []store.Presence{store.Tombstone, store.Absent, store.Live, store.Absent, store.Live}
	for i, e := range entries {
		if e.Presence != want[i] {
			t.Errorf("entry %d is %s, want %s", i, e.Presence, want[i])
		}
	}
	if got := b.get(); len(got) != 0 {
		t.Errorf("Get of nothing gave %d entries", len(got))
	}
	if got := b.apply(); len(got) != 0 {
		t.Errorf("Apply of nothing gave %d results", len(got))
	}
}

func testScan(t *testing.T, h TargetHarness) {
	b := simpleFixture(t, h)
	if found := b.scan(); len(found) != 0 {
		t.Fatalf("Scan of an empty target found %d entries", len(found))
	}
	var writes []store.Write
	for id := 1; id <= 300; id++ {
		writes = append(writes, put(id, uint64(id)))
	}
	b.apply(writes...)
	b.apply(remove(7, 1000), remove(500, 1000))
	found := b.scan()
	if len(found) != 301 {
		t.Errorf("Scan found %d entries, want 301", len(found))
	}
	for id := 1; id <= 300; id++ {
		e := found[string(keyOf(id))]
		if id == 7 {
			continue
		}
		if e.Presence != store.Live || e.Version != at(uint64(id)) {
			t.Fatalf("Scan: %d is %q at %s", id, e.Presence, e.Version)
		}
		b.same(e.Key, e.Record, simple(id, uint64(id)))
	}
	for _, id := range []int{7, 500} {
		if e := found[string(keyOf(id))]; e.Presence != store.Tombstone || e.Version != at(1000) {
			t.Errorf("Scan: %d is %q at %s, want a tombstone", id, e.Presence, e.Version)
		}
	}
	if err := b.target.Scan(b.ctx, func([]store.Entry) error { return errStop }); !errors.Is(err, errStop) {
		t.Errorf("Scan hid the error of yield: %v", err)
	}
}

func testBigBatch(t *testing.T, h TargetHarness) {
	b := simpleFixture(t, h)
	const n = 5000
	writes, keys := make([]store.Write, n), make([]record.Key, n)
	for i := range writes {
		writes[i], keys[i] = put(i, 1), keyOf(i)
	}
	for i, r := range b.apply(writes...) {
		if r.Outcome != store.Applied {
			t.Fatalf("write %d: %s", i, r.Outcome)
		}
	}
	for i, e := range b.get(keys...) {
		if e.Presence != store.Live {
			t.Fatalf("entry %d is %s", i, e.Presence)
		}
		b.same(e.Key, e.Record, simple(i, 1))
	}
	if found := b.scan(); len(found) != n {
		t.Fatalf("Scan found %d entries, want %d", len(found), n)
	}
}

func testContextEnds(t *testing.T, h TargetHarness) {
	b := simpleFixture(t, h)
	b.apply(put(1, 1))
	ctx, cancel := context.WithCancel(b.ctx)
	cancel()
	results, err := b.target.Apply(ctx, []store.Write{put(1, 2)})
	if err == nil && (len(results) != 1 || results[0].Err == nil) {
		t.Error("Apply did not fail though its context had ended")
	}
	if _, err := b.target.Get(ctx, []record.Key{keyOf(1)}); !errors.Is(err, context.Canceled) {
		t.Errorf("Get: %v, want context.Canceled", err)
	}
	if err := b.target.Scan(ctx, func([]store.Entry) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("Scan: %v, want context.Canceled", err)
	}
	if _, err := b.target.Now(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Now: %v, want context.Canceled", err)
	}
	b.live(keyOf(1), simple(1, 1), at(1)) // and the target still works
}

func testForeign(t *testing.T, h TargetHarness) {
	if h.Foreign == nil {
		t.Skip("the target can't hold what migrator did not write")
	}
	b := simpleFixture(t, h)
	h.Foreign(t, b.target, keyOf(1))
	h.Foreign(t, b.target, keyOf(2))
	b.wantForeign(store.Unowned)
	b.wantKept(store.Unowned)
}

func testWrongType(t *testing.T, h TargetHarness) {
	if h.WrongType == nil {
		t.Skip("the target has one type of value")
	}
	b := simpleFixture(t, h)
	h.WrongType(t, b.target, keyOf(1))
	h.WrongType(t, b.target, keyOf(2))
	b.wantForeign(store.WrongType)
	b.wantKept(store.WrongType)
}

// wantKept expects that key 2 has a value that migrator did not write, which no delete removes. The
// delete's version is kept beside it, and refuses what is older.
func (b *targetFixture) wantKept(presence store.Presence) {
	b.t.Helper()
	before := b.get(keyOf(2))[0]
	none := record.Version{}
	over := func(w store.Write) store.Write {
		w.Overwrite = true
		return w
	}
	b.want(over(withOnly(remove(2, 5), at(4))), store.Changed, none)
	b.want(over(withOnly(remove(2, 5), none)), store.Foreign, at(5))
	b.want(over(remove(2, 5)), store.Older, at(5))
	b.want(over(remove(2, 6)), store.Foreign, at(6))
	b.gone(keyOf(2), presence, at(6))
	if after := b.get(keyOf(2))[0]; !slices.Equal(after.Record, before.Record) {
		b.t.Errorf("a delete has changed another program's value from %v to %v", before.Record, after.Record)
	}
	b.want(over(put(2, 6)), store.Older, at(6))
	b.want(put(2, 7), store.Foreign, at(6))
	b.want(over(put(2, 7)), store.Applied, at(7))
	b.live(keyOf(2), simple(2, 7), at(7))
}

// wantForeign expects that key 1 has a value that migrator did not write.
func (b *targetFixture) wantForeign(presence store.Presence) {
	b.t.Helper()
	none := record.Version{}
	b.gone(keyOf(1), presence, none)
	if e := b.scan()[string(keyOf(1))]; e.Presence != presence {
		b.t.Errorf("Scan gives %q, want %s", e.Presence, presence)
	}
	b.want(put(1, 5), store.Foreign, none)
	b.want(remove(1, 5), store.Foreign, none)
	b.want(withOnly(put(1, 5), none), store.Foreign, none)
	b.gone(keyOf(1), presence, none)
	w := put(1, 5)
	w.Overwrite = true
	b.want(w, store.Applied, at(5))
	b.live(keyOf(1), simple(1, 5), at(5))
	// A record of migrator is protected by its version, also from repairs.
	w = put(1, 4)
	w.Overwrite = true
	b.want(w, store.Older, at(5))
}

func testDamaged(t *testing.T, h TargetHarness) {
	if h.Damage == nil {
		t.Skip("the target's records can't be damaged")
	}
	b := simpleFixture(t, h)
	b.apply(put(1, 5))
	h.Damage(t, b.target, keyOf(1))
	b.gone(keyOf(1), store.Damaged, at(5))
	if b.get(keyOf(1))[0].Detail == "" {
		t.Error("Detail is empty")
	}
	w := withOnly(put(1, 5), at(5))
	w.Overwrite = true
	b.want(w, store.Applied, at(5))
	b.live(keyOf(1), simple(1, 5), at(5))
}

func testUnknownKey(t *testing.T, h TargetHarness) {
	if h.UnknownKey == nil {
		t.Skip("each value of the target has a key")
	}
	b := simpleFixture(t, h)
	b.apply(put(1, 1))
	h.UnknownKey(t, b.target)
	found := b.scan()
	if len(found) != 2 {
		t.Fatalf("Scan found %d entries, want the record and the unknown key", len(found))
	}
	for _, e := range found {
		if e.RawKey != "" && (e.Key != "" || e.Presence != store.Unowned) {
			t.Errorf("the unknown key is %q with key %q", e.Presence, e.Key)
		}
	}
}

const expiryLayout = "2006-01-02T15:04:05.999999Z"

// expiring returns a write whose record expires then; nil: never.
func expiring(id int, lsn uint64, then *time.Time) store.Write {
	w := put(id, lsn)
	if then != nil {
		w.Record[3] = text(then.UTC().Format(expiryLayout))
	}
	return w
}

func testExpiry(t *testing.T, h TargetHarness) {
	if !h.Expires {
		t.Skip("the target's records don't expire")
	}
	b := newTargetFixture(t, h, Simple(), TargetOptions{Expires: "expires_at"})
	future := b.now().Add(time.Hour).Truncate(time.Millisecond)
	past := b.now().Add(-time.Hour)
	sooner := future.Add(-time.Minute)
	check := func(w store.Write, expires time.Time) {
		t.Helper()
		b.live(w.Key, w.Record, w.Version)
		if e := b.get(w.Key)[0]; !e.Expires.Equal(expires) {
			t.Errorf("%q expires %s, want %s", w.Key, e.Expires, expires)
		}
	}
	first, again, never := expiring(1, 1, &future), expiring(1, 2, &sooner), expiring(1, 3, nil)
	b.want(first, store.Applied, at(1))
	check(first, future)
	b.want(again, store.Applied, at(2))
	check(again, sooner)
	b.want(never, store.Applied, at(3))
	check(never, time.Time{})
	b.want(expiring(1, 2, &future), store.Older, at(3))
	check(never, time.Time{})

	infinite := put(2, 1)
	infinite.Record[3] = text("infinity")
	b.want(infinite, store.Applied, at(1))
	check(infinite, time.Time{})

	// Expired before the write: no record, but its version is kept.
	b.want(expiring(1, 5, &past), store.Applied, at(5))
	b.gone(keyOf(1), store.Tombstone, at(5))
	b.want(expiring(1, 4, &future), store.Older, at(5))
	b.want(expiring(1, 6, &future), store.Applied, at(6))
	b.want(remove(1, 7), store.Applied, at(7))
	b.gone(keyOf(1), store.Tombstone, at(7))
}

func testExpiryRunsOut(t *testing.T, h TargetHarness) {
	if !h.Expires {
		t.Skip("the target's records don't expire")
	}
	b := newTargetFixture(t, h, Simple(), TargetOptions{Expires: "expires_at"})
	soon := b.now().Add(200 * time.Millisecond)
	b.want(expiring(1, 5, &soon), store.Applied, at(5))
	b.until("the record to expire", func() bool { return b.get(keyOf(1))[0].Presence != store.Live })
	b.gone(keyOf(1), store.Tombstone, at(5))
	if e := b.scan()[string(keyOf(1))]; e.Presence != store.Tombstone || e.Version != at(5) {
		t.Errorf("Scan: %q at %s, want a tombstone", e.Presence, e.Version)
	}
	b.want(put(1, 4), store.Older, at(5))
	b.want(put(1, 6), store.Applied, at(6))
}
