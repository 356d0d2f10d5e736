package capture

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/internal/pgfail"
	"github.com/stranglerfig/migrator/internal/repair"
	"github.com/stranglerfig/migrator/internal/sleep"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// applier brings batches to the target, one after the other; the keys of one batch in parallel.
type applier struct {
	*Capture
	repairer repair.Repairer
	memory   memory
	meter    *meter
	notAfter time.Time // until when writes may land
	renew    time.Time // by this machine's clock, when that is read again
	sweeps   []Sweep   // that are due once more
}

// item is one key's change on its way to the target.
type item struct {
	key record.Key
	versioned
}

// batch returns when the target has all of the batch, or later states. What the target does not take for a
// while is sent again, without end: nothing is skipped.
func (a *applier) batch(ctx context.Context, b *batch) error {
	if len(b.states) > 0 {
		items := make([]item, 0, len(b.states))
		for key, v := range b.states {
			items = append(items, item{key, v})
		}
		if err := a.items(ctx, items); err != nil {
			return err
		}
	}
	if b.alone == nil {
		return nil
	}
	// [capture-truncated]: the transaction's own last states first: the sweep takes what is older.
	if err := b.alone.each(func(states map[record.Key]change) error { return a.load(ctx, states, b.at) }); err != nil {
		return err
	}
	if b.alone.truncated || b.alone.partly {
		return a.truncated(ctx, b)
	}
	return nil
}

// items applies changes of different keys.
func (a *applier) items(ctx context.Context, items []item) error {
	growing := backoff.NewExponentialBackOff()
	growing.InitialInterval, growing.MaxInterval = 50*time.Millisecond, 5*time.Second
	for {
		again, why := a.parallel(ctx, items)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		a.meter.failed(why)
		if len(again) == 0 {
			return why
		}
		if why != nil {
			if errors.Is(why, errNotHeld) || errors.Is(why, ErrColumns) {
				return why
			}
			if err := sleep.For(ctx, growing.NextBackOff()); err != nil {
				return err
			}
		} else {
			growing.Reset()
		}
		items = again
	}
}

// parallel tries each item once, and returns those that need another try, and why, unless they were only late.
func (a *applier) parallel(ctx context.Context, items []item) (again []item, why error) {
	type part struct {
		left []item
		why  error
	}
	var parts []*part
	var g errgroup.Group
	g.SetLimit(a.Workers)
	for some := range slices.Chunk(items, a.Batch) {
		p := &part{}
		parts = append(parts, p)
		notAfter, err := a.turn(ctx, len(some))
		if err != nil {
			p.left, p.why = some, err
			continue
		}
		g.Go(func() error {
			p.left, p.why = a.some(ctx, some, notAfter)
			return nil
		})
	}
	_ = g.Wait()
	for _, p := range parts {
		again, why = append(again, p.left...), errors.Join(why, p.why)
	}
	a.memory.keep(items, again)
	return again, why
}

// turn waits until so many changes may be brought, and is then permit.
func (a *applier) turn(ctx context.Context, changes int) (time.Time, error) {
	if err := a.Throttle.Hold(ctx); err != nil {
		return time.Time{}, err
	}
	if err := a.Throttle.Wait(ctx, changes); err != nil {
		return time.Time{}, err
	}
	return a.permit(ctx)
}

var errNotHeld = errors.New("this process captures no longer")

// permit returns until when writes may land, by the target's clock.
//
// [not-after]: it rests on the lock of the one process that captures, which is looked at after the clock was
// read: what a process sends that has lost the lock is refused.
func (a *applier) permit(ctx context.Context) (time.Time, error) {
	if time.Now().Before(a.renew) {
		return a.notAfter, nil
	}
	began := time.Now()
	now, err := a.Target.Now(ctx)
	if err != nil {
		return now, fmt.Errorf("read the target's clock: %w", err)
	}
	if err := a.Ledger.Held(ctx); err != nil {
		return now, fmt.Errorf("%w: %w", errNotHeld, err)
	}
	a.notAfter, a.renew = now.Add(a.NotAfter), began.Add(a.NotAfter/4)
	return a.notAfter, nil
}

