// Package repair has the rule by which a key's copy in the target is repaired while the
// application continues to write the key. Backfill's sweep, reconcile and the repair of
// the journal share it.
package repair

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/sleep"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// Repairer repairs keys of one migration. It may be used by several goroutines.
type Repairer struct {
	Locker store.Locker // legacy
	Target store.TargetRecords

	NotAfter time.Duration // how long after its read a repair may land; default 10 s
	Batch    int           // rows that one read locks; default 100
	// RowsFirst: most keys have a row in legacy that is newer than the target's entry. These are
	// written without a read of the target; what it does not take is then repaired as usual.
	RowsFirst bool
	Attempts  int           // per key, with growing waits; default 8
	Pause     time.Duration // before the second attempt; doubles up to 2 s; default 25 ms

	// OnAhead is called before legacy's era is raised above a version that the target has and
	// legacy has never given: legacy has lost transactions. Its error keeps the era; nil: not called.
	OnAhead func(ctx context.Context, seen record.Version) error
}

// Item is one key to repair.
type Item struct {
	Key       record.Key
	Journaled record.Version // the highest version in the journal that the target lacks; zero: none
}

// Action is what a repair did.
type Action string

// Actions.
const (
	Wrote      Action = "written again from legacy"
	Tombstoned Action = "replaced by a tombstone: legacy has no such record"
	Newer      Action = "not needed: a later write corrected the key"
	Agreed     Action = "legacy has no such record, and the target neither"
	Left       Action = "not repaired: the target's entry was written after legacy was fenced"
	Equal      Action = "not repaired: legacy has the record under a key that it takes as equal"
	Foreign    Action = "not repaired: another program wrote it; delete it in the target, or choose other keys"
)

// Leaves reports whether the key still differs by this action.
func (a Action) Leaves() bool { return a == Left || a == Equal || a == Foreign }

// Result is the result of one Item.
type Result struct {
	Key     record.Key
	Action  Action         // "" where Err is set
	Version record.Version // which the target now has, or had when it was not repaired
	Err     error          // all attempts failed: the cause of the last failure
}

func (f *Repairer) defaults() Repairer {
	d := *f
	if d.NotAfter <= 0 {
		d.NotAfter = 10 * time.Second
	}
	if d.Batch <= 0 {
		d.Batch = 100
	}
	if d.Attempts <= 0 {
		d.Attempts = 8
	}
	if d.Pause <= 0 {
		d.Pause = 25 * time.Millisecond
	}
	return d
}

// Repair repairs the target's copies of the items, and returns the results in the
// items' order. The error is for ctx only: a key's own failure is in its Result.
// Items must not name a key twice.
func (f *Repairer) Repair(ctx context.Context, items []Item) ([]Result, error) {
	d := f.defaults()
	done := make([]Result, len(items))
	todo := make([]int, len(items))
	for i := range items {
		done[i] = Result{Key: items[i].Key}
		todo[i] = i
	}
	pause := d.Pause
	for attempt := 1; len(todo) > 0 && attempt <= d.Attempts; attempt++ {
		// [not-after-fixed]: each attempt reads both stores again and rests on those reads; none is
		// sent again with a later time.
		if attempt > 1 {
			if err := sleep.For(ctx, pause); err != nil {
				return done, err
			}
			pause = min(2*pause, 2*time.Second)
		}
		// One row that its writer keeps locked for long must not delay the others: later attempts
		// lock fewer rows at a time.
		size := max(1, d.Batch>>(2*(attempt-1)))
		todo = d.attempt(ctx, items, todo, size, done)
		if ctx.Err() != nil {
			return done, ctx.Err()
		}
	}
	return done, nil
}

// attempt reads each item in todo once, and returns the items that need another
// attempt: first those that were not tried because a store seems to be down.
func (f *Repairer) attempt(ctx context.Context, items []Item, todo []int, size int, done []Result) []int {
	var untried, again []int
	for from, failures := 0, 0; from < len(todo); from += size {
		batch := todo[from:min(from+size, len(todo))]
		left, err := f.observe(ctx, items, batch, done)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			failures = 0
			again = append(again, left...)
			continue
		}
		for _, i := range batch {
			done[i].Err = err
		}
		again = append(again, batch...)
		if failures++; failures == 3 {
			untried = todo[from+len(batch):]
			for _, i := range untried {
				done[i].Err = err
			}
			break
		}
	}
	return append(append([]int(nil), untried...), again...)
}

// observe makes one attempt for a batch. It returns the items that need another;
// the error is for all of them.
func (f *Repairer) observe(ctx context.Context, items []Item, batch []int, done []Result) ([]int, error) {
	keys := make([]record.Key, len(batch))
	for n, i := range batch {
		keys[n] = items[i].Key
	}
	if f.RowsFirst {
		left, err := f.writeRows(ctx, keys, batch, done)
		if err != nil || len(left) == 0 {
			return nil, err
		}
		rest := *f
		rest.RowsFirst = false
		return rest.observe(ctx, items, left, done)
	}
	s, err := f.Observe(ctx, keys)
	if err != nil {
		return nil, err
	}
	if s, err = f.raise(ctx, keys, s); err != nil {
		return nil, err
	}
	var writes []store.Write
	var steps []step
	var at []int
	for n, i := range batch {
		w, what := s.decide(n, items[i].Journaled, f.NotAfter)
		if w.Version.IsZero() {
			done[i] = Result{Key: keys[n], Action: unwritten[what], Version: s.Seen[n].Version}
			continue
		}
		w.Key = keys[n]
		writes, steps, at = append(writes, w), append(steps, what), append(at, i)
	}
	if len(writes) == 0 {
		return nil, nil
	}
	results, err := f.apply(ctx, writes)
	if err != nil {
		return nil, err
	}
	var again []int
	for n, r := range results {
		done[at[n]] = resultOf(writes[n], steps[n], r)
		if done[at[n]].Err != nil {
			again = append(again, at[n])
		}
	}
	return again, nil
}

