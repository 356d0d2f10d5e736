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
	Column string         // of legacy, with the time at which a record last changed; empty: no such sample
	Within time.Duration  // how young
	Sample phases.Percent // share of them
}

// recentLimit bounds the keys that one run draws; they are held in memory.
const recentLimit = 1_000_000

// checkRecent refuses a run early whose sample of young records can't be drawn.
func (c *comparer) checkRecent(ctx context.Context, r Recent) error {
	if r.Column == "" {
		return nil
	}
	finder, ok := c.stores.legacy.(store.RecentFinder)
	if !ok {
		return errors.New("reconcile.recent: this legacy store does not find records by when they changed")
	}
	return finder.CheckRecent(ctx, r.Column)
}

// compareRecent compares the sample of young records, which checkRecent has allowed. It
// emits how many were read, and which of them are suspects.
func (c *comparer) compareRecent(ctx context.Context, r Recent, emit func(records int, suspects []record.Key) error) error {
	finder := c.stores.legacy.(store.RecentFinder)
	keys, err := finder.RecentKeys(ctx, r.Column, r.Within, float64(r.Sample)/float64(phases.All), recentLimit)
	if err != nil {
		return err
	}
	for len(keys) > 0 {
		batch := keys[:min(len(keys), c.rows.batch)]
		keys = keys[len(batch):]
		if err := c.pace.wait(ctx, len(batch)); err != nil {
			return err
		}
		read, _, err := c.stores.snapshots(ctx, batch)
		if err != nil {
			return fmt.Errorf("compare young records: %w", err)
		}
		var suspects []record.Key
		for i, s := range read {
			if !c.rules.agreed(s) {
				suspects = append(suspects, batch[i])
			}
		}
		if err := emit(len(batch), suspects); err != nil {
			return err
		}
	}
	return nil
}
