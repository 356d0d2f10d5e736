package reconcile

import (
	"context"
	"fmt"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// targetBatch is what a batch of the target's entries adds to what legacy's records
// have shown.
type targetBatch struct {
	scanned  int64         // entries read
	unknown  []store.Entry // under names that no key leads to
	suspects []record.Key
	ahead    []record.Key
}

// scanTarget reads all of the target, and emits what only the target has.
func (c *comparer) scanTarget(ctx context.Context, emit func(targetBatch) error) error {
	err := c.stores.target.Scan(ctx, func(entries []store.Entry) error {
		for len(entries) > 0 {
			n := min(len(entries), c.rows.batch)
			if err := c.compareEntries(ctx, entries[:n], emit); err != nil {
				return err
			}
			entries = entries[n:]
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the whole target: %w", err)
	}
	return nil
}

func (c *comparer) compareEntries(ctx context.Context, entries []store.Entry, emit func(targetBatch) error) error {
	if err := c.pace.wait(ctx, len(entries)); err != nil {
		return err
	}
	b := targetBatch{scanned: int64(len(entries))}
	var keys []record.Key
	for i := range entries {
		switch e := &entries[i]; {
		case e.Key == "" && e.RawKey != "":
			b.unknown = append(b.unknown, *e)
		case e.Presence == store.Absent || e.Presence == store.Tombstone:
		default:
			keys = append(keys, e.Key)
		}
	}
	var err error
	if b.suspects, err = c.extras(ctx, keys); err != nil {
		return err
	}
	return emit(b)
}

// extras are the keys that legacy lacks.
func (c *comparer) extras(ctx context.Context, keys []record.Key) ([]record.Key, error) {
	rows, err := c.stores.rows(ctx, keys)
	if err != nil {
		return nil, err
	}
	var extras []record.Key
	for i := range rows {
		if !rows[i].Found {
			extras = append(extras, keys[i])
		}
	}
	return extras, nil
}

// keysOnly is a target that lists its keys without reading its records; nil: it can't, or
// legacy has no bulk path, without which legacy's keys are not summed up.
func (c *comparer) keysOnly() store.KeyScanner {
	scanner, _ := c.stores.target.(store.KeyScanner)
	if c.bulk == nil {
		return nil
	}
	return scanner
}

// addLegacyKeys adds the keys of a finished job.
func (c *comparer) addLegacyKeys(hashes []uint64) {
	if c.legacyKeys == nil {
		return
	}
	for _, h := range hashes {
		c.legacyKeys.add(h)
	}
}

// scanKeys lists the target's keys, and emits those that legacy lacks: first by
// checksums, then key by key where these differ. Where legacy's checksums are not known,
// because the process that had them was interrupted, each key is looked up.
func (c *comparer) scanKeys(ctx context.Context, target store.KeyScanner, emit func(targetBatch) error) error {
	sums := newKeyChecksums(c.terms.Seed)
	err := target.ScanKeys(ctx, func(keys []record.Key, unknown []store.Entry) error {
		for _, k := range keys {
			sums.add(sums.hash(k))
		}
		if err := emit(targetBatch{scanned: int64(len(keys) + len(unknown)), unknown: unknown}); err != nil {
			return err
		}
		return c.pace.wait(ctx, min(len(keys), c.rows.batch))
	})
	if err != nil {
		return fmt.Errorf("list the whole target: %w", err)
	}
	if sums.same(c.legacyKeys) {
		return nil
	}
	var keys []record.Key
	err = target.ScanKeys(ctx, func(listed []record.Key, _ []store.Entry) error {
		for _, k := range listed {
			if sums.differs(sums.hash(k), c.legacyKeys) {
				keys = append(keys, k)
			}
		}
		for len(keys) >= c.rows.batch {
			if err := c.emitExtras(ctx, keys[:c.rows.batch], emit); err != nil {
				return err
			}
			keys = keys[:copy(keys, keys[c.rows.batch:])]
		}
		return nil
	})
	if err == nil {
		err = c.emitExtras(ctx, keys, emit)
	}
	if err != nil {
		return fmt.Errorf("list the whole target: %w", err)
	}
	return nil
}

func (c *comparer) emitExtras(ctx context.Context, keys []record.Key, emit func(targetBatch) error) error {
	if err := c.pace.wait(ctx, len(keys)); err != nil {
		return err
	}
	extras, err := c.extras(ctx, keys)
	if err != nil {
		return err
	}
	return emit(targetBatch{suspects: extras})
}
