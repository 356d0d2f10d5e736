package replicate

import (
	"context"
	"fmt"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/repair"
)

// sweep repairs what the copy has not reached: entries older than the barrier
// although all that legacy has was applied at it. Mostly they are records that
// were deleted while the migration was back in legacy and nobody told the target.
func (r *run) sweep(ctx context.Context) error {
	err := r.Target.Scan(ctx, func(entries []record.Entry) error {
		var items []repair.Item
		seen := make(map[record.Key]bool, len(entries))
		for _, e := range entries {
			if leftOver(e, r.p.Barrier) && !seen[e.Key] {
				seen[e.Key] = true
				items = append(items, repair.Item{Key: e.Key})
			}
		}
		if len(items) == 0 {
			return ctx.Err()
		}
		fixed, err := r.fixer.Repair(ctx, items)
		if err != nil {
			return err
		}
		swept := int64(0)
		for _, f := range fixed {
			if f.Err != nil {
				return fmt.Errorf("key %q: %w", f.Key, f.Err)
			}
			if f.Action == repair.Buried {
				swept++
			}
		}
		r.mu.Lock()
		r.p.Swept += swept
		r.mu.Unlock()
		r.report()
		return nil
	})
	if err != nil {
		return fmt.Errorf("sweep the target: %w", err)
	}
	return nil
}

func leftOver(e record.Entry, barrier record.Version) bool {
	switch e.Presence {
	case record.Live, record.Unowned, record.Damaged:
		return (e.Key != "" || e.RawKey == "") && barrier.NewerThan(e.Version)
	default:
		return false
	}
}
