package reconcile

import (
	"context"
	"fmt"

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

	rows       *rowComparer
	bulk       *bulkPath // nil: the stores have none
	spans      *spanPath
	legacyKeys *keyChecksums // in a run that searches for extras by keys; nil: not known
}

// newComparer compares with the rules and stores of the reconciler. progress is called
// after each batch, with the records that a job has compared.
func (rc *Reconciler) newComparer(o Options, jobs Jobs, progress func(n int64)) (*comparer, error) {
	rules, err := newRules(rc)
	if err != nil {
		return nil, err
	}
	both := &stores{legacy: rc.Legacy, locker: rc.Locker, target: rc.Target}
	rows := &rowComparer{
		stores: both, rules: rules, pace: &pace{jobs: jobs, batch: o.Batch}, ahead: &aheadFinder{stores: both}, batch: o.Batch, progress: progress,
	}
	return &comparer{
		stores: both, rules: rules, pace: rows.pace, rows: rows, bulk: newBulkPath(rows),
		spans: &spanPath{rows: rows, checksums: &rangeChecksums{stores: both, rules: rules}, chunkRows: o.ChunkRows},
	}, nil
}

// use sets the terms of the run. It must not be called while jobs are compared.
func (c *comparer) use(t Terms) {
	c.terms = t
	c.pace.use(t.Rate)
}

// compareJob compares a job's chunks, one after the other.
func (c *comparer) compareJob(ctx context.Context, j Job, t *Tally) error {
	if c.bulk != nil && !c.terms.Spans {
		return c.bulk.compare(ctx, j.Chunks, c.terms, t)
	}
	for _, chunk := range j.Chunks {
		var err error
		if c.terms.Spans {
			err = c.spans.compare(ctx, chunk, c.terms, t)
		} else {
			err = c.compareChunk(ctx, chunk, t)
		}
		if err != nil {
			return err
		}
	}
	return nil
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
	for from := 0; from < len(rows); from += c.rows.batch {
		batch := rows[from:min(from+c.rows.batch, len(rows))]
		if err := c.pace.wait(ctx, len(batch)); err != nil {
			return err
		}
		if err := c.rows.compareBatch(ctx, batch, t); err != nil {
			return err
		}
		c.rows.compared(t, int64(len(batch)))
	}
	return nil
}
