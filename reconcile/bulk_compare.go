package reconcile

import (
	"context"
	"fmt"
	"sync"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// matching is the fast way through legacy: rows in blocks, which the target
// compares where its own bytes lie. It can only say that a record is the same.
// What it does not say that of is compared in the slow way, which decides.
type matching struct {
	legacy store.BlockScanner
	target store.BulkComparer
	fields []int
	free   sync.Pool // of *record.Block
}

// newMatching is nil where a store has no such way.
func newMatching(rc *Reconciler) *matching {
	legacy, scans := rc.Legacy.(store.BlockScanner)
	target, matches := rc.Target.(store.BulkComparer)
	if !scans || !matches || !target.CanBulkCompare() {
		return nil
	}
	return &matching{
		legacy: legacy, target: target, fields: rc.Compare.Matters(),
		free: sync.Pool{New: func() any { return new(record.Block) }},
	}
}

// chunkBlocks is more blocks than a chunk has, of which legacy knows the size roughly:
// rows may have been added to the last one since, without an end.
const chunkBlocks = 1024

// reading is one chunk that is being read. Its channel has room for all blocks:
// neither legacy's snapshot nor its connection must be held while the target is
// waited for.
type reading struct {
	blocks chan *record.Block
	failed error // why it ended; valid once blocks is closed
}

// read reads the chunks, one ahead of the one that is compared: legacy works while
// the end of a chunk is waited for. drop ends it, and may be called at any time.
func (m *matching) read(ctx context.Context, chunks []store.Chunk, rows int) (_ <-chan *reading, drop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ahead := make(chan *reading, 1)
	next := func() *record.Block { return m.free.Get().(*record.Block) }
	go func() {
		defer close(ahead)
		for _, c := range chunks {
			in := &reading{blocks: make(chan *record.Block, max(chunkBlocks, 2*c.Rows/int64(rows)))}
			select {
			case ahead <- in:
			case <-ctx.Done():
				return
			}
			in.failed = m.legacy.ScanBlocks(ctx, c, rows, next, func(b *record.Block) error {
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
				m.free.Put(b)
			}
		}
	}
}

// matchChunks compares chunks, and in the slow way what did not match.
func (r *work) matchChunks(ctx context.Context, chunks []store.Chunk, t *Tally) error {
	ahead, drop := r.fast.read(ctx, chunks, r.Batch)
	defer drop()
	m := &matched{work: r, ahead: ahead, tally: t}
	for !m.ended {
		err := r.fast.target.BulkCompare(ctx, r.fast.fields,
			func() (*record.Block, record.Version, error) { return m.next(ctx) },
			func(b *record.Block, same []bool) error { return m.done(ctx, b, same) })
		if err != nil && (m.failed != nil || ctx.Err() != nil || len(m.given) == 0) {
			return err
		}
		for len(m.given) > 0 { // the slow way tries again, and knows what to say
			b := m.given[0].block
			if err := m.done(ctx, b, make([]bool, b.Rows())); err != nil {
				return err
			}
		}
	}
	return r.compareBatches(ctx, m.unsure, t)
}

// matched is a job's comparison: it gives blocks to the target, and hears of them.
type matched struct {
	*work
	ahead  <-chan *reading
	in     *reading
	ended  bool // all blocks were given
	given  []given
	unsure []store.Row
	tally  *Tally
	failed error // ours, not the target's
}

// given is a block that the target was not heard of yet.
type given struct {
	block *record.Block
	high  record.Version
}

// next gives a block and a version that legacy has given, or has given a newer one than.
func (m *matched) next(ctx context.Context) (*record.Block, record.Version, error) {
	for {
		if m.in == nil {
			in, more := <-m.ahead
			if !more {
				m.ended, m.failed = true, ctx.Err()
				return nil, record.Version{}, m.failed
			}
			m.in = in
		}
		b, more := <-m.in.blocks
		if more {
			if m.failed = m.throttle(ctx, b.Rows()); m.failed != nil {
				return nil, record.Version{}, m.failed
			}
			high := m.highest()
			m.given = append(m.given, given{b, high})
			return b, high, nil
		}
		if m.in.failed != nil {
			m.failed = fmt.Errorf("read legacy: %w", m.in.failed)
			return nil, record.Version{}, m.failed
		}
		m.in = nil
	}
}

// done counts a block's rows that are the same, and puts the others aside.
func (m *matched) done(ctx context.Context, b *record.Block, same []bool) error {
	high := m.given[0].high
	m.given = m.given[1:]
	if m.terms.Names {
		m.tally.Names = appendNames(m.tally.Names, m.terms.Seed, m.Legacy.Schema(), b)
	}
	agree := int64(0)
	for i, ok := range same {
		if ok {
			agree++
			continue
		}
		row, err := rowOf(m.Legacy.Schema(), b, i)
		if err != nil {
			m.failed = err
			return err
		}
		m.unsure = append(m.unsure, row)
	}
	m.count(m.tally, agree)
	m.fast.free.Put(b)
	if len(m.unsure) >= m.Batch || high.IsZero() && len(m.unsure) > 0 {
		if m.failed = m.compareBatches(ctx, m.unsure, m.tally); m.failed != nil {
			return m.failed
		}
		m.unsure = m.unsure[:0]
	}
	m.report()
	return nil
}

// highest is a version that legacy has given, or has given a newer one than.
func (r *work) highest() record.Version {
	if r.Locker == nil { // then nobody can tell what is ahead
		return record.MaxVersion
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.high
}

func rowOf(s *record.Schema, b *record.Block, i int) (store.Row, error) {
	row := store.Row{Found: true, Record: b.Record(i)}
	var err error
	row.Key, err = s.KeyOf(row.Record)
	return row, err
}
