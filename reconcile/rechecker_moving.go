package reconcile

import (
	"context"
	"time"

	"github.com/stranglerfig/migrator/internal/sleep"
	"github.com/stranglerfig/migrator/record"
)

// movingTries is how often a key that keeps changing is read in quick succession.
const movingTries = 20

// readMoving reads keys that change at every recheck as fast as it can, to meet each at
// a moment at which both stores agree. Those that never do are counted as unresolved:
// they are neither agreed nor different.
func (r *rechecker) readMoving(ctx context.Context, keys []record.Key) error {
	for try := 0; len(keys) > 0 && try < movingTries; try++ {
		if err := sleep.For(ctx, time.Duration(try)*2*time.Millisecond); err != nil {
			return err
		}
		read, _, err := r.stores.snapshots(ctx, keys)
		if err != nil {
			return err
		}
		keys = keys[:0:0]
		for _, s := range read {
			if !r.rules.agreed(s) {
				keys = append(keys, s.entry.Key)
			}
		}
	}
	r.recorder.unresolved(int64(len(keys)))
	return nil
}
