package replicate

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/record"
)

type counts struct{ rows, applied, newer int64 }

func (c *counts) add(d counts) {
	c.rows, c.applied, c.newer = c.rows+d.rows, c.applied+d.applied, c.newer+d.newer
}

// copyChunks copies all chunks from Done on. ErrMoved: they must be cut anew.
func (r *run) copyChunks(ctx context.Context) error {
	r.done, r.live = map[int]bool{}, counts{}
	group, ctx := errgroup.WithContext(ctx)
	next := make(chan int)
	group.Go(func() error {
		defer close(next)
		for i := r.p.Done; i < len(r.p.Chunks); i++ {
			select {
			case next <- i:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	chunks := r.p.Chunks
	for range r.Workers {
		group.Go(func() error {
			for i := range next {
				n, err := r.copyChunk(ctx, chunks[i])
				if err != nil {
					return err
				}
				failpoint.Here("replicate.chunk.applied")
				if err := r.finish(ctx, i, n); err != nil {
					return err
				}
				failpoint.Here("replicate.chunk.saved")
			}
			return nil
		})
	}
	return group.Wait()
}

// finish notes that the target has chunk i, and saves how many leading ones it has.
func (r *run) finish(ctx context.Context, i int, n counts) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done[i] = true
	for r.done[r.p.Done] {
		delete(r.done, r.p.Done)
		r.p.Done++
	}
	r.p.Rows, r.p.Applied, r.p.Newer = r.p.Rows+n.rows, r.p.Applied+n.applied, r.p.Newer+n.newer
	r.live.add(counts{-n.rows, -n.applied, -n.newer})
	return r.save(ctx)
}

// copyChunk returns when the target has every row of the chunk, or a later state
// of it. The chunk is read whole before it is applied: its snapshot must not stay
// open while the target or the rate limit makes it wait.
func (r *run) copyChunk(ctx context.Context, c record.Chunk) (counts, error) {
	var n counts
	read, err := r.Target.Now(ctx)
	if err != nil {
		return n, fmt.Errorf("read the target's clock: %w", err)
	}
	if r.fast != nil {
		return r.fillChunk(ctx, c, read)
	}
	var writes []record.Write
	err = r.Legacy.Scan(ctx, c, func(row record.Row) error {
		writes = append(writes, r.write(row, read))
		return nil
	})
	if err != nil {
		return n, fmt.Errorf("read legacy: %w", err)
	}
	for from := 0; from < len(writes); from += r.Batch {
		batch := writes[from:min(from+r.Batch, len(writes))]
		if err := r.throttle(ctx, len(batch)); err != nil {
			return n, err
		}
		done, err := r.apply(ctx, batch)
		if err != nil {
			return n, err
		}
		n.add(done)
		r.applied(done)
	}
	return n, nil
}

func (r *run) throttle(ctx context.Context, rows int) error {
	if r.limiter == nil {
		return nil
	}
	return r.limiter.WaitN(ctx, rows)
}

// applied counts rows of a chunk that is not finished.
func (r *run) applied(done counts) {
	failpoint.Here("replicate.batch.applied")
	r.mu.Lock()
	r.live.add(done)
	r.mu.Unlock()
	r.report()
}

// write is the row's at the barrier's version: legacy is the authority for the
// records' whole key space, so what somebody else left there is replaced.
func (r *run) write(row record.Row, read time.Time) record.Write {
	return record.Write{
		Key: row.Key, Record: row.Record.Clone(), Version: r.p.Barrier,
		NotAfter: read.Add(r.NotAfter), Overwrite: true,
	}
}
