package reconcile

import (
	"context"
	"fmt"
	"hash/maphash"

	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/record"
)

// compareChunks compares every record of the run's slice with the target's copy,
// and settles suspects whenever there are enough of them.
func (r *work) compareChunks(ctx context.Context, chunks []record.Chunk) error {
	if err := r.cover(ctx, chunks); err != nil {
		return err
	}
	chunks = slice(chunks, r.run.Slice, r.run.Slices)
	for len(chunks) > 0 {
		n, err := r.compareSome(ctx, chunks)
		if err != nil {
			return err
		}
		chunks = chunks[n:]
		if len(r.suspects) >= r.Quarantine {
			if err := r.settle(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// compareSome works off leading chunks until the quarantine is full, and returns how many.
func (r *work) compareSome(ctx context.Context, chunks []record.Chunk) (int, error) {
	group, ctx := errgroup.WithContext(ctx)
	next := 0
	take := func() (record.Chunk, bool) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if next == len(chunks) || len(r.suspects) >= r.Quarantine {
			return record.Chunk{}, false
		}
		next++
		return chunks[next-1], true
	}
	for range r.Workers {
		group.Go(func() error {
			for {
				c, ok := take()
				if !ok {
					return nil
				}
				compare := r.compareChunk
				if r.fast != nil {
					compare = r.matchChunk
				}
				if err := compare(ctx, c); err != nil {
					return err
				}
			}
		})
	}
	err := group.Wait()
	return next, err
}

// compareChunk reads the chunk whole before it asks the target: neither its
// snapshot nor its connection must be held while others are waited for.
func (r *work) compareChunk(ctx context.Context, c record.Chunk) error {
	var rows []record.Row
	err := r.Legacy.Scan(ctx, c, func(row record.Row) error {
		row.Record = row.Record.Clone()
		rows = append(rows, row)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read legacy: %w", err)
	}
	for from := 0; from < len(rows); from += r.Batch {
		if err := r.throttle(ctx, min(r.Batch, len(rows)-from)); err != nil {
			return err
		}
		if err := r.compareBatch(ctx, rows[from:min(from+r.Batch, len(rows))]); err != nil {
			return err
		}
	}
	return nil
}

// compareBatches compares rows whose reading the limiter has passed.
func (r *work) compareBatches(ctx context.Context, rows []record.Row) error {
	for from := 0; from < len(rows); from += r.Batch {
		if err := r.compareBatch(ctx, rows[from:min(from+r.Batch, len(rows))]); err != nil {
			return err
		}
	}
	return nil
}

func (r *work) compareBatch(ctx context.Context, rows []record.Row) error {
	keys := make([]record.Key, len(rows))
	for i := range rows {
		keys[i] = rows[i].Key
	}
	now, err := r.Target.Now(ctx)
	if err != nil {
		return fmt.Errorf("read the target's clock: %w", err)
	}
	entries, err := r.Target.Get(ctx, keys)
	if err != nil {
		return fmt.Errorf("read the target: %w", err)
	}
	var suspects []record.Key
	for i := range rows {
		if !r.same(rows[i], entries[i], now) {
			suspects = append(suspects, keys[i])
		}
	}
	r.mu.Lock()
	r.run.Checked += int64(len(rows))
	r.suspect(suspects)
	r.mu.Unlock()
	if err := r.findAhead(ctx, rows, entries); err != nil {
		return err
	}
	r.report()
	return nil
}

// suspect wants the mutex.
func (r *work) suspect(keys []record.Key) {
	for _, k := range keys {
		if _, known := r.suspects[k]; known {
			continue
		}
		if _, known := r.confirmed[r.hash(string(k))]; known {
			continue
		}
		r.suspects[k] = struct{}{}
		r.run.Suspects++
	}
}

func (r *work) hash(s string) uint64 { return maphash.String(r.seed, s) }

// compareTarget looks for what only the target has.
func (r *work) compareTarget(ctx context.Context) error {
	err := r.Target.Scan(ctx, func(entries []record.Entry) error {
		for len(entries) > 0 {
			n := min(len(entries), r.Batch)
			if err := r.compareEntries(ctx, entries[:n]); err != nil {
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

func (r *work) compareEntries(ctx context.Context, entries []record.Entry) error {
	if err := r.throttle(ctx, len(entries)); err != nil {
		return err
	}
	var keys []record.Key
	for i := range entries {
		switch e := &entries[i]; {
		case e.Key == "" && e.RawKey != "":
			r.stray(e)
		case e.Presence == record.Absent || e.Presence == record.Tombstone:
		default:
			keys = append(keys, e.Key)
		}
	}
	rows, err := r.lookup(ctx, keys)
	if err != nil {
		return err
	}
	var suspects []record.Key
	for i := range rows {
		if !rows[i].Found {
			suspects = append(suspects, keys[i])
		}
	}
	r.mu.Lock()
	r.run.Scanned += int64(len(entries))
	r.suspect(suspects)
	full := len(r.suspects) >= r.Quarantine
	r.mu.Unlock()
	r.report()
	if full {
		return r.settle(ctx)
	}
	return nil
}

func (r *work) lookup(ctx context.Context, keys []record.Key) ([]record.Row, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	rows, err := r.Legacy.Lookup(ctx, keys)
	if err != nil {
		return nil, fmt.Errorf("read legacy: %w", err)
	}
	return rows, nil
}

func (r *work) throttle(ctx context.Context, n int) error {
	if r.limiter == nil {
		return ctx.Err()
	}
	return r.limiter.WaitN(ctx, n)
}
