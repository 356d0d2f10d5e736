package backfill

import (
	"context"
	"sync"
	"time"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// bulkCopier copies rows in blocks, of which the target takes the keys that are new to
// it. All other rows, and those of a failed block, become single writes.
type bulkCopier struct {
	legacy store.BlockScanner
	target store.BulkLoader
	free   sync.Pool // of *record.Block
}

// newBulkCopier returns nil if a store lacks the bulk interface.
func newBulkCopier(b *Backfill) *bulkCopier {
	legacy, scans := b.Legacy.(store.BlockScanner)
	target, fills := b.Target.(store.BulkLoader)
	if !scans || !fills || !target.CanBulkLoad() {
		return nil
	}
	return &bulkCopier{legacy: legacy, target: target, free: sync.Pool{New: func() any { return new(record.Block) }}}
}

// load reads a chunk.
func (f *bulkCopier) load(ctx context.Context, c store.Chunk, rows int) (blocks []*record.Block, err error) {
	next := func() *record.Block { return f.free.Get().(*record.Block) }
	err = f.legacy.ScanBlocks(ctx, c, rows, next, func(b *record.Block) error {
		blocks = append(blocks, b)
		return nil
	})
	return blocks, err
}

// bulkLoad returns when the target has every row of the block, or a later state of it.
func (r *run) bulkLoad(ctx context.Context, b *record.Block, read time.Time) (n counts, err error) {
	written := make([]bool, b.Rows())
	// [backfill-newer], [not-after]: BulkLoad writes only keys of which the target has neither a
	// record nor a version.
	if r.bulk.target.BulkLoad(ctx, store.BulkWrite{Block: b, Version: r.p.Barrier, NotAfter: read.Add(r.NotAfter)}, written) != nil {
		clear(written) // single writes retry, and their errors name the cause
	}
	var writes []store.Write
	for i, done := range written {
		if done {
			n.rows, n.applied = n.rows+1, n.applied+1
			continue
		}
		found := b.Record(i)
		key, err := r.Legacy.Schema().KeyOf(found)
		if err != nil {
			return n, err
		}
		writes = append(writes, r.writeOf(store.Row{Key: key, Found: true, Record: found}, read))
	}
	if len(writes) == 0 {
		return n, nil
	}
	done, err := r.apply(ctx, writes)
	n.add(done)
	return n, err
}
