package storetest

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

func testLegacyVersions(b *legacyFixture) {
	first := b.put(1, "a")
	if first.Era() == 0 {
		b.Fatalf("version %s is of no era", first)
	}
	second := b.put(1, "b")
	removed, err := b.tryRemove(1)
	b.ok(err)
	again := b.put(1, "c")
	b.inOrder(first, second, removed, again)

	tx := b.begin()
	one, err := tx.Put(b.ctx, 1, "d")
	b.ok(err)
	two, err := tx.Put(b.ctx, 1, "e")
	b.ok(err)
	b.ok(tx.Commit(b.ctx))
	b.inOrder(again, one, two, b.put(1, "f"))
}

func testLegacyLockedRead(b *legacyFixture) {
	last := b.put(1, "a")
	for i := range 20 {
		row := b.locked(1)
		b.saw(last, row.Version)
		last = b.put(1, fmt.Sprint("b", i))
		b.inOrder(row.Version, last)
	}
	if row := b.locked(2); row.Found || !row.Version.IsZero() {
		b.Errorf("a key that is not there was read as %+v", row)
	}
}

// testLegacyLockedWaits: the version must be read after the wait for the row.
func testLegacyLockedWaits(b *legacyFixture) {
	b.putMany(3)
	writer := b.begin()
	if _, err := writer.Put(b.ctx, 2, "before"); err != nil {
		b.Fatal(err)
	}
	type answer struct {
		rows []store.Row
		err  error
	}
	read := make(chan answer, 1)
	go func() {
		rows, err := b.store.LookupLocked(b.ctx, []record.Key{keyOf(1), keyOf(2), keyOf(3)})
		read <- answer{rows, err}
	}()
	select {
	case a := <-read:
		b.Fatalf("the locked read did not wait for the writer: %+v, %v", a.rows, a.err)
	case <-time.After(300 * time.Millisecond):
	}
	// The rows that the reader has locked must not block the writer.
	if _, err := writer.Put(b.ctx, 1, "the writer's too"); err != nil {
		b.Fatal(err)
	}
	last, err := writer.Put(b.ctx, 2, "after")
	b.ok(err)
	b.ok(writer.Commit(b.ctx))
	a := <-read
	b.ok(a.err)
	if name := b.name(a.rows[1]); name != "after" {
		b.Errorf("the locked read saw %q", name)
	}
	b.saw(last, a.rows[1].Version)
	b.inOrder(a.rows[1].Version, b.put(2, "later"))
}

// testLegacyConcurrent updates few rows from many writers, with concurrent locked reads.
// A writer logs its version before it commits, while it holds the row, so each log is
// in commit order.
func testLegacyConcurrent(b *legacyFixture) {
	const rows, writers, each = 4, 6, 150
	b.putMany(rows)
	var mu sync.Mutex
	logs := map[int][]record.Version{}
	state := map[int]map[string]record.Version{}
	for id := 1; id <= rows; id++ {
		state[id] = map[string]record.Version{}
	}
	var wg sync.WaitGroup
	errs := make(chan error, writers+1)
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				id, name := rand.IntN(rows)+1, fmt.Sprintf("%d/%d", w, i)
				_, err := b.try(func(tx LegacyTx) (record.Version, error) {
					v, err := tx.Put(b.ctx, id, name)
					if err == nil {
						mu.Lock()
						logs[id] = append(logs[id], v)
						state[id][name] = v
						mu.Unlock()
					}
					return v, err
				})
				if err != nil {
					errs <- err
					return
				}
			}
		})
	}
	type reading struct {
		id   int
		name string
		at   record.Version
	}
	var readings []reading
	wg.Go(func() {
		for range 100 {
			found, err := b.store.LookupLocked(b.ctx, []record.Key{keyOf(1), keyOf(2), keyOf(3), keyOf(4)})
			if err != nil {
				errs <- err
				return
			}
			for i, r := range found {
				readings = append(readings, reading{i + 1, r.Record[b.store.Schema().Index("name")].Text, r.Version})
			}
		}
	})
	wg.Wait()
	close(errs)
	for err := range errs {
		b.Fatal(err)
	}
	for _, log := range logs {
		b.inOrder(log...)
	}
	for _, r := range readings {
		wrote, ok := state[r.id][r.name]
		if !ok {
			continue // what putMany wrote
		}
		b.saw(wrote, r.at)
		for _, v := range logs[r.id] {
			if v.NewerThan(wrote) {
				b.inOrder(r.at, v)
			}
		}
	}
}

func testLegacyBarrier(b *legacyFixture) {
	before := b.put(1, "a")
	barrier, err := b.store.Barrier(b.ctx, legacyWait)
	b.ok(err)
	after := b.put(1, "b")
	b.inOrder(before, barrier, after)

	// It waits for a writer that began before it.
	writer := b.begin()
	open, err := writer.Put(b.ctx, 2, "open")
	b.ok(err)
	type answer struct {
		v   record.Version
		err error
	}
	got := make(chan answer, 1)
	go func() {
		v, err := b.store.Barrier(b.ctx, legacyWait)
		got <- answer{v, err}
	}()
	select {
	case a := <-got:
		b.Fatalf("the barrier did not wait for the writer: %s, %v", a.v, a.err)
	case <-time.After(400 * time.Millisecond):
	}
	b.ok(writer.Commit(b.ctx))
	a := <-got
	b.ok(a.err)
	b.inOrder(after, open, a.v, b.put(2, "late"))
}

func testLegacyBarrierTimeout(b *legacyFixture) {
	writer := b.begin()
	if _, err := writer.Put(b.ctx, 1, "open"); err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	if v, err := b.store.Barrier(b.ctx, 400*time.Millisecond); err == nil {
		b.Errorf("a barrier (%s) beside an open writer", v)
	}
	if took := time.Since(began); took > 5*time.Second {
		b.Errorf("the barrier timed out after %s already", took)
	}
	b.ok(writer.Commit(b.ctx))
	b.put(1, "and writers go on")
}
