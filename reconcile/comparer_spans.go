package reconcile

import (
	"context"
	"fmt"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// spanPath compares spans of legacy by checksums. A key that these do not show to be the
// same is left to the rowComparer.
type spanPath struct {
	rows      *rowComparer
	checksums *rangeChecksums
	chunkRows int
}

// cut cuts all of legacy into spans for a full run; nil: the stores allow no checksums.
func (p *spanPath) cut(ctx context.Context) ([]store.Chunk, error) {
	if ok, err := p.checksums.opened(ctx); !ok {
		return nil, err
	}
	chunks, ok, err := p.checksums.spans.Spans(ctx, p.chunkRows)
	if err != nil {
		return nil, fmt.Errorf("cut legacy into chunks: %w", err)
	}
	if !ok {
		return nil, nil
	}
	return chunks, nil
}

// compare compares a chunk that is a span.
func (p *spanPath) compare(ctx context.Context, chunk store.Chunk, terms Terms, t *Tally) error {
	for left := int(chunk.Rows); left > 0; left -= p.rows.batch {
		if err := p.rows.pace.wait(ctx, min(left, p.rows.batch)); err != nil {
			return err
		}
	}
	if err := p.needChecksums(ctx); err != nil {
		return err
	}
	differ, err := p.checksums.compare(ctx, chunk)
	if err != nil {
		return err
	}
	p.rows.compared(t, differ.rows-int64(len(differ.unsure)))
	keys := differ.unsure
	if terms.TwoWay {
		keys = append(keys, differ.extras...)
	}
	found, err := p.rows.compareKeys(ctx, keys, true, t)
	if err != nil {
		return err
	}
	p.rows.compared(t, found)
	return nil
}

// needChecksums opens the checksums that the run's chunks were cut for.
func (p *spanPath) needChecksums(ctx context.Context) error {
	ok, err := p.checksums.opened(ctx)
	if err == nil && !ok {
		err = hint.Errorf(hint.Hint{Do: hint.ReconcileFull}, "the tables have changed since the run began and can no longer be compared by checksums")
	}
	return err
}

// compareVersions reads the versions of all of the target's records: each must have
// one, and none may be newer than what legacy has given. Jobs that compare spans don't
// see versions, so this is done once, for all records.
func (p *spanPath) compareVersions(ctx context.Context, chunks []store.Chunk, twoWay bool, emit func(targetBatch) error) error {
	if err := p.needChecksums(ctx); err != nil {
		return err
	}
	records, err := p.checksums.versions.Versions(ctx,
		func(newest record.Key) (record.Version, error) {
			return p.rows.ahead.givenNow(ctx, append([]record.Key{newest}, p.ends(chunks)...))
		},
		func(keys []record.Key) error {
			t := &Tally{} // of records that their jobs have counted
			if _, err := p.rows.compareKeys(ctx, keys, twoWay, t); err != nil {
				return err
			}
			return emit(targetBatch{suspects: t.Suspects, ahead: t.Ahead})
		})
	if err != nil {
		return fmt.Errorf("read the target's versions: %w", err)
	}
	if !twoWay {
		return nil
	}
	return emit(targetBatch{scanned: records})
}

// ends are keys at the ends of chunks, some of which legacy has; up to 100 of them.
func (p *spanPath) ends(chunks []store.Chunk) []record.Key {
	var keys []record.Key
	for _, chunk := range chunks[:min(len(chunks), 100)] {
		if span, ok := p.checksums.spans.SpanOf(chunk); ok {
			keys = append(keys, integerKey(span.To))
		}
	}
	return keys
}
