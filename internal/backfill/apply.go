package backfill

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/internal/sleep"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

const (
	failShown = 2 * time.Second // from when on rows that fail are reported,
	failAgain = 5 * time.Second // and how often
)

// apply returns when the target has every one of the writes or a later state.
// Writes that fail, or are refused because their read is too old, are read again and
// sent with the new read's time: a write's own time is never extended. Those that come too late are
// sent in ever smaller parts, since large records may take longer together than a write may.
func (r *run) apply(ctx context.Context, writes []store.Write) (counts, error) {
	n := counts{rows: int64(len(writes))}
	growing := backoff.NewExponentialBackOff()
	growing.InitialInterval, growing.MaxInterval = 50*time.Millisecond, 5*time.Second
	var failing, late, shown time.Time
	left, why := r.try(ctx, writes, &n)
	size, again := len(writes), left // again: of those that were just sent
	for len(left) > 0 {
		switch {
		case ctx.Err() != nil:
			return n, ctx.Err()
		case why != nil:
			if failing.IsZero() {
				failing = time.Now()
			}
			took := time.Since(failing)
			if took > r.Patience {
				return n, fmt.Errorf("%s can't be copied: %w", humanize.Counted(len(left), "row"), why)
			}
			if took >= failShown && time.Since(shown) >= failAgain {
				shown = time.Now()
				remedy, _ := hint.Of(why)
				hint.Waiting(ctx, fmt.Sprintf("%s that can't be copied yet (%s of at most %s): %v", humanize.Counted(len(left), "row"), took.Round(100*time.Millisecond), r.Patience, why), remedy)
			}
			if err := sleep.For(ctx, growing.NextBackOff()); err != nil {
				return n, err
			}
		case len(again) == 0: // all of them landed
			growing.Reset()
			failing, late = time.Time{}, time.Time{}
		default: // they were only late
			growing.Reset()
			failing = time.Time{}
			switch {
			case size > 1:
				size = (size + 1) / 2
			case late.IsZero():
				late = time.Now()
			case time.Since(late) > r.Patience:
				return n, hint.Errorf(hint.Hint{Text: "raise writing.not_after in the migration file, and apply it"},
					"the row of key %q comes too late each time: to read and write it takes longer than writing.not_after (%s)", left[0], r.NotAfter)
			}
		}
		// [not-after-fixed]: what failed or came late is read again, and carries the time of
		// that read.
		part := left[:min(size, len(left))]
		rest := left[len(part):]
		if writes, why = r.reread(ctx, part); why != nil {
			again = part
			continue
		}
		again, why = r.try(ctx, writes, &n)
		left = append(slices.Clip(again), rest...)
	}
	return n, nil
}

// try applies the writes once. It returns the keys that need another read, and
// why, unless they were only late.
func (r *run) try(ctx context.Context, writes []store.Write, n *counts) (left []record.Key, why error) {
	if len(writes) == 0 {
		return nil, nil
	}
	results, err := r.Target.Apply(ctx, writes)
	if err != nil {
		for i := range writes {
			left = append(left, writes[i].Key)
		}
		return left, fmt.Errorf("write the target: %w", err)
	}
	for i, result := range results {
		switch {
		case result.Err != nil:
			why = cmp.Or(why, fmt.Errorf("write key %q to the target: %w", writes[i].Key, result.Err))
		case result.Outcome == store.Applied:
			n.applied++
			continue
		case result.Outcome == store.Older:
			n.newer++
			continue
		case result.Outcome != store.Late:
			why = cmp.Or(why, fmt.Errorf("the target refused the row of key %q (%s)", writes[i].Key, result.Outcome))
		}
		left = append(left, writes[i].Key)
	}
	return left, why
}

// reread makes new writes of the keys that legacy still has. A deleted key needs none:
// its delete came after the barrier, and is shadowed.
func (r *run) reread(ctx context.Context, keys []record.Key) ([]store.Write, error) {
	read, err := r.Target.Now(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the target's clock: %w", err)
	}
	rows, err := r.Legacy.Lookup(ctx, keys)
	if err != nil {
		return nil, fmt.Errorf("read legacy: %w", err)
	}
	var writes []store.Write
	for _, row := range rows {
		if row.Found {
			writes = append(writes, r.writeOf(row, read))
		}
	}
	return writes, nil
}
