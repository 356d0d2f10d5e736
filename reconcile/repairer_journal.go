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
	journalPasses = 20 // of one reconcile run: keys that are journaled faster than that are left to the next run
	journalIdle   = 5  // passes without any progress
)

// RepairJournal repairs the journaled keys until there are none, and returns how many
// it cleared. A key that is journaled again during its repair stays and is repaired
// again. The error is why the rest can't be repaired; calling it again continues.
func (rc *Reconciler) RepairJournal(ctx context.Context) (int64, error) {
	return (&journalRepairer{
		ledger: rc.Ledger, sameTarget: rc.sameTarget, wait: func(ctx context.Context) error { return ctx.Err() },
		rule: repair.Repairer{Locker: rc.Locker, Target: rc.Target, NotAfter: rc.defaults().NotAfter, OnAhead: rc.OnAhead},
	}).repair(ctx, 0)
}

// repairJournal repairs the journaled keys first, in a run that repairs.
func (p *repairer) repairJournal(ctx context.Context) error {
	journal := &journalRepairer{ledger: p.recorder.ledger, rule: p.rule, sameTarget: p.sameTarget, wait: p.pace.waitWhilePaused}
	cleared, err := journal.repair(ctx, journalPasses)
	p.recorder.repairedJournal(cleared)
	return err
}

// journalRepairer repairs journaled keys, whether their copies differ or not.
type journalRepairer struct {
	ledger Ledger
	rule   repair.Repairer
	// sameTarget is called after a page's repairs, before their keys leave the journal.
	sameTarget func(context.Context) error
	// wait is called before each page: a repair writes, and must wait while its run is paused.
	wait func(context.Context) error
}

// repair makes so many passes at most; 0: no limit. It returns the number of cleared keys.
func (r *journalRepairer) repair(ctx context.Context, passes int) (int64, error) {
	if r.rule.Locker == nil {
		return 0, errors.New("the journal's repair needs a legacy store that reads rows under their lock")
	}
	var total int64
	idle := 0
	for pass := 1; ; pass++ {
		cleared, left, why, err := r.pass(ctx)
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
				why = errors.New("they keep being journalled")
			}
			return total, fmt.Errorf("%d journalled keys can't be repaired: %w", left, why)
		}
		if err := sleep.For(ctx, time.Duration(idle)*200*time.Millisecond); err != nil {
			return total, err
		}
	}
}

// pass goes through the journal once. why is one key's failure.
func (r *journalRepairer) pass(ctx context.Context) (cleared, left int64, why, err error) {
	after := record.Key("")
	for {
		if err := r.wait(ctx); err != nil {
			return cleared, left, nil, err
		}
		page, err := readJournal(ctx, r.ledger, after)
		if err != nil {
			return cleared, left, nil, err
		}
		list := make([]repair.Item, len(page))
		for i, j := range page {
			// [journal-version]: the tombstone must refuse the lost write too, should it still land.
			list[i], after = repair.Item{Key: j.Key, Journaled: j.Version}, j.Key
		}
		done, err := r.rule.Repair(ctx, list)
		if err != nil {
			return cleared, left, nil, err
		}
		if err := r.sameTarget(ctx); err != nil {
			return cleared, left, nil, err
		}
		for i, d := range done {
			ok := false
			if d.Err == nil {
				// [journal-changes]: page[i] has the count from before the repair: a key that was
				// journaled during it stays.
				if ok, err = r.ledger.Clear(ctx, page[i]); err != nil {
					return cleared, left, nil, fmt.Errorf("clear the journal of key %q: %w", d.Key, err)
				}
				failpoint.Here("reconcile.journal.cleared")
			} else {
				why = fmt.Errorf("key %q: %w", d.Key, d.Err)
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
