package reconcile

import (
	"context"
	"fmt"
	"sync"

	"github.com/stranglerfig/migrator/record"
)

// matching is the fast way through legacy: rows in blocks, which the target
// compares where its own bytes lie. It can only say that a record is the same.
// What it does not say that of is compared in the slow way, which decides.
type matching struct {
	legacy record.BlockScanner
	target record.Matcher
	fields []int
	free   sync.Pool // of *record.Block
}

// newMatching is nil where a store has no such way.
func newMatching(rc *Reconciler) *matching {
	legacy, scans := rc.Legacy.(record.BlockScanner)
	target, matches := rc.Target.(record.Matcher)
	if !scans || !matches || !target.CanMatch() {
		return nil
	}
	return &matching{
		legacy: legacy, target: target, fields: rc.Compare.Matters(),
		free: sync.Pool{New: func() any { return new(record.Block) }},
	}
}

// reading is one chunk that is being read. Its channel has room for all blocks:
// neither legacy's snapshot nor its connection must be held while the target is
// waited for.
type reading struct {
	blocks chan *record.Block
	failed error // why it ended; valid once blocks is closed
}

// read reads the chunks, one ahead of the one that is compared: legacy works while
// the end of a chunk is waited for. drop ends it, and may be called at any time.
func (m *matching) read(ctx context.Context, chunks []record.Chunk, rows int) (_ <-chan *reading, drop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ahead := make(chan *reading, 1)
	next := func() *record.Block { return m.free.Get().(*record.Block) }
	go func() {
		defer close(ahead)
		for _, c := range chunks {
			in := &reading{blocks: make(chan *record.Block, 2*c.Rows/int64(rows)+16)}
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

// matchChunks compares chunks.
func (r *work) matchChunks(ctx context.Context, chunks []record.Chunk, t *Tally) error {
	ahead, drop := r.fast.read(ctx, chunks, r.Batch)
	defer drop()
	for in := range ahead {
		if err := r.matchBlocks(ctx, in, t); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// matchBlocks compares a chunk, and then in the slow way what did not match.
func (r *work) matchBlocks(ctx context.Context, in *reading, t *Tally) error {
	var unsure []record.Row
	same := make([]bool, 0, r.Batch)
	for b := range in.blocks {
		if err := r.throttle(ctx, b.Rows()); err != nil {
			return err
		}
		same = append(same[:0], make([]bool, b.Rows())...)
		high := r.highest()
		err := r.fast.target.Match(ctx, b, r.fast.fields, high, same)
		if err != nil {
			if ctx.Err() != nil {
				return err
			}
			clear(same) // the slow way tries again, and knows what to say
		}
		if r.terms.Names {
			t.Names = appendNames(t.Names, r.terms.Seed, r.Legacy.Schema(), b)
		}
		matched := int64(0)
		for i, ok := range same {
			if ok {
				matched++
				continue
			}
			row, err := rowOf(r.Legacy.Schema(), b, i)
			if err != nil {
				return err
			}
			unsure = append(unsure, row)
		}
		r.count(t, matched)
		r.fast.free.Put(b)
		if len(unsure) >= r.Batch || high.IsZero() && len(unsure) > 0 {
			if err := r.compareBatches(ctx, unsure, t); err != nil {
				return err
			}
			unsure = unsure[:0]
		}
		r.report()
	}
	if in.failed != nil {
		return fmt.Errorf("read legacy: %w", in.failed)
	}
	return r.compareBatches(ctx, unsure, t)
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

func rowOf(s *record.Schema, b *record.Block, i int) (record.Row, error) {
	row := record.Row{Found: true, Record: b.Record(i)}
	var err error
	row.Key, err = s.KeyOf(row.Record)
	return row, err
}
