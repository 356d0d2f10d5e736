package backfill_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/backfill"
	"github.com/stranglerfig/migrator/internal/test/pairtest"
	"github.com/stranglerfig/migrator/store"
)

// counted is a legacy store that counts what is read of it. A chunk that waits too long for
// the target is read again, on a busy machine at any time.
type counted struct {
	store.LegacyRecords
	mu    sync.Mutex
	begun map[store.Chunk]bool
	reads int
}

func count(legacy store.LegacyRecords) *counted {
	return &counted{LegacyRecords: legacy, begun: map[store.Chunk]bool{}}
}

func (c *counted) Scan(ctx context.Context, chunk store.Chunk, yield func(store.Row) error) error {
	c.mu.Lock()
	c.begun[chunk] = true
	c.reads++
	c.mu.Unlock()
	return c.LegacyRecords.Scan(ctx, chunk, yield)
}

// chunks is how many chunks were begun.
func (c *counted) chunks() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.begun)
}

// delayedTarget is a target that takes the first write when so many chunks were begun, and
// all of them at least that long ago.
type delayedTarget struct {
	store.TargetRecords
	legacy *counted
	want   int
	ago    time.Duration
}

func (h delayedTarget) Apply(ctx context.Context, writes []store.Write) ([]store.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for h.legacy.chunks() < h.want {
		select {
		case <-ctx.Done():
			return nil, errors.New("no chunk is read ahead")
		case <-tick.C:
		}
	}
	for began := time.Now(); time.Since(began) < h.ago; {
		<-tick.C
	}
	return h.TargetRecords.Apply(ctx, writes)
}

// While one chunk is written the next is read, and no other: memory is bounded.
func TestBackfillReadsAhead(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 1, 4000)
	b, ledger := runBackfill(t, p)
	legacy := count(p.Legacy)
	b.Legacy, b.Target, b.Workers = legacy, delayedTarget{p.Target, legacy, 2, 0}, 1
	b.Patience = time.Millisecond // its error ends the run
	ledger.OnSave = func(saved backfill.Progress) error {
		if ahead := legacy.chunks() - saved.Done; saved.Done > 0 && ahead > 1 {
			t.Errorf("with %d chunks written %d more were begun", saved.Done, ahead)
		}
		return nil
	}
	run(t, b)
	p.WantSame(t)
}

// A chunk that has waited too long for a slow target is read again, not refused row by row.
func TestBackfillReadsAgainWhatWaitedTooLong(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 1, 4000)
	b, _ := runBackfill(t, p)
	legacy := count(p.Legacy)
	b.Legacy, b.Target, b.Workers = legacy, delayedTarget{p.Target, legacy, 2, notAfter/2 + 50*time.Millisecond}, 1
	got := run(t, b)
	if legacy.reads <= len(got.Chunks) {
		t.Errorf("%d chunks were read %d times", len(got.Chunks), legacy.reads)
	}
	p.WantSame(t)
}
