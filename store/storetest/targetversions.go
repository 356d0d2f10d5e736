package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

func testVersionOrder(t *testing.T, h TargetHarness) {
	b := simpleFixture(t, h)
	b.want(put(1, 10), store.Applied, at(10))
	b.live(keyOf(1), simple(1, 10), at(10))
	b.want(put(1, 9), store.Older, at(10))
	same := put(1, 10)
	same.Record = simple(1, 99)
	b.want(same, store.Older, at(10))
	b.live(keyOf(1), simple(1, 10), at(10))
	b.want(put(1, 11), store.Applied, at(11))
	b.live(keyOf(1), simple(1, 11), at(11))

	// Each part is significant, in its order; none is rounded or signed.
	rising := []record.Version{
		record.MakeVersion(1, 1, 1<<53+1),
		record.MakeVersion(1, 1, 1<<53+2),
		record.MakeVersion(1, 1, 1<<63+1),
		record.MakeVersion(1, 2, 1),
		record.MakeVersion(1, 1<<31+1, 0),
		record.MakeVersion(2, 0, 1),
		record.MakeVersion(10, 0, 0),
		record.MakeVersion(1<<32-1, 1<<32-1, 1<<64-1),
	}
	previous := at(11)
	for i, v := range rising {
		b.want(store.Write{Key: keyOf(1), Record: simple(1, uint64(i)), Version: v}, store.Applied, v)
		b.want(store.Write{Key: keyOf(1), Record: simple(1, 99), Version: previous}, store.Older, v)
		b.live(keyOf(1), simple(1, uint64(i)), v)
		previous = v
	}
}

func testWholeState(t *testing.T, h TargetHarness) {
	b := simpleFixture(t, h)
	b.apply(put(1, 1))
	nulls := put(1, 2)
	nulls.Record = record.Record{text("1"), record.NullValue, record.NullValue, record.NullValue}
	b.want(nulls, store.Applied, at(2))
	b.live(keyOf(1), nulls.Record, at(2))
	b.want(put(1, 3), store.Applied, at(3))
	b.live(keyOf(1), simple(1, 3), at(3))
}

func testTombstones(t *testing.T, h TargetHarness) {
	b := simpleFixture(t, h)
	b.want(put(1, 10), store.Applied, at(10))
	b.want(remove(1, 9), store.Older, at(10))
	b.want(remove(1, 10), store.Older, at(10))
	b.live(keyOf(1), simple(1, 10), at(10))
	b.want(remove(1, 20), store.Applied, at(20))
	b.gone(keyOf(1), store.Tombstone, at(20))
	b.want(put(1, 15), store.Older, at(20))
	b.want(put(1, 20), store.Older, at(20))
	b.gone(keyOf(1), store.Tombstone, at(20))
	b.want(remove(1, 21), store.Applied, at(21))
	b.want(put(1, 22), store.Applied, at(22))
	b.live(keyOf(1), simple(1, 22), at(22))

	// A delete of an absent key leaves a tombstone too.
	b.want(remove(2, 5), store.Applied, at(5))
	b.gone(keyOf(2), store.Tombstone, at(5))
	b.want(put(2, 4), store.Older, at(5))
}

func testNotAfter(t *testing.T, h TargetHarness) {
	b := simpleFixture(t, h)
	b.apply(put(1, 10))
	past, future := b.now().Add(-time.Millisecond), b.now().Add(time.Minute)

	late := put(1, 11)
	late.NotAfter = past
	b.want(late, store.Late, at(10))
	b.live(keyOf(1), simple(1, 10), at(10))
	lateDelete := remove(1, 12)
	lateDelete.NotAfter = past
	b.want(lateDelete, store.Late, at(10))
	b.live(keyOf(1), simple(1, 10), at(10))
	lateNew := put(2, 1)
	lateNew.NotAfter = past
	b.want(lateNew, store.Late, record.Version{})
	b.gone(keyOf(2), store.Absent, record.Version{})
	lateOnly := withOnly(put(1, 13), at(10))
	lateOnly.NotAfter = past
	b.want(lateOnly, store.Late, at(10))

	inTime := put(1, 14)
	inTime.NotAfter = future
	b.want(inTime, store.Applied, at(14))
}

