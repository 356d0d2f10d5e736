package reconcile

import (
	"context"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/internal/sleep"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// findAhead looks for entries whose version is newer than all that legacy has
// given: their fields may agree today, but they would refuse every write to come.
// A version read under the row's lock, after the entry, is at least as new as any
// that a committed write can have brought. Versions mostly come from one counter,
// so asking for the newest entry's row answers for a whole batch.
func (r *work) findAhead(ctx context.Context, rows []store.Row, entries []store.Entry, t *Tally) error {
	if r.Locker == nil {
		return nil
	}
	r.mu.Lock()
	high := r.high
	r.mu.Unlock()
	var keys []record.Key
	newest := record.Version{}
	versions := map[record.Key]record.Version{}
	for i, e := range entries {
		if e.Presence == store.Live && rows[i].Found && e.Version.NewerThan(high) {
			versions[e.Key] = e.Version
			if keys = append(keys, e.Key); e.Version.NewerThan(newest) {
				newest = e.Version
				keys[0], keys[len(keys)-1] = keys[len(keys)-1], keys[0]
			}
		}
	}
	for n := 1; len(keys) > 0; n = len(keys) {
		locked, err := r.locked(ctx, keys[:min(n, len(keys))])
		if err != nil {
			return err
		}
		keys = keys[len(locked):]
		r.mu.Lock()
		for _, row := range locked {
			if r.isAhead(row, versions[row.Key]) {
				t.Ahead = append(t.Ahead, row.Key)
			} else if row.Found && row.Version.Era() >= versions[row.Key].Era() {
				r.high = r.high.Max(row.Version)
			}
		}
		high = r.high
		r.mu.Unlock()
		rest := keys[:0]
		for _, k := range keys {
			if versions[k].NewerThan(high) {
				rest = append(rest, k)
			}
		}
		keys = rest
	}
	return nil
}

func (r *work) isAhead(locked store.Row, entry record.Version) bool {
	return locked.Found && entry.Era() == locked.Version.Era() && entry.NewerThan(locked.Version)
}

// locked reads rows under their locks; one that its writer holds is waited for a few times.
func (r *work) locked(ctx context.Context, keys []record.Key) ([]store.Row, error) {
	for try := 1; ; try++ {
		rows, err := r.Locker.LookupLocked(ctx, keys)
		if err == nil {
			return rows, nil
		}
		if try == 4 || ctx.Err() != nil {
			return nil, fmt.Errorf("read legacy under lock: %w", err)
		}
		if err := sleep.For(ctx, time.Duration(try)*250*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// settleAhead confirms what findAhead has found and nothing has changed since.
func (r *work) settleAhead(ctx context.Context) error {
	var keys []record.Key
	for k := range r.ahead {
		if _, known := r.confirmed[r.hash(string(k))]; !known {
			keys = append(keys, k)
		}
	}
	clear(r.ahead)
	for len(keys) > 0 {
		n := min(len(keys), r.Batch)
		looks, _, err := r.look(ctx, keys[:n])
		if err != nil {
			return err
		}
		var sure []evidence
		for _, l := range looks {
			// What differs besides is settled as any other suspect.
			if l.entry.Presence == store.Live && r.same(l.row, l.entry, l.now) {
				sure = append(sure, l)
			}
		}
		if err := r.confirm(ctx, sure); err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}
