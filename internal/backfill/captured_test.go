package backfill_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/backfill"
	"github.com/stranglerfig/migrator/internal/test/pairtest"
	"github.com/stranglerfig/migrator/record"
)

// TestBackfillWaitsForCapture: no barrier is taken without a slot. Behind the barrier it waits until capture has passed
// it, and from then on until every write of capture is over. A run that is stopped meanwhile keeps its barrier.
func TestBackfillWaitsForCapture(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 1, 10)
	b, ledger := runBackfill(t, p)
	none := errors.New("there is no slot")
	b.Captured = func(context.Context) (record.Version, error) { return record.Version{}, none }
	if got, err := b.Run(t.Context()); !errors.Is(err, none) || !errors.Is(err, backfill.ErrNotReady) || !got.Barrier.IsZero() {
		t.Fatalf("without a slot: %+v, %v", got, err)
	}

	var barrier record.Version
	ledger.OnSave = func(saved backfill.Progress) error {
		if !saved.Opens.IsZero() {
			t.Error("it counts the wait before capture has passed the barrier")
		}
		barrier = saved.Barrier
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	polls := 0
	b.Captured = func(context.Context) (record.Version, error) {
		if polls++; polls == 4 {
			cancel()
		}
		return record.Version{}, nil
	}
	if _, err := b.Run(ctx); !errors.Is(err, context.Canceled) || barrier.IsZero() {
		t.Fatalf("stopped: %v", err)
	}

	var passed time.Time
	ledger.OnSave = func(saved backfill.Progress) error {
		if saved.Barrier != barrier {
			t.Errorf("another barrier: %s", saved.Barrier)
		}
		if !saved.Opens.IsZero() && saved.Opens.Sub(passed) < notAfter {
			t.Errorf("capture has passed at %s, and it opens at %s", passed, saved.Opens)
		}
		return nil
	}
	polls = 0
	b.Captured = func(ctx context.Context) (record.Version, error) {
		if polls++; polls < 3 {
			return record.MakeVersion(barrier.Era(), 0, 0), nil
		}
		var err error
		if passed, err = p.Target.Now(ctx); err != nil {
			t.Error(err)
		}
		return barrier, nil
	}
	run(t, b)
	if polls < 3 {
		t.Errorf("it looked %d times", polls)
	}
}
