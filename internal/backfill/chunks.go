package backfill

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

type counts struct{ rows, applied, newer int64 }

func (c *counts) add(d counts) {
	c.rows, c.applied, c.newer = c.rows+d.rows, c.applied+d.applied, c.newer+d.newer
}

// loaded is a chunk that has been read.
type loaded struct {
	index  int
	began  time.Time // by this process's clock
	read   time.Time // later, but still before it was read, by the target's clock
	blocks []*record.Block
	writes []store.Write // in place of blocks
}

// copyChunks copies all chunks from Done on. ErrMoved: legacy must be cut into chunks again.
//
// While Workers chunks are being written, as many more are read or queued: a reader
// keeps its chunk until a writer takes it. So 2 * Workers chunks are in memory.
func (r *run) copyChunks(ctx context.Context) error {
	r.done, r.live = map[int]bool{}, counts{}
	group, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	next.Store(int64(r.p.Done))
	ready := make(chan loaded)
	var readers sync.WaitGroup
	for range r.Workers {
		readers.Add(1)
		group.Go(func() error {
			defer readers.Done()
			for i := int(next.Add(1)) - 1; i < len(r.p.Chunks); i = int(next.Add(1)) - 1 {
				l, err := r.load(ctx, i)
				if err != nil {
					return err
				}
				select {
				case ready <- l:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		})
		group.Go(func() error {
			for l := range ready {
				if err := r.Throttle.Hold(ctx); err != nil {
					return err
				}
				// After a hold, a slow chunk, or an outage, all of its rows would come too late.
				if time.Since(l.began) > r.NotAfter/2 {
					var err error
					if l, err = r.load(ctx, l.index); err != nil {
						return err
					}
				}
				n, err := r.write(ctx, l)
				if err != nil {
					return err
				}
				failpoint.Here("replicate.chunk.applied")
				if err := r.finish(ctx, l.index, n); err != nil {
					return err
				}
				failpoint.Here("replicate.chunk.saved")
			}
			return nil
		})
	}
	group.Go(func() error {
		readers.Wait()
		close(ready)
		return nil
	})
	return group.Wait()
}

// finish records that the target has chunk i, and saves how many leading ones it has.
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

// load reads a chunk whole: its snapshot must not stay open while the target or the
// rate limit makes it wait.
func (r *run) load(ctx context.Context, index int) (l loaded, err error) {
	if err := r.Throttle.Hold(ctx); err != nil {
		return l, err
	}
	l.index, l.began = index, time.Now()
	// [not-after]: before the chunk is read.
	if l.read, err = r.Target.Now(ctx); err != nil {
		return l, fmt.Errorf("read the target's clock: %w", err)
	}
	if r.bulk != nil {
		l.blocks, err = r.bulk.load(ctx, r.p.Chunks[index], r.Batch)
	} else {
		err = r.Legacy.Scan(ctx, r.p.Chunks[index], func(row store.Row) error {
			l.writes = append(l.writes, r.writeOf(row, l.read))
			return nil
		})
	}
	if err != nil {
		return l, fmt.Errorf("read legacy: %w", err)
	}
	return l, nil
}

// write returns when the target has every row of the chunk, or a later state of it.
func (r *run) write(ctx context.Context, l loaded) (n counts, err error) {
	note := func(done counts, err error) error {
		if err == nil {
			n.add(done)
			r.applied(done)
		}
		return err
	}
	var sample []record.Key
	for _, b := range l.blocks {
		if err := r.Throttle.Wait(ctx, b.Rows()); err != nil {
			return n, err
		}
		if err := note(r.bulkLoad(ctx, b, l.read)); err != nil {
			return n, err
		}
		sample = r.sampleBlock(sample, b)
		r.bulk.free.Put(b)
	}
	for batch := range slices.Chunk(l.writes, r.Batch) {
		if err := r.Throttle.Wait(ctx, len(batch)); err != nil {
			return n, err
		}
		if err := note(r.apply(ctx, batch)); err != nil {
			return n, err
		}
		for i := 0; i < len(batch); i += max(1, len(batch)/sampledRows) {
			sample = append(sample, batch[i].Key)
		}
	}
	return n, r.readBack(ctx, l.index, sample)
}

// applied counts rows of a chunk that is not finished.
func (r *run) applied(done counts) {
	failpoint.Here("replicate.batch.applied")
	r.mu.Lock()
	r.live.add(done)
	r.mu.Unlock()
	r.report()
}

// writeOf is the row's write, at the barrier's version. Legacy is the authority for the
// records' whole key space: a value that migrator did not write is replaced.
func (r *run) writeOf(row store.Row, read time.Time) store.Write {
	return store.Write{
		// [backfill-newer]: at the barrier's version and without a condition, so the target takes
		// it only if that is newer. [not-after]: counted from the read. [owned-only]: an entry
		// without a version is replaced.
		Key: row.Key, Record: row.Record.Clone(), Version: r.p.Barrier,
		NotAfter: read.Add(r.NotAfter), Overwrite: true,
	}
}
