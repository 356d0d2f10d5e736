package reconcile

import (
	"context"
	"fmt"

	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// chunksPerSlice is how many separate places of the table one sample is taken from, at least.
const chunksPerSlice = 12

// cut divides legacy into chunks, and tells how many slices they make. Of a
// sampled run the chunks are cut small enough for each slice to have several.
func (r *work) cut(ctx context.Context, o RunOptions) ([]store.Chunk, int, error) {
	if o.Full {
		if chunks, err := r.cutSpans(ctx); err != nil || chunks != nil {
			return chunks, 1, err
		}
	}
	chunks, err := r.Legacy.Chunks(ctx, r.ChunkRows)
	if err != nil {
		return nil, 0, fmt.Errorf("cut legacy into chunks: %w", err)
	}
	if o.Full {
		return chunks, 1, nil
	}
	if err := r.canRecent(ctx); err != nil {
		return nil, 0, err
	}
	slices := Slices(o.Sample)
	if want := slices * chunksPerSlice; len(chunks) < want {
		if chunks, err = r.Legacy.Chunks(ctx, max(1, int(expected(chunks))/want)); err != nil {
			return nil, 0, fmt.Errorf("cut legacy into chunks: %w", err)
		}
	}
	return chunks, max(1, min(slices, len(chunks))), nil
}

// Slices is how many sampled runs check everything once.
func Slices(sample phases.Percent) int {
	if sample <= 0 {
		return 1
	}
	return (int(phases.All) + int(sample) - 1) / int(sample)
}

// slice picks the chunks of one slice: every so manyeth, so that each slice is
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
