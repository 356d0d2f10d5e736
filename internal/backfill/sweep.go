package backfill

import (
	"context"
	"fmt"

	"github.com/stranglerfig/migrator/internal/repair"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// sweep repairs entries that the copy did not reach: they are older than the barrier,
// although every record of legacy was applied at it. Mostly they are records that were
// deleted while the migration was back in legacy, where no instance shadows deletes.
func (r *run) sweep(ctx context.Context) error {
	r.mu.Lock()
	r.p.Foreign = 0 // a resumed run lists them once more
	r.mu.Unlock()
	list := r.listByScan
	if lister, ok := r.Target.(store.StaleLister); ok {
		list = lister.ListStale
	}
	if err := list(ctx, r.p.Barrier, func(keys []record.Key) error { return r.repairStale(ctx, keys) }); err != nil {
		return fmt.Errorf("sweep the target: %w", err)
	}
	return nil
}

// listByScan is ListStale of a target that has none.
func (r *run) listByScan(ctx context.Context, than record.Version, yield func([]record.Key) error) error {
	return r.Target.Scan(ctx, func(entries []store.Entry) error {
		var keys []record.Key
		for i := range entries {
			if entries[i].IsStale(than) {
				keys = append(keys, entries[i].Key)
			}
		}
		if len(keys) == 0 {
			return ctx.Err()
		}
		return yield(keys)
	})
}

// repairStale repairs keys whose entries are older than the barrier.
func (r *run) repairStale(ctx context.Context, keys []record.Key) error {
	var items []repair.Item
	seen := make(map[record.Key]bool, len(keys))
	for _, key := range keys {
		if !seen[key] {
			seen[key] = true
			items = append(items, repair.Item{Key: key})
		}
	}
	if err := r.Throttle.Hold(ctx); err != nil {
		return err
	}
	if err := r.Throttle.Wait(ctx, len(items)); err != nil {
		return err
	}
	// [backfill-sweep]: by the repair rules, since live writes continue beside the sweep.
	fixed, err := r.repairer.Repair(ctx, items)
	if err != nil {
		return err
	}
	swept, foreign := int64(0), int64(0)
	for _, f := range fixed {
		if f.Err != nil {
			return fmt.Errorf("key %q: %w", f.Key, f.Err)
		}
		switch f.Action {
		case repair.Tombstoned:
			swept++
		case repair.Foreign:
			foreign++
		}
	}
	r.mu.Lock()
	r.p.Swept, r.p.Foreign = r.p.Swept+swept, r.p.Foreign+foreign
	r.mu.Unlock()
	r.report()
	return nil
}
