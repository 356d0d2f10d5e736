package reconcile

import (
	"context"
	"fmt"
	"hash/maphash"

	"golang.org/x/time/rate"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// compareJob compares a job's chunks, one after the other.
func (r *work) compareJob(ctx context.Context, j Job) (*Tally, error) {
	t := &Tally{}
	defer func() { r.live.Add(-t.Checked) }()
	if r.fast != nil && !r.terms.Spans {
		if err := r.matchChunks(ctx, j.Chunks, t); err != nil {
			return nil, err
		}
		return t, nil
	}
	for _, c := range j.Chunks {
		compare := r.compareChunk
		if r.terms.Spans {
			compare = r.compareSpan
		}
		if err := compare(ctx, c, t); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// count adds to what is checked; it is shown at once, and counts when the job is done.
func (r *work) count(t *Tally, n int64) {
	t.Checked += n
	r.live.Add(n)
}

// collect adds the tally of a finished job, and settles suspects when there are enough of them.
func (r *work) collect(ctx context.Context, j Job, t *Tally) error {
	r.mu.Lock()
	r.run.Checked += t.Checked
	r.suspect(t.Suspects)
	for _, k := range t.Ahead {
		r.ahead[k] = struct{}{}
	}
	full := len(r.suspects) >= r.Quarantine
	r.mu.Unlock()
	r.collected = append(r.collected, j.Number)
	if r.seen != nil {
		for _, h := range t.Names {
			r.seen.count(h)
		}
	}
	r.report()
	if full {
		return r.settle(ctx)
	}
	return nil
}

// compareChunk reads the chunk whole before it asks the target: neither its
// snapshot nor its connection must be held while others are waited for.
func (r *work) compareChunk(ctx context.Context, c store.Chunk, t *Tally) error {
	var rows []store.Row
	err := r.Legacy.Scan(ctx, c, func(row store.Row) error {
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
		if err := r.compareBatch(ctx, rows[from:min(from+r.Batch, len(rows))], t); err != nil {
			return err
		}
	}
	return nil
}

// compareBatches compares rows whose reading the limiter has passed.
func (r *work) compareBatches(ctx context.Context, rows []store.Row, t *Tally) error {
	for from := 0; from < len(rows); from += r.Batch {
		if err := r.compareBatch(ctx, rows[from:min(from+r.Batch, len(rows))], t); err != nil {
			return err
		}
	}
	return nil
}

func (r *work) compareBatch(ctx context.Context, rows []store.Row, t *Tally) error {
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
	for i := range rows {
		if !r.same(rows[i], entries[i], now) {
			t.Suspects = append(t.Suspects, keys[i])
		}
	}
	r.count(t, int64(len(rows)))
	if err := r.findAhead(ctx, rows, entries, t); err != nil {
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
	err := r.Target.Scan(ctx, func(entries []store.Entry) error {
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

func (r *work) compareEntries(ctx context.Context, entries []store.Entry) error {
	if err := r.throttle(ctx, len(entries)); err != nil {
		return err
	}
	var keys []record.Key
	for i := range entries {
		switch e := &entries[i]; {
		case e.Key == "" && e.RawKey != "":
			r.stray(e)
		case e.Presence == store.Absent || e.Presence == store.Tombstone:
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

func (r *work) lookup(ctx context.Context, keys []record.Key) ([]store.Row, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	rows, err := r.Legacy.Lookup(ctx, keys)
	if err != nil {
		return nil, fmt.Errorf("read legacy: %w", err)
	}
	return rows, nil
}

// throttle waits for the turn of n records: while the run is paused, and as its rate has it.
func (r *work) throttle(ctx context.Context, n int) error {
	sharers, err := r.jobs.WaitWhilePaused(ctx, r.run.ID)
	if err != nil {
		return err
	}
	if r.limiter == nil {
		return ctx.Err()
	}
	if limit := rate.Limit(r.terms.Rate) / rate.Limit(max(1, sharers)); limit != r.limiter.Limit() {
		r.limiter.SetLimit(limit)
	}
	return r.limiter.WaitN(ctx, n)
}
