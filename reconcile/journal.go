package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/repair"
	"github.com/stranglerfig/migrator/internal/sleep"
	"github.com/stranglerfig/migrator/record"
)

const (
	journalPage   = 500
	journalPasses = 20 // of one reconcile run: what is journalled faster than that is the next run's
	journalIdle   = 5  // passes without any progress
)

// RepairJournal repairs the keys that are known to be behind until there are
// none, and returns how many it cleared. A key that is journalled again during its
// repair stays and is repaired again. The error tells why the rest can't be
// repaired; calling it again goes on.
func (rc *Reconciler) RepairJournal(ctx context.Context) (int64, error) {
	return rc.repairJournal(ctx, 0, func(ctx context.Context) error { return ctx.Err() })
}

// repairJournal makes so many passes at most; 0: no limit. It asks hold before each
// page: a repair writes, and must wait while its run is paused.
func (rc *Reconciler) repairJournal(ctx context.Context, passes int, hold func(context.Context) error) (int64, error) {
	if rc.Locker == nil {
		return 0, errors.New("the journal's repair needs a legacy store that reads rows under their lock")
	}
	fixer := &repair.Fixer{Locker: rc.Locker, Target: rc.Target, NotAfter: rc.defaults().NotAfter}
	var total int64
	idle := 0
	for pass := 1; ; pass++ {
		cleared, left, why, err := rc.journalPass(ctx, fixer, hold)
		total += cleared
		switch {
		case err != nil:
			return total, err
		case left == 0 || pass == passes:
			return total, nil
		case cleared > 0:
			idle = 0
		default:
			idle++
		}
		if idle == journalIdle {
			if why == nil {
				why = errors.New("they are journalled again and again")
			}
			return total, fmt.Errorf("%d journalled keys can't be repaired: %w", left, why)
		}
		if err := sleep.For(ctx, time.Duration(idle)*200*time.Millisecond); err != nil {
			return total, err
		}
	}
}

// journalPass goes through the journal once. why is one key's failure.
func (rc *Reconciler) journalPass(ctx context.Context, fixer *repair.Fixer, hold func(context.Context) error) (cleared, left int64, why, err error) {
	after := record.Key("")
	for {
		if err := hold(ctx); err != nil {
			return cleared, left, nil, err
		}
		page, err := rc.Ledger.Journal(ctx, after, journalPage)
		if err != nil {
			return cleared, left, nil, fmt.Errorf("read the journal: %w", err)
		}
		items := make([]repair.Item, len(page))
		for i, j := range page {
			// [journal-version]: the tombstone must refuse the lost write too, should it still
			// land.
			items[i] = repair.Item{Key: j.Key, Lost: j.Version}
			after = j.Key
		}
		fixed, err := fixer.Repair(ctx, items)
		if err != nil {
			return cleared, left, nil, err
		}
		for i, f := range fixed {
			ok := false
			if f.Err == nil {
				// [journal-changes]: page[i] has the count from before the repair: a key that was
				// journaled during it stays.
				if ok, err = rc.Ledger.Clear(ctx, page[i]); err != nil {
					return cleared, left, nil, fmt.Errorf("clear the journal of key %q: %w", f.Key, err)
				}
				failpoint.Here("reconcile.journal.cleared")
			} else {
				why = fmt.Errorf("key %q: %w", f.Key, f.Err)
			}
			if ok {
				cleared++
			} else {
				left++
			}
		}
		if len(page) < journalPage {
			return cleared, left, why, nil
		}
	}
}
