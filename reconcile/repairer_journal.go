package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/humanize"
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
		ledger: rc.Ledger, sameTarget: rc.sameTarget, wait: func(ctx context.Context) error { return ctx.Err() }, report: rc.OnJournal,
		rule: repair.Repairer{Locker: rc.Locker, Target: rc.Target, NotAfter: rc.defaults().NotAfter, OnAhead: rc.OnAhead},
	}).repair(ctx, 0)
}

// repairJournal repairs the journaled keys first, in a run that repairs.
func (p *repairer) repairJournal(ctx context.Context) error {
	journal := &journalRepairer{ledger: p.recorder.ledger, rule: p.rule, sameTarget: p.sameTarget, wait: p.pace.waitWhilePaused, report: p.onJournal}
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
	// report is called with how many of the keys that the journal had are cleared; nil: not called.
	report func(cleared, of int64)
	length int64
}

// repair makes so many passes at most; 0: no limit. It returns the number of cleared keys.
func (r *journalRepairer) repair(ctx context.Context, passes int) (int64, error) {
	if r.rule.Locker == nil {
		return 0, errors.New("the journal's repair needs a legacy store that reads rows under their lock")
	}
	// What the target lacks of a journaled key is most often legacy's present row.
	r.rule.Batch, r.rule.RowsFirst = journalLocked, true
	var err error
	if r.length, err = r.ledger.JournalLength(ctx); err != nil {
		return 0, fmt.Errorf("read the journal: %w", err)
	}
	var total int64
	idle := 0
	for pass := 1; ; pass++ {
		cleared, left, why, err := r.pass(ctx, total)
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
			return total, fmt.Errorf("%s can't be repaired: %w", humanize.Counted(left, "journaled key"), why)
		}
		if err := sleep.For(ctx, time.Duration(idle)*200*time.Millisecond); err != nil {
			return total, err
		}
	}
}

// pass goes through the journal once, of which before keys have been cleared. why is one key's failure.
// A page leaves the journal, and the page after the next is read, while the next one is repaired.
func (r *journalRepairer) pass(ctx context.Context, before int64) (cleared, left int64, why, err error) {
	ctx, cancel := context.WithCancel(ctx)
	reading := r.read(ctx, "")
	defer func() {
		cancel()
		_, _ = reading()
	}()
	clearing := func() error { return nil } // waits for the page before
	for more := true; more; {
		if err = r.wait(ctx); err != nil {
			break
		}
		var page, repaired []JournaledKey
		if page, err = reading(); err != nil || len(page) == 0 {
			break
		}
		if more = len(page) == journalPage; more {
			// [journal-changes]: its counts are from before its repair; that they are older leaves
			// more keys.
			reading = r.read(ctx, page[len(page)-1].Key)
		}
		var failed error
		if repaired, failed, err = r.repairPage(ctx, page); err == nil {
			err = r.sameTarget(ctx)
		}
		if err != nil {
			break
		}
		if failed != nil {
			why = failed
		}
		if err = clearing(); err != nil {
			return cleared, left, nil, err
		}
		done := make(chan error, 1)
		go func() {
			// [journal-changes]: they have the counts from before the repair: a key that was
			// journaled during it stays.
			n, err := r.ledger.Clear(ctx, repaired)
			if err == nil {
				failpoint.Here("reconcile.journal.cleared")
				cleared, left = cleared+n, left+int64(len(page))-n
				if r.report != nil {
					r.report(before+cleared, r.length)
				}
			}
			done <- err
		}()
		clearing = func() error {
			if err := <-done; err != nil {
				return fmt.Errorf("clear the journal: %w", err)
			}
			return nil
		}
	}
	if last := clearing(); err == nil {
		err = last
	}
	if err != nil {
		why = nil
	}
	return cleared, left, why, err
}

// read begins to read the page of the keys after this one, and returns what awaits it.
func (r *journalRepairer) read(ctx context.Context, after record.Key) func() ([]JournaledKey, error) {
	var page []JournaledKey
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		page, err = readJournal(ctx, r.ledger, after)
	}()
	return func() ([]JournaledKey, error) {
		<-done
		return page, err
	}
}

// repairPage returns the repaired keys of a page, and one key's failure.
func (r *journalRepairer) repairPage(ctx context.Context, page []JournaledKey) (repaired []JournaledKey, why, err error) {
	group, ctx := errgroup.WithContext(ctx)
	done := make([]repair.Result, len(page))
	for from := 0; from < len(page); from += journalBatch {
		part := page[from:min(from+journalBatch, len(page))]
		group.Go(func() error {
			list := make([]repair.Item, len(part))
			for i, j := range part {
				// [journal-version]: the tombstone must refuse the lost write too, should it still land.
				list[i] = repair.Item{Key: j.Key, Journaled: j.Version}
			}
			results, err := r.rule.Repair(ctx, list)
			copy(done[from:], results)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, nil, err
	}
	repaired = make([]JournaledKey, 0, len(page))
	for i, d := range done {
		if d.Err != nil {
			why = fmt.Errorf("key %q: %w", d.Key, d.Err)
			continue
		}
		repaired = append(repaired, page[i])
	}
	return repaired, why, nil
}
