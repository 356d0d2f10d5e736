package reconcile

import (
	"context"
	"fmt"
	"sync"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// bulkPath reads legacy in blocks, which the target compares against its own bytes. It
// can only show that a record is the same: every other row is left to the rowComparer.
type bulkPath struct {
	rows   *rowComparer
	legacy store.BlockScanner
	target store.BulkComparer
	fields []int
	free   sync.Pool // of *record.Block
}

// newBulkPath is nil if a store lacks what it needs.
func newBulkPath(rows *rowComparer) *bulkPath {
	legacy, scans := rows.stores.legacy.(store.BlockScanner)
	target, compares := rows.stores.target.(store.BulkComparer)
	if !scans || !compares || !target.CanBulkCompare() {
		return nil
	}
	return &bulkPath{
		rows: rows, legacy: legacy, target: target, fields: rows.rules.compare.Matters(),
		free: sync.Pool{New: func() any { return new(record.Block) }},
	}
}

// chunkBlocks is more blocks than a chunk has. Legacy knows a chunk's size roughly, and
// rows may have been added to the last one since, without limit.
const chunkBlocks = 1024

// chunkRead is one chunk that is being read. Its channel has room for all blocks:
// neither legacy's snapshot nor its connection must be held while the target is
// waited for.
type chunkRead struct {
	blocks chan *record.Block
	failed error // why it ended; valid once blocks is closed
}

// read reads the chunks, one ahead of the one that is compared: legacy works while
// the end of a chunk is waited for. stop ends it, and may be called at any time.
func (p *bulkPath) read(ctx context.Context, chunks []store.Chunk, rows int) (_ <-chan *chunkRead, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ahead := make(chan *chunkRead, 1)
	next := func() *record.Block { return p.free.Get().(*record.Block) }
	go func() {
		defer close(ahead)
		for _, chunk := range chunks {
			in := &chunkRead{blocks: make(chan *record.Block, max(chunkBlocks, 2*chunk.Rows/int64(rows)))}
			select {
			case ahead <- in:
			case <-ctx.Done():
				return
			}
			in.failed = p.legacy.ScanBlocks(ctx, chunk, rows, next, func(b *record.Block) error {
				select {
				case in.blocks <- b:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			})
			close(in.blocks)
			if in.failed != nil {
				return
			}
		}
	}()
	return ahead, func() {
		cancel()
		for in := range ahead {
			for b := range in.blocks {
				p.free.Put(b)
			}
		}
	}
}

// compare compares chunks in blocks, and row by row what is not the same. A block
// at which the target failed is compared row by row, too: if that fails, its error names
// the cause.
func (p *bulkPath) compare(ctx context.Context, chunks []store.Chunk, terms Terms, t *Tally) error {
	ahead, stop := p.read(ctx, chunks, p.rows.batch)
	defer stop()
	b := &bulkJob{bulkPath: p, terms: terms, ahead: ahead, tally: t}
	for !b.ended {
		err := p.target.BulkCompare(ctx, p.fields,
			func() (*record.Block, record.Version, error) { return b.next(ctx) },
			func(block *record.Block, same []bool) error { return b.done(ctx, block, same) })
		if err != nil && (b.failed != nil || ctx.Err() != nil || len(b.sent) == 0) {
			return err
		}
		for len(b.sent) > 0 {
			block := b.sent[0].block
			if err := b.done(ctx, block, make([]bool, block.Rows())); err != nil {
				return err
			}
		}
	}
	return p.rows.compare(ctx, b.unsure, t)
}

// bulkJob sends a job's blocks to the target, and takes the results.
type bulkJob struct {
	*bulkPath
	terms  Terms
	ahead  <-chan *chunkRead
	in     *chunkRead
	ended  bool // all blocks were sent
	sent   []sentBlock
	unsure []store.Row // not known to be the same
	tally  *Tally
	failed error // of legacy or the pace, not the target
}

// sentBlock is a block without a result yet.
type sentBlock struct {
	block *record.Block
	given record.Version
}

// next sends a block, with a version that legacy has given by then.
func (j *bulkJob) next(ctx context.Context) (*record.Block, record.Version, error) {
	for {
		if j.in == nil {
			in, more := <-j.ahead
			if !more {
				j.ended, j.failed = true, ctx.Err()
				return nil, record.Version{}, j.failed
			}
			j.in = in
		}
		b, more := <-j.in.blocks
		if more {
			if j.failed = j.rows.pace.wait(ctx, b.Rows()); j.failed != nil {
				return nil, record.Version{}, j.failed
			}
			given := j.rows.ahead.given()
			j.sent = append(j.sent, sentBlock{b, given})
			return b, given, nil
		}
		if j.in.failed != nil {
			j.failed = fmt.Errorf("read legacy: %w", j.in.failed)
			return nil, record.Version{}, j.failed
		}
		j.in = nil
	}
}

// done counts a block's rows that are the same, and puts the others aside. The first
// block was sent without a version: its rows are compared at once, to know one.
func (j *bulkJob) done(ctx context.Context, b *record.Block, same []bool) error {
	given := j.sent[0].given
	j.sent = j.sent[1:]
	schema := j.rows.stores.legacy.Schema()
	if j.terms.Names {
		j.tally.Names = appendKeyHashes(j.tally.Names, j.terms.Seed, schema, b)
	}
	agree := int64(0)
	for i, ok := range same {
		if ok {
			agree++
			continue
		}
		row, err := blockRow(schema, b, i)
		if err != nil {
			j.failed = err
			return err
		}
		j.unsure = append(j.unsure, row)
	}
	j.rows.compared(j.tally, agree)
	j.free.Put(b)
	if len(j.unsure) >= j.rows.batch || given.IsZero() && len(j.unsure) > 0 {
		if j.failed = j.rows.compare(ctx, j.unsure, j.tally); j.failed != nil {
			return j.failed
		}
		j.unsure = j.unsure[:0]
	}
	return nil
}

func blockRow(s *record.Schema, b *record.Block, i int) (store.Row, error) {
	row := store.Row{Found: true, Record: b.Record(i)}
	var err error
	row.Key, err = s.KeyOf(row.Record)
	return row, err
}
