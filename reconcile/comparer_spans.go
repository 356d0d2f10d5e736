package reconcile

import (
	"context"
	"errors"
	"fmt"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// cutSpans cuts all of legacy into spans for a full run; nil: the stores allow no checksums.
func (c *comparer) cutSpans(ctx context.Context) ([]store.Chunk, error) {
	if ok, err := c.checksums.opened(ctx); !ok {
		return nil, err
	}
	chunks, ok, err := c.checksums.spans.Spans(ctx, c.chunkRows)
	if err != nil {
		return nil, fmt.Errorf("cut legacy into chunks: %w", err)
	}
	if !ok {
		return nil, nil
	}
	return chunks, nil
}

// compareSpan compares a span by checksums, and then key by key what these do not show
// to be the same.
func (c *comparer) compareSpan(ctx context.Context, chunk store.Chunk, t *Tally) error {
	for left := int(chunk.Rows); left > 0; left -= c.batch {
		if err := c.pace.wait(ctx, min(left, c.batch)); err != nil {
			return err
		}
	}
	if err := c.needChecksums(ctx); err != nil {
		return err
	}
	differ, err := c.checksums.compare(ctx, chunk)
	if err != nil {
		return err
	}
	c.compared(t, differ.rows-int64(len(differ.unsure)))
	keys := differ.unsure
	if c.terms.TwoWay {
		keys = append(keys, differ.extras...)
	}
	found, err := c.compareKeys(ctx, keys, true, t)
	if err != nil {
		return err
	}
	c.compared(t, found)
	return nil
}

// needChecksums opens the checksums that the run's chunks were cut for.
func (c *comparer) needChecksums(ctx context.Context) error {
	ok, err := c.checksums.opened(ctx)
	if err == nil && !ok {
		err = errors.New("the tables have changed since the run began, and can't be compared by sums any more; try: migrator reconcile run --full")
	}
	return err
}

// compareVersions reads the versions of all of the target's records: each must have
// one, and none may be newer than what legacy has given. Jobs that compare spans don't
// see versions, so this is done once, for all records.
func (c *comparer) compareVersions(ctx context.Context, chunks []store.Chunk, emit func(targetBatch) error) error {
	if err := c.needChecksums(ctx); err != nil {
		return err
	}
	records, err := c.checksums.versions.Versions(ctx,
		func(newest record.Key) (record.Version, error) { return c.givenNow(ctx, newest, chunks) },
		func(keys []record.Key) error {
			t := &Tally{} // of records that their jobs have counted
			if _, err := c.compareKeys(ctx, keys, c.terms.TwoWay, t); err != nil {
				return err
			}
			return emit(targetBatch{suspects: t.Suspects, ahead: t.Ahead})
		})
	if err != nil {
		return fmt.Errorf("look at the target's versions: %w", err)
	}
	if !c.terms.TwoWay {
		return nil
	}
	return emit(targetBatch{scanned: records})
}