// some applies items with one call of the target, where each is as usual.
func (a *applier) some(ctx context.Context, items []item, notAfter time.Time) (left []item, why error) {
	var whole, partial, locked []item
	for _, i := range items {
		switch {
		case i.whole():
			whole = append(whole, i)
		case !i.locked && a.memory.knows(i.key):
			partial = append(partial, i)
		default:
			locked = append(locked, i)
		}
	}
	writes := make([]store.Write, 0, len(whole)+len(partial))
	sent := make([]item, 0, len(whole)+len(partial))
	for _, i := range whole {
		writes, sent = append(writes, write(i, notAfter)), append(sent, i)
	}
	kept, unkept, err := a.keep(ctx, partial, notAfter)
	if err != nil {
		return items, err
	}
	for _, w := range kept {
		writes, sent = append(writes, w.write), append(sent, w.item)
	}
	locked = append(locked, unkept...)
	left, locked2, why := a.send(ctx, writes, sent)
	locked = append(locked, locked2...)
	failed, err := a.lockedRows(ctx, locked)
	return append(left, failed...), errors.Join(why, err)
}

func write(i item, notAfter time.Time) store.Write {
	return store.Write{Key: i.key, Deleted: i.deleted, Record: i.record, Version: i.version, NotAfter: notAfter}
}

// send applies writes. It returns the items that need another try, and those whose rows must be read under
// their locks.
func (a *applier) send(ctx context.Context, writes []store.Write, sent []item) (left, locked []item, why error) {
	if len(writes) == 0 {
		return nil, nil, nil
	}
	results, err := a.Target.Apply(ctx, writes)
	if err != nil {
		return sent, nil, fmt.Errorf("write the target: %w", err)
	}
	var same []int
	var refused []Refused
	for n, r := range results {
		switch i := sent[n]; {
		case errors.Is(r.Err, store.ErrRecord):
			refused = append(refused, Refused{i.key, i.version, r.Err})
		case r.Err != nil:
			left, why = append(left, i), fmt.Errorf("write the target: %w", &keyError{i.key, r.Err})
		case r.Outcome == store.Applied:
		case r.Outcome == store.Older && r.Version == i.version:
			same = append(same, n)
		case r.Outcome == store.Older: // a later writer's own message was faster
		case r.Outcome == store.Late:
			left = append(left, i)
		default: // another program's value, or a write that came between the read of the target and this one
			locked = append(locked, i)
		}
	}
	unequal, err := a.unequal(ctx, writes, sent, same)
	if err != nil {
		left, why = append(left, unequal...), errors.Join(why, err)
	} else {
		locked = append(locked, unequal...)
	}
	if len(refused) > 0 {
		// [capture-refused]: the target is known to lack the state.
		if err := a.Ledger.Journal(ctx, refused); err != nil {
			for _, r := range refused {
				left = append(left, sent[slices.IndexFunc(sent, func(i item) bool { return i.key == r.Key })])
			}
			return left, locked, errors.Join(why, fmt.Errorf("journal records that the target can't store: %w", err))
		}
		a.meter.refused.Add(int64(len(refused)))
	}
	return left, locked, why
}

// unequal settles writes of which the target has the very version: one transaction alone can own it. It
// returns the items of which that was not possible.
//
// [capture-equal]: an application that returned an earlier row of its transaction, with the version of the last
// one, wrote a state that legacy does not have.
func (a *applier) unequal(ctx context.Context, writes []store.Write, sent []item, same []int) ([]item, error) {
	if len(same) == 0 {
		return nil, nil
	}
	keys, items := make([]record.Key, len(same)), make([]item, len(same))
	for n, at := range same {
		keys[n], items[n] = sent[at].key, sent[at]
	}
	entries, err := a.Target.Get(ctx, keys)
	if err != nil {
		return items, fmt.Errorf("read the target: %w", err)
	}
	var again []store.Write
	var which []item
	for n, at := range same {
		w := writes[at]
		if entries[n].Version != w.Version || agrees(&entries[n], &w) {
			continue
		}
		w.Only = &w.Version
		again, which = append(again, w), append(which, items[n])
	}
	if len(again) == 0 {
		return nil, nil
	}
	results, err := a.Target.Apply(ctx, again)
	if err != nil {
		return which, fmt.Errorf("write the target: %w", err)
	}
	var left []item
	for n, r := range results {
		if r.Outcome != store.Applied || r.Err != nil {
			left = append(left, which[n])
		}
	}
	return left, nil
}

