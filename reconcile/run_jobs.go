package reconcile

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// chunksPerSlice is how many separate places of the table one sample is taken from, at least.
const chunksPerSlice = 12

// due is the run to begin: an interrupted one by its number, or a new one.
func (r *runner) due(ctx context.Context) (Run, error) {
	o := r.request
	if o.Resume != 0 {
		return Run{ID: o.Resume}, nil
	}
	chunks, slices, err := r.cut(ctx, o.Full, o.Sample)
	if err != nil {
		return Run{}, err
	}
	r.chunks = chunks
	return Run{
		Full: o.Full, TwoWay: o.TwoWay, Repair: o.Repair, Slices: slices, Forced: o.Force, Status: Running, Began: time.Now().UTC(),
		Expected: expected(chunks) / int64(slices),
	}, nil
}

// enqueue gives the run its jobs.
func (r *runner) enqueue(ctx context.Context) error {
	if r.chunks == nil {
		chunks, err := r.cutAgain(ctx)
		if err != nil {
			return err
		}
		r.chunks = chunks
	}
	t := r.terms
	t.Names, t.Seed = r.byKeys() != nil, rand.Uint64()
	t.Spans, t.TwoWay = r.comparer.spans.checksums.bySpans(r.chunks), r.run.TwoWay
	r.use(t)
	if err := r.cover(ctx, r.chunks); err != nil {
		return err
	}
	jobs := cutJobs(slice(r.chunks, r.run.Slice, r.run.Slices), t.Rate)
	if err := r.jobs.Enqueue(ctx, r.run.ID, t, jobs); err != nil {
		return fmt.Errorf("enqueue the run's jobs: %w", err)
	}
	failpoint.Here("reconcile.shared")
	return nil
}

// cut divides legacy into chunks, and returns how many slices they make. Of a
// sampled run the chunks are cut small enough for each slice to have several.
func (r *runner) cut(ctx context.Context, full bool, sample phases.Percent) ([]store.Chunk, int, error) {
	if full {
		if chunks, err := r.comparer.spans.cut(ctx); err != nil || chunks != nil {
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