func testOnly(t *testing.T, h TargetHarness) {
	b := simpleFixture(t, h)
	none := record.Version{}
	b.want(withOnly(put(1, 10), at(9)), store.Changed, none)
	b.gone(keyOf(1), store.Absent, none)
	b.want(withOnly(put(1, 10), none), store.Applied, at(10))
	b.want(withOnly(put(1, 11), none), store.Changed, at(10))
	b.want(withOnly(put(1, 12), at(11)), store.Changed, at(10))
	b.want(withOnly(put(1, 12), at(10)), store.Applied, at(12))
	b.live(keyOf(1), simple(1, 12), at(12))

	// A tombstone at exactly the version that was read: the repair of an extra record.
	b.want(withOnly(remove(1, 12), at(11)), store.Changed, at(12))
	b.want(withOnly(remove(1, 12), at(12)), store.Applied, at(12))
	b.gone(keyOf(1), store.Tombstone, at(12))
	// The condition applies to a tombstone's version too.
	b.want(withOnly(put(1, 13), none), store.Changed, at(12))
	b.want(withOnly(put(1, 13), at(12)), store.Applied, at(13))
	// It never lowers the version.
	if r := b.apply(withOnly(put(1, 5), at(13)))[0]; r.Outcome == store.Applied {
		t.Fatalf("a conditional write lowered the version from %s to %s", at(13), at(5))
	}
	b.live(keyOf(1), simple(1, 13), at(13))
	// A repair replaces a version that legacy never issued, if it is still the one read.
	damaged := withOnly(put(1, 5), at(13))
	damaged.Overwrite = true
	b.want(damaged, store.Applied, at(5))
	b.want(damaged, store.Changed, at(5))
	b.live(keyOf(1), simple(1, 5), at(5))

	// A tombstone for an absent key.
	b.want(withOnly(remove(2, 7), none), store.Applied, at(7))
	b.gone(keyOf(2), store.Tombstone, at(7))
	b.want(withOnly(remove(3, 7), at(1)), store.Changed, none)
	b.gone(keyOf(3), store.Absent, none)
}

func testKeep(t *testing.T, h TargetHarness) {
	b := newTargetFixture(t, h, Simple(), TargetOptions{Tombstones: 50 * time.Millisecond})
	b.apply(put(1, 1))
	w := remove(1, 2)
	w.Keep = true
	b.want(w, store.Applied, at(2))
	start := b.now()
	b.until("the horizon to be over", func() bool { return b.now().Sub(start) > 150*time.Millisecond })
	b.gone(keyOf(1), store.Tombstone, at(2))
	b.want(put(1, 1), store.Older, at(2))
}

func testKeepTombstones(t *testing.T, h TargetHarness) {
	b := simpleFixture(t, h)
	holder, ok := b.target.(store.TombstoneHolder)
	if !ok {
		t.Skip("the target keeps tombstones as it was opened")
	}
	holder.KeepTombstones(20 * time.Millisecond)
	b.want(remove(1, 2), store.Applied, at(2))
	b.until("the tombstone to end", func() bool {
		if p, ok := b.target.(store.Purger); ok {
			if _, err := p.Purge(b.ctx); err != nil {
				t.Fatal(err)
			}
		}
		return b.get(keyOf(1))[0].Presence == store.Absent
	})
	holder.KeepTombstones(0) // the default
	b.want(remove(1, 3), store.Applied, at(3))
	b.gone(keyOf(1), store.Tombstone, at(3))
}

// until awaits a condition of the target's.
func (b *targetFixture) until(what string, done func() bool) {
	b.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-b.ctx.Done():
			b.t.Fatalf("no end of waiting for %s", what)
		}
	}
}

