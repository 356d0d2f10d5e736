package backfill

import (
	"context"
	"fmt"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// What was written must be there. A target whose key column is narrower, or whose trigger drops
// rows, takes a write and has another record, or none; the sweep would then remove what the copy
// made, and the run end well with an empty target. So a sample of each chunk is read back at
// once, and some of it again at the end; a target that can looks for all of it.

const (
	sampledRows   = 8   // of a block or a batch
	sampledChunks = 100 // whose sample is read again at the end
)

func (r *run) sampleBlock(sample []record.Key, b *record.Block) []record.Key {
	schema := r.Legacy.Schema()
	for i := 0; i < b.Rows(); i += max(1, b.Rows()/sampledRows) {
		if key, ok := schema.AppendKey(nil, b, i); ok {
			sample = append(sample, record.Key(key))
		}
	}
	return sample
}

// readBack reads a sample of chunk index.
func (r *run) readBack(ctx context.Context, index int, sample []record.Key) error {
	if err := r.have(ctx, sample); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.sample) < sampledChunks {
		r.sample[index] = sample
	}
	return nil
}

// readSample reads again what readBack has found.
func (r *run) readSample(ctx context.Context) error {
	for _, keys := range r.sample {
		if err := r.have(ctx, keys); err != nil {
			return err
		}
	}
	return nil
}

// have returns an error unless the target has each key: its record, or the tombstone of a delete
// or repair that came since. A tombstone with a detail is a version whose record is gone.
func (r *run) have(ctx context.Context, keys []record.Key) error {
	if len(keys) == 0 {
		return nil
	}
	entries, err := r.Target.Get(ctx, keys)
	if err != nil {
		return fmt.Errorf("read back what was written: %w", err)
	}
	for _, e := range entries {
		if e.Record != nil {
			if key, err := r.Legacy.Schema().KeyOf(e.Record); err == nil && key != e.Key {
				return lost(e.Key, "its record has another key")
			}
		}
		gone := e.Presence == store.Absent || e.Presence == store.Tombstone && e.Detail != ""
		if gone && !e.Version.NewerThan(r.p.Barrier) && !r.Expires {
			return lost(e.Key, string(e.Presence))
		}
	}
	return nil
}

func (r *run) findLost(ctx context.Context) error {
	finder, ok := r.Target.(store.LostFinder)
	if !ok {
		return nil
	}
	key, found, err := finder.FindLost(ctx, r.p.Barrier)
	switch {
	case err != nil:
		return fmt.Errorf("look for records that were written: %w", err)
	case found:
		return lost(key, "a version without a record")
	}
	return nil
}

func lost(key record.Key, what string) error {
	return hint.Errorf(hint.Hint{Do: hint.Doctor, Text: "which compares the key's types and names triggers; then begin the backfill again"},
		"key %q was written, and the target does not have it now (%s): its table changes keys or takes two as one, a trigger drops rows, or another writer deletes them", key, what)
}