// keyError is the error of one key. Its text does not have the key.
type keyError struct {
	key record.Key
	error
}

func (e *keyError) Unwrap() error { return e.error }

func agrees(e *store.Entry, w *store.Write) bool {
	if w.Deleted {
		return e.Presence == store.Tombstone
	}
	return e.Presence == store.Live && slices.Equal(e.Record, w.Record)
}

// unnamed makes an ErrColumns of a query's error about a name: the log's columns have numbers, a query needs names,
// and only what is applied says whether the new one is meant.
func unnamed(err error) error {
	if pgfail.SQLState(err) == stateNoColumn {
		return changed("a row must be read, and a column was renamed or dropped: %w", err)
	}
	return err
}

// lockedRows brings rows as they are now, read under their locks, at versions of their own.
func (a *applier) lockedRows(ctx context.Context, items []item) (left []item, why error) {
	if len(items) == 0 {
		return nil, nil
	}
	todo := make([]repair.Item, len(items))
	for n, i := range items {
		todo[n] = repair.Item{Key: i.key, Journaled: i.version}
	}
	results, err := a.repairer.Repair(ctx, todo)
	if err != nil {
		return items, unnamed(err)
	}
	var refused []Refused
	for n, r := range results {
		switch {
		case errors.Is(r.Err, store.ErrRecord):
			refused = append(refused, Refused{r.Key, items[n].version, r.Err})
		case r.Err != nil:
			left, why = append(left, items[n]), &keyError{r.Key, unnamed(r.Err)}
		}
	}
	a.meter.locked.Add(int64(len(items) - len(left)))
	if len(refused) > 0 {
		if err := a.Ledger.Journal(ctx, refused); err != nil {
			return items, fmt.Errorf("journal records that the target can't store: %w", err)
		}
		a.meter.refused.Add(int64(len(refused)))
	}
	return left, why
}

type keptWrite struct {
	write store.Write
	item  item
}

// keep completes changes whose large fields did not change by what the target has of them.
//
// [capture-kept]: if the target's version is between the key's previous change and this one: then no other
// change came between, since the stream has no gaps. Others are read under their rows' locks.
func (a *applier) keep(ctx context.Context, items []item, notAfter time.Time) (kept []keptWrite, left []item, err error) {
	if len(items) == 0 {
		return nil, nil, nil
	}
	keys := make([]record.Key, len(items))
	for n := range items {
		keys[n] = items[n].key
	}
	entries, err := a.Target.Get(ctx, keys)
	if err != nil {
		return nil, nil, fmt.Errorf("read the target: %w", err)
	}
	for n, i := range items {
		e := &entries[n]
		if e.Version.NewerThan(i.version) {
			continue // a later writer's own message was faster
		}
		before, known := a.memory.version(i.key)
		if !known || e.Presence != store.Live || before.NewerThan(e.Version) || len(e.Record) < len(i.record) {
			left = append(left, i)
			continue
		}
		full := i
		full.record = slices.Clone(i.record)
		for f := range full.record {
			if full.record[f].State == record.Missing {
				full.record[f] = e.Record[f]
			}
		}
		if !full.whole() {
			left = append(left, i)
			continue
		}
		w := write(full, notAfter)
		w.Only = &e.Version
		kept = append(kept, keptWrite{w, i})
	}
	return kept, left, nil
}