func (f *Repairer) apply(ctx context.Context, writes []store.Write) ([]store.Result, error) {
	failpoint.Here("repair.read")
	results, err := f.Target.Apply(ctx, writes)
	if err != nil {
		return nil, fmt.Errorf("write the target: %w", err)
	}
	failpoint.Here("repair.applied")
	return results, nil
}

// writeRows writes the rows that legacy has where they are newer than the target's entries, and
// returns the items that need a look at the target: legacy lacks the row, or the target did not
// take it.
func (f *Repairer) writeRows(ctx context.Context, keys []record.Key, batch []int, done []Result) (left []int, err error) {
	// [not-after]: before the rows are read.
	now, err := f.Target.Now(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the target's clock: %w", err)
	}
	rows, err := f.Locker.LookupLocked(ctx, keys)
	if err != nil {
		return nil, fmt.Errorf("read legacy under lock: %w", err)
	}
	writes, at := make([]store.Write, 0, len(rows)), make([]int, 0, len(rows))
	for n, row := range rows {
		if !row.Found {
			// [repair-target-first]: it is read again after the target.
			left = append(left, batch[n])
			continue
		}
		// The same write as decide makes of an older entry: [newer-only] takes the place of the
		// target's read. An entry that is ahead, of the same version or of a later era
		// ([repair-era]) refuses it.
		w, _ := decide(row, store.Entry{}, record.Version{}, 0, now.Add(f.NotAfter))
		w.Key = keys[n]
		writes, at = append(writes, w), append(at, batch[n])
	}
	if len(writes) == 0 {
		return left, nil
	}
	results, err := f.apply(ctx, writes)
	if err != nil {
		return nil, err
	}
	for n, r := range results {
		if r.Err != nil || r.Outcome != store.Applied {
			left = append(left, at[n])
			continue
		}
		done[at[n]] = resultOf(writes[n], stepWrite, r)
	}
	return left, nil
}

// unwritten are the actions of steps that write nothing. stepForeign may write a version.
var unwritten = map[step]Action{stepNone: Agreed, stepLeave: Left, stepEqual: Equal, stepForeign: Foreign}

var errLowered = errors.New("its version was ahead of legacy's and was lowered; the write after that was not confirmed")

func resultOf(w store.Write, s step, r store.Result) Result {
	f := Result{Key: w.Key, Version: r.Version}
	switch {
	case r.Err != nil:
		f.Err = fmt.Errorf("write the target: %w", r.Err)
	case r.Outcome == store.Applied && s == stepLower:
		f.Err = errLowered
	// [owned-only]: also a value that another program has written since the target was read.
	case r.Outcome == store.Foreign && w.Deleted:
		f.Action = Foreign
	case r.Outcome == store.Applied && w.Deleted: // the other program has removed its value meanwhile
		f.Action = Tombstoned
	case r.Outcome == store.Applied:
		f.Action = Wrote
	case r.Outcome == store.Older && s == stepWrite:
		f.Action = Newer
	case r.Outcome == store.Older && s == stepLower:
		f.Err = fmt.Errorf("its version %s is ahead of every version of legacy, and the target refused to lower it", r.Version)
	default:
		f.Err = fmt.Errorf("the target refused the repair (%s)", r.Outcome)
	}
	return f
}

// [ahead-era]: raise raises legacy's era above entries that are ahead of it, and observes again. Such an entry
// has a version that legacy has never given (the row's lock is taken after the entry was read, so
// no later write explains it): legacy has lost transactions, and would drop what is written next.
func (f *Repairer) raise(ctx context.Context, keys []record.Key, s Observation) (Observation, error) {
	raiser, ok := f.Locker.(store.EraRaiser)
	// [repair-era]: behind a fence later eras are the target's own.
	if !ok || s.Fenced {
		return s, nil
	}
	var ahead record.Version
	for i, e := range s.Seen {
		row := s.Rows[i]
		if row.Found && e.Version.NewerThan(row.Version) || !row.Found && e.Version.Era() > s.Era {
			ahead = ahead.Max(e.Version)
		}
	}
	if ahead.IsZero() {
		return s, nil
	}
	if f.OnAhead != nil {
		if err := f.OnAhead(ctx, ahead); err != nil {
			return s, err
		}
	}
	if _, err := raiser.RaiseEra(ctx, ahead); err != nil {
		return s, err
	}
	return f.Observe(ctx, keys)
}

// Era is the era of what legacy returns from now on: the present one. While legacy is
// fenced it is the one before, since every record of legacy is older than
// every write that the target has taken since.
func Era(ctx context.Context, legacy store.Locker) (era uint32, fenced bool, err error) {
	fence, ok := legacy.(store.Fence)
	if !ok {
		return 0, false, errors.New("this legacy store does not report its era: a repair could undo writes made after a fence")
	}
	attempt, era, err := fence.FenceState(ctx)
	if err != nil {
		return 0, false, fmt.Errorf("read legacy's era: %w", err)
	}
	if attempt == "" {
		return era, false, nil
	}
	// [repair-era]: every record of legacy was written before the fence, or is a copy of what the
	// target has.
	first, err := fence.FirstEra(ctx)
	if err != nil {
		return 0, true, fmt.Errorf("read legacy's era: %w", err)
	}
	return max(first, 1) - 1, true, nil
}
