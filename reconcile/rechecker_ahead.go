package reconcile

import (
	"context"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// recheckAhead reads the keys whose entries seemed to be ahead again, and confirms
// those that still are. One whose fields differ besides is a suspect like any other.
func (r *rechecker) recheckAhead(ctx context.Context) error {
	var keys []record.Key
	for k := range r.ahead {
		if !r.recorder.isConfirmed(k) {
			keys = append(keys, k)
		}
	}
	clear(r.ahead)
	for len(keys) > 0 {
		n := min(len(keys), r.batch)
		read, _, err := r.stores.snapshots(ctx, keys[:n])
		if err != nil {
			return err
		}
		var agree []snapshot
		for _, s := range read {
			if s.entry.Presence == store.Live && r.rules.agreed(s) {
				agree = append(agree, s)
			}
		}
		if err := r.confirmAll(ctx, agree); err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}
