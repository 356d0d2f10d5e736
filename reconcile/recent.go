package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// Recent makes a sampled run check young records more densely than the rest: a
// writer that went wrong today damages today's records, of which a slice of the
// whole holds few.
type Recent struct {
	Column string         // of legacy, that says when a record last changed; empty: no such sample
	Within time.Duration  // how young
	Sample phases.Percent // share of them
}

// recentLimit bounds the keys that one run draws; they are held in memory.
const recentLimit = 1_000_000

// canRecent refuses a run early whose sample of young records can't be drawn.
func (r *work) canRecent(ctx context.Context) error {
	if r.Recent.Column == "" {
		return nil
	}
	finder, ok := r.Legacy.(store.RecentFinder)
	if !ok {
		return errors.New("reconcile.recent: this legacy store does not find records by when they changed")
	}
	return finder.CheckRecent(ctx, r.Recent.Column)
}

// compareRecent compares the sample of young records, once the slice is settled:
// what it brings up beyond that is counted apart, for the claim about the slice
// must not rest on records that were chosen.
func (r *work) compareRecent(ctx context.Context) error {
	if r.Recent.Column == "" || r.run.Full {
		return nil
	}
	finder := r.Legacy.(store.RecentFinder) // canRecent has seen it
	keys, err := finder.RecentKeys(ctx, r.Recent.Column, r.Recent.Within, float64(r.Recent.Sample)/float64(phases.All), recentLimit)
	if err != nil {
		return err
	}
	before := r.run.Differences
	for len(keys) > 0 {
		n := min(len(keys), r.Batch)
		if err := r.recentBatch(ctx, keys[:n]); err != nil {
			return err
		}
		if keys = keys[n:]; len(r.suspects) >= r.Quarantine {
			if err := r.settle(ctx); err != nil {
				return err
			}
		}
	}
	if err := r.settle(ctx); err != nil {
		return err
	}
	r.run.RecentOnly = r.run.Differences - before
	r.run.RecentDifferent += r.run.RecentOnly
	return nil
}

func (r *work) recentBatch(ctx context.Context, keys []record.Key) error {
	if err := r.throttle(ctx, len(keys)); err != nil {
		return err
	}
	looks, _, err := r.look(ctx, keys)
	if err != nil {
		return fmt.Errorf("compare young records: %w", err)
	}
	var suspects []record.Key
	for i, l := range looks {
		if !r.same(l.row, l.entry, l.now) {
			suspects = append(suspects, keys[i])
		}
	}
	r.mu.Lock()
	r.run.Recent += int64(len(keys))
	for _, k := range suspects {
		if _, known := r.confirmed[r.hash(string(k))]; known { // the slice has it too
			r.run.RecentDifferent++
		}
	}
	r.suspect(suspects)
	r.mu.Unlock()
	r.report()
	return nil
}
