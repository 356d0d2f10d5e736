package backfill_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/backfill"
	"github.com/stranglerfig/migrator/internal/test/pairtest"
	"github.com/stranglerfig/migrator/store"
)

// counted is a legacy store that counts the chunks that were begun.
type counted struct {
	store.LegacyRecords
	begun *atomic.Int64
}

func (c counted) Scan(ctx context.Context, chunk store.Chunk, yield func(store.Row) error) error {
	c.begun.Add(1)
	return c.LegacyRecords.Scan(ctx, chunk, yield)
}

// delayedTarget is a target that takes the first write when so many chunks were begun, and
// all of them at least that long ago.
type delayedTarget struct {
	store.TargetRecords
	begun *atomic.Int64
	want  int64
	ago   time.Duration
}

func (h delayedTarget) Apply(ctx context.Context, writes []store.Write) ([]store.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for h.begun.Load() < h.want {
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
	var begun atomic.Int64
	b.Legacy, b.Target, b.Workers = counted{p.Legacy, &begun}, delayedTarget{p.Target, &begun, 2, 0}, 1
	b.Patience = time.Millisecond
	ledger.OnSave = func(saved backfill.Progress) error {
		if ahead := begun.Load() - int64(saved.Done); saved.Done > 0 && ahead > 1 {
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
	var begun atomic.Int64
	b.Legacy, b.Target, b.Workers = counted{p.Legacy, &begun}, delayedTarget{p.Target, &begun, 2, notAfter/2 + 50*time.Millisecond}, 1
	got := run(t, b)
	if read := int(begun.Load()); read <= len(got.Chunks) {
		t.Errorf("%d chunks were read %d times", len(got.Chunks), read)
	}
	p.WantSame(t)
}
