package reconcile

import (
	"context"
	"sync"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// aheadFinder finds entries that are ahead of legacy. Several goroutines may use it.
type aheadFinder struct {
	stores *stores

	mu      sync.Mutex
	highest record.Version // legacy has given this version, or a newer one
}

// find adds entries whose version is newer than all that legacy has given: their
// fields may agree today, but they would refuse every write to come. A version read
// under the row's lock, after the entry, is at least as new as any that a committed
// write can have brought. Versions mostly come from one counter, so the row of the
// newest entry answers for a whole batch: one row is locked, not all.
func (a *aheadFinder) find(ctx context.Context, rows []store.Row, entries []store.Entry, t *Tally) error {
	if a.stores.locker == nil {
		return nil
	}
	a.mu.Lock()
	highest := a.highest
	a.mu.Unlock()
	var keys []record.Key
	newest := record.Version{}
	versions := map[record.Key]record.Version{}
	for i, e := range entries {
		if e.Presence == store.Live && rows[i].Found && e.Version.NewerThan(highest) {
			versions[e.Key] = e.Version
			if keys = append(keys, e.Key); e.Version.NewerThan(newest) {
				newest = e.Version
				keys[0], keys[len(keys)-1] = keys[len(keys)-1], keys[0]
			}
		}
	}
	for n := 1; len(keys) > 0; n = len(keys) {
		locked, err := a.stores.lockedRows(ctx, keys[:min(n, len(keys))])
		if err != nil {
			return err
		}
		keys = keys[len(locked):]
		a.mu.Lock()
		for _, row := range locked {
			if isAhead(row, versions[row.Key]) {
				t.Ahead = append(t.Ahead, row.Key)
			} else if row.Found {
				a.highest = a.highest.Max(row.Version)
			}
		}
		highest = a.highest
		a.mu.Unlock()
		rest := keys[:0]
		for _, k := range keys {
			if versions[k].NewerThan(highest) {
				rest = append(rest, k)
			}
		}
		keys = rest
	}
	return nil
}

// given is a version that legacy has given, or has given a newer one than; zero: not known yet.
func (a *aheadFinder) given() record.Version {
	if a.stores.locker == nil { // then no entry can be proved to be ahead
		return record.MaxVersion
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.highest
}

// givenNow is a version that legacy has given by now. It is read under the lock of the
// first of the keys whose row legacy has; zero if it has none.
func (a *aheadFinder) givenNow(ctx context.Context, keys []record.Key) (record.Version, error) {
	if a.stores.locker == nil { // then no entry can be proved to be ahead
		return record.MaxVersion, nil
	}
	for _, k := range keys {
		rows, err := a.stores.lockedRows(ctx, []record.Key{k})
		if err != nil {
			return record.Version{}, err
		}
		if rows[0].Found {
			return rows[0].Version, nil
		}
	}
	return record.Version{}, nil
}
