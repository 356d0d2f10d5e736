package reconcile

import (
	"context"
	"fmt"
	"sync"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// comparer compares legacy's records with the target's entries. What differs is a
// suspect: it has proved nothing yet. Several goroutines may compare jobs at once; the
// searches of the target are for one.
type comparer struct {
	stores *stores
	rules  *rules
	pace   *pace
	terms  Terms // set before the first job

	chunkRows, batch int

	bulk       *bulkPath // nil: the stores have none
	checksums  *rangeChecksums
	legacyKeys *keyChecksums // in a run that searches for extras by keys; nil: not known

	// progress is called after each batch, with the records that a job has compared.
	progress func(n int64)

	mu      sync.Mutex
	highest record.Version // legacy has given this version, or a newer one
}

func (rc *Reconciler) newComparer(o Options, jobs Jobs) (*comparer, error) {
	rules, err := newRules(rc)
	if err != nil {
		return nil, err
	}
	both := &stores{legacy: rc.Legacy, locker: rc.Locker, target: rc.Target}
	return &comparer{
		stores: both, rules: rules, pace: newPace(jobs, o), chunkRows: o.ChunkRows, batch: o.Batch,
		bulk: newBulkPath(both, rules), checksums: &rangeChecksums{stores: both, rules: rules},
		progress: func(int64) {},
	}, nil
}

// use sets the terms of the run.
func (c *comparer) use(t Terms) { c.terms, c.pace.rate = t, t.Rate }

// compareJob compares a job's chunks, one after the other.
func (c *comparer) compareJob(ctx context.Context, j Job, t *Tally) error {
	if c.bulk != nil && !c.terms.Spans {
		return c.compareBulk(ctx, j.Chunks, t)
	}
	compare := c.compareChunk
	if c.terms.Spans {
		compare = c.compareSpan
	}
	for _, chunk := range j.Chunks {
		if err := compare(ctx, chunk, t); err != nil {
			return err
		}
	}
	return nil
}

// compared adds n records to the tally. They are reported at once, and count in the
// run when the job is done.
func (c *comparer) compared(t *Tally, n int64) {
	t.Checked += n
	c.progress(n)
}

// compareChunk reads the chunk whole before it asks the target: neither legacy's
// snapshot nor its connection must be held while the target or the rate is waited for.
func (c *comparer) compareChunk(ctx context.Context, chunk store.Chunk, t *Tally) error {
	var rows []store.Row
	err := c.stores.legacy.Scan(ctx, chunk, func(row store.Row) error {
		row.Record = row.Record.Clone()
		rows = append(rows, row)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read legacy: %w", err)
	}
	for from := 0; from < len(rows); from += c.batch {
		batch := rows[from:min(from+c.batch, len(rows))]
		if err := c.pace.wait(ctx, len(batch)); err != nil {
			return err
		}
		if err := c.compareBatch(ctx, batch, t); err != nil {
			return err
		}
		c.compared(t, int64(len(batch)))
	}
	return nil
}

// compareRows compares rows whose reading the pace has allowed already.
func (c *comparer) compareRows(ctx context.Context, rows []store.Row, t *Tally) error {
	for from := 0; from < len(rows); from += c.batch {
		batch := rows[from:min(from+c.batch, len(rows))]
		if err := c.compareBatch(ctx, batch, t); err != nil {
			return err
		}
		c.compared(t, int64(len(batch)))
	}
	return nil
}

// compareKeys reads keys from both stores and compares them one by one. Those that
// legacy lacks are suspects if extras is set. found is how many legacy has.
func (c *comparer) compareKeys(ctx context.Context, keys []record.Key, extras bool, t *Tally) (found int64, err error) {
	for from := 0; from < len(keys); from += c.batch {
		batch := keys[from:min(from+c.batch, len(keys))]
		if err := c.pace.wait(ctx, len(batch)); err != nil {
			return found, err
		}
		rows, err := c.stores.rows(ctx, batch)
		if err != nil {
			return found, err
		}
		var there []store.Row
		for _, row := range rows {
			if row.Found {
				there = append(there, row)
			} else if extras {
				t.Suspects = append(t.Suspects, row.Key)
			}
		}
		if err := c.compareBatch(ctx, there, t); err != nil {
			return found, err
		}
		found += int64(len(there))
	}
	return found, nil
}

// compareBatch compares rows with their entries. It does not count them.
func (c *comparer) compareBatch(ctx context.Context, rows []store.Row, t *Tally) error {
	keys := make([]record.Key, len(rows))
	for i := range rows {
		keys[i] = rows[i].Key
	}
	now, entries, err := c.stores.entries(ctx, keys)
	if err != nil {
		return err
	}
	for i := range rows {
		if !c.rules.agree(rows[i], entries[i], now) {
			t.Suspects = append(t.Suspects, keys[i])
		}
	}
	return c.findAhead(ctx, rows, entries, t)
}