func testMixedBatch(t *testing.T, h TargetHarness) {
	b := simpleFixture(t, h)
	b.apply(put(1, 10), put(2, 10), put(3, 10), remove(4, 10))
	late := put(5, 11)
	late.NotAfter = b.now().Add(-time.Second)
	results := b.apply(put(6, 1), put(1, 9), late, withOnly(put(2, 11), at(3)), remove(3, 11), put(4, 11), put(1, 12))
	want := []store.Result{
		{Outcome: store.Applied, Version: at(1)},
		{Outcome: store.Older, Version: at(10)},
		{Outcome: store.Late},
		{Outcome: store.Changed, Version: at(10)},
		{Outcome: store.Applied, Version: at(11)},
		{Outcome: store.Applied, Version: at(11)},
		{Outcome: store.Applied, Version: at(12)},
	}
	for i := range want {
		if i == 1 && results[i].Outcome == store.Older {
			want[i].Version = results[i].Version // the batch's last write may have been applied first
		}
		if results[i] != want[i] {
			t.Errorf("result %d is %v, want %v", i, results[i], want[i])
		}
	}
	b.live(keyOf(1), simple(1, 12), at(12))
	b.gone(keyOf(3), store.Tombstone, at(11))
	b.live(keyOf(4), simple(4, 11), at(11))
}

func testSameKeyInBatch(t *testing.T, h TargetHarness) {
	b := simpleFixture(t, h)
	writes := make([]store.Write, 20)
	for i, n := range rand.Perm(len(writes)) {
		writes[i] = put(1, uint64(n+1))
	}
	for i, r := range b.apply(writes...) {
		newest := writes[i].Version == at(uint64(len(writes)))
		if r.Outcome != store.Applied && (newest || r.Outcome != store.Older) {
			t.Errorf("version %s: %s", writes[i].Version, r.Outcome)
		}
	}
	b.live(keyOf(1), simple(1, 20), at(20))
}

// testConcurrent runs concurrent writes and deletes of one key, with a reader that must
// never see the version decrease, or a record mixed of two.
func testConcurrent(t *testing.T, h TargetHarness) {
	b := simpleFixture(t, h)
	const writers, each = 6, 40
	order := rand.Perm(writers * each)
	var wg sync.WaitGroup
	errs := make(chan error, writers)
	for w := range writers {
		wg.Go(func() {
			for _, n := range order[w*each : (w+1)*each] {
				write := put(1, uint64(n+1))
				if n%5 == 0 {
					write = remove(1, uint64(n+1))
				}
				results, err := b.target.Apply(b.ctx, []store.Write{write})
				if err == nil {
					err = results[0].Err
				}
				if err == nil && results[0].Version.Compare(write.Version) < 0 {
					err = fmt.Errorf("after version %s the target returned %s", write.Version, results[0].Version)
				}
				if err != nil {
					errs <- err
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	var seen record.Version
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		e := b.get(keyOf(1))[0]
		if seen.NewerThan(e.Version) {
			t.Fatalf("a reader saw version %s after %s", e.Version, seen)
		}
		seen = e.Version
		if e.Presence == store.Live {
			_, n := e.Version.Position()
			b.same(keyOf(1), e.Record, simple(1, n))
		}
	}
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	b.live(keyOf(1), simple(1, writers*each), at(writers*each))
}

func testConditionalRace(t *testing.T, h TargetHarness) {
	b := simpleFixture(t, h)
	b.apply(put(1, 1))
	const writers = 8
	outcomes := make([]store.Result, writers)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			write := withOnly(put(1, 2), at(1))
			write.Record = simple(1, uint64(100+w))
			results, err := b.target.Apply(b.ctx, []store.Write{write})
			if err != nil {
				outcomes[w].Err = err
				return
			}
			outcomes[w] = results[0]
		})
	}
	wg.Wait()
	winner := -1
	for w, r := range outcomes {
		switch {
		case r.Err != nil:
			t.Fatal(r.Err)
		case r.Outcome == store.Applied && winner >= 0:
			t.Fatal("two writes were applied on one condition")
		case r.Outcome == store.Applied:
			winner = w
		case r.Outcome != store.Changed:
			t.Fatalf("the outcome of a refused write is %s", r.Outcome)
		}
	}
	if winner < 0 {
		t.Fatal("no write was applied")
	}
	b.live(keyOf(1), simple(1, uint64(100+winner)), at(2))
}

func testClock(t *testing.T, h TargetHarness) {
	b := simpleFixture(t, h)
	first := b.now()
	if off := time.Since(first).Abs(); off > time.Minute {
		t.Fatalf("the target's clock is %s off", off)
	}
	b.until("the clock to go on", func() bool { return b.now().After(first) })
}

var errStop = errors.New("stop here")
