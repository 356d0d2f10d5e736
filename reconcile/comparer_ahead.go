package reconcile

import (
	"context"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// findAhead adds entries whose version is newer than all that legacy has given: their
// fields may agree today, but they would refuse every write to come. A version read
// under the row's lock, after the entry, is at least as new as any that a committed
// write can have brought. Versions mostly come from one counter, so the row of the
// newest entry answers for a whole batch: one row is locked, not all.
func (c *comparer) findAhead(ctx context.Context, rows []store.Row, entries []store.Entry, t *Tally) error {
	if c.stores.locker == nil {
		return nil
	}
	c.mu.Lock()
	highest := c.highest
	c.mu.Unlock()
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
		locked, err := c.stores.lockedRows(ctx, keys[:min(n, len(keys))])
		if err != nil {
			return err
		}
		keys = keys[len(locked):]
		c.mu.Lock()
		for _, row := range locked {
			if isAhead(row, versions[row.Key]) {
				t.Ahead = append(t.Ahead, row.Key)
			} else if row.Found && row.Version.Era() >= versions[row.Key].Era() {
				c.highest = c.highest.Max(row.Version)
			}
		}
		highest = c.highest
		c.mu.Unlock()
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
func (c *comparer) given() record.Version {
	if c.stores.locker == nil { // then no entry can be proved to be ahead
		return record.MaxVersion
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.highest
}

// givenNow is a version that legacy has given by now. It is read under the lock of a
// row: the newest entry's or, if legacy lacks that, one at the end of a chunk.
func (c *comparer) givenNow(ctx context.Context, newest record.Key, chunks []store.Chunk) (record.Version, error) {
	if c.stores.locker == nil { // then no entry can be proved to be ahead
		return record.MaxVersion, nil
	}
	keys := []record.Key{newest}
	for _, chunk := range chunks[:min(len(chunks), 100)] {
		if span, ok := c.checksums.spans.SpanOf(chunk); ok {
			keys = append(keys, integerKey(span.To))
		}
	}
	for _, k := range keys {
		rows, err := c.stores.lockedRows(ctx, []record.Key{k})
		if err != nil {
			return record.Version{}, err
		}
		if rows[0].Found {
			return rows[0].Version, nil
		}
	}
	return record.Version{}, nil
}
