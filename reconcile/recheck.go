package reconcile

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/stranglerfig/migrator/internal/repair"
	"github.com/stranglerfig/migrator/internal/sleep"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// suspect is a key whose copies differed at the last look.
type suspect struct {
	key   record.Key
	print uint64    // of the entry, since
	since time.Time // by the target's clock; zero: not looked at yet
}

// evidence is one key at one look: the era was read before the entry, the entry
// before the row.
type evidence struct {
	era   uint32
	row   store.Row
	entry store.Entry
	now   time.Time
}

// clockSlack is added to NotAfter: clocks are read to and fro over a network.
const clockSlack = 100 * time.Millisecond

// settle reads the quarantined keys again until each agrees, is confirmed to
// differ, or has proved to move too fast to tell. See Reconciler for the proof.
func (r *work) settle(ctx context.Context) error {
	if err := r.settleAhead(ctx); err != nil {
		return err
	}
	list := make([]suspect, 0, len(r.suspects))
	for k := range r.suspects {
		list = append(list, suspect{key: k})
	}
	slices.SortFunc(list, func(a, b suspect) int { return compareKeys(a.key, b.key) })
	clear(r.suspects)
	ripe := r.NotAfter + clockSlack
	pause := r.Pause
	for round := 1; len(list) > 0; round++ {
		wait := pause
		if round > 1 {
			now, err := r.Target.Now(ctx)
			if err != nil {
				return fmt.Errorf("read the target's clock: %w", err)
			}
			first, last := list[0].since, list[0].since
			for _, s := range list {
				if s.since.Before(first) {
					first = s.since
				}
				if s.since.After(last) {
					last = s.since
				}
			}
			wait = min(pause, max(0, first.Add(ripe).Sub(now)))
			if round > r.Rereads {
				wait = max(0, last.Add(ripe).Sub(now))
			}
		}
		if err := sleep.For(ctx, wait); err != nil {
			return err
		}
		pause = min(2*pause, time.Hour)
		var rest []suspect
		for from := 0; from < len(list); from += r.Batch {
			left, err := r.settleBatch(ctx, list[from:min(from+r.Batch, len(list))], ripe, round >= r.Rereads)
			if err != nil {
				return err
			}
			rest = append(rest, left...)
		}
		list = rest
	}
	if len(r.pending) == 0 { // else the jobs' suspects are still needed, to find again what is held back
		r.settled, r.collected = r.collected, nil
	}
	return r.save(ctx)
}

func compareKeys(a, b record.Key) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	default:
		return 0
	}
}

// settleBatch looks at the batch once and returns those that remain suspect. In
// the last rounds, those that have changed since the look before leave the list.
func (r *work) settleBatch(ctx context.Context, batch []suspect, ripe time.Duration, last bool) ([]suspect, error) {
	if err := r.throttle(ctx, len(batch)); err != nil {
		return nil, err
	}
	keys := make([]record.Key, len(batch))
	for i := range batch {
		keys[i] = batch[i].key
	}
	looks, after, err := r.look(ctx, keys)
	if err != nil {
		return nil, err
	}
	var rest []suspect
	var sure []evidence
	var moving []record.Key
	for i, l := range looks {
		s := batch[i]
		if r.same(l.row, l.entry, l.now) {
			continue
		}
		switch p := r.print(l.entry); {
		case s.since.IsZero():
			s.print, s.since = p, after
		case s.print != p && last:
			moving = append(moving, s.key)
			continue
		case s.print != p:
			s.print, s.since = p, after
		case l.now.Sub(s.since) >= ripe:
			sure = append(sure, l)
			continue
		}
		rest = append(rest, s)
	}
	if err := r.catch(ctx, moving); err != nil {
		return nil, err
	}
	return rest, r.confirm(ctx, sure)
}

// look reads the target and then legacy. after is the target's clock once both are read.
func (r *work) look(ctx context.Context, keys []record.Key) (looks []evidence, after time.Time, err error) {
	var era uint32
	if r.Locker != nil {
		if era, err = repair.Era(ctx, r.Locker); err != nil {
			return nil, after, err
		}
	}
	now, err := r.Target.Now(ctx)
	if err != nil {
		return nil, after, fmt.Errorf("read the target's clock: %w", err)
	}
	entries, err := r.Target.Get(ctx, keys)
	if err != nil {
		return nil, after, fmt.Errorf("read the target: %w", err)
	}
	rows, err := r.lookup(ctx, keys)
	if err != nil {
		return nil, after, err
	}
	if after, err = r.Target.Now(ctx); err != nil {
		return nil, after, fmt.Errorf("read the target's clock: %w", err)
	}
	for i := range rows {
		looks = append(looks, evidence{era: era, row: rows[i], entry: entries[i], now: now})
	}
	return looks, after, nil
}

// catchTries is how often a key that keeps moving is read in quick succession.
const catchTries = 20

// catch reads keys that change at every look as fast as it can, to meet each in a
// moment in which both stores agree. Those that never do are counted, not judged.
func (r *work) catch(ctx context.Context, keys []record.Key) error {
	for try := 0; len(keys) > 0 && try < catchTries; try++ {
		if err := sleep.For(ctx, time.Duration(try)*2*time.Millisecond); err != nil {
			return err
		}
		looks, _, err := r.look(ctx, keys)
		if err != nil {
			return err
		}
		keys = keys[:0:0]
		for _, l := range looks {
			if !r.same(l.row, l.entry, l.now) {
				keys = append(keys, l.entry.Key)
			}
		}
	}
	r.run.Unsettled += int64(len(keys))
	return nil
}
