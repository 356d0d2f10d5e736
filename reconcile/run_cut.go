package reconcile

import (
	"context"
	"fmt"

	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// chunksPerSlice is how many separate places of the table one sample is taken from, at least.
const chunksPerSlice = 12

// cut divides legacy into chunks, and returns how many slices they make. Of a
// sampled run the chunks are cut small enough for each slice to have several.
func (r *runner) cut(ctx context.Context, full bool, sample phases.Percent) ([]store.Chunk, int, error) {
	if full {
		if chunks, err := r.comparer.cutSpans(ctx); err != nil || chunks != nil {
			return chunks, 1, err
		}
	}
	legacy := r.comparer.stores.legacy
	chunks, err := legacy.Chunks(ctx, r.options.ChunkRows)
	if err != nil {
		return nil, 0, fmt.Errorf("cut legacy into chunks: %w", err)
	}
	if full {
		return chunks, 1, nil
	}
	if err := r.comparer.checkRecent(ctx, r.options.Recent); err != nil {
		return nil, 0, err
	}
	slices := Slices(sample)
	if want := slices * chunksPerSlice; len(chunks) < want {
		if chunks, err = legacy.Chunks(ctx, max(1, int(expected(chunks))/want)); err != nil {
			return nil, 0, fmt.Errorf("cut legacy into chunks: %w", err)
		}
	}
	return chunks, max(1, min(slices, len(chunks))), nil
}

// cutAgain cuts legacy for a run that has begun, into as many slices.
func (r *runner) cutAgain(ctx context.Context) ([]store.Chunk, error) {
	slices := phases.Percent(r.run.Slices)
	chunks, _, err := r.cut(ctx, r.run.Full, (phases.All+slices-1)/slices)
	return chunks, err
}

// Slices is how many sampled runs check everything once.
func Slices(sample phases.Percent) int {
	if sample <= 0 {
		return 1
	}
	return (int(phases.All) + int(sample) - 1) / int(sample)
}

// slice picks the chunks of one slice: one of every so many, so that each slice is
// taken from all over the table.
func slice[T any](chunks []T, which, of int) []T {
	if of <= 1 {
		return chunks
	}
	var picked []T
	for i := which; i < len(chunks); i += of {
		picked = append(picked, chunks[i])
	}
	return picked
}

// expected is the chunks' estimate of their rows.
func expected(chunks []store.Chunk) (rows int64) {
	for _, c := range chunks {
		rows += c.Rows
	}
	return rows
}
