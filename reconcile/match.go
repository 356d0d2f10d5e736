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

// read reads a chunk whole.
func (m *matching) read(ctx context.Context, c record.Chunk, rows int) (blocks []*record.Block, err error) {
	next := func() *record.Block { return m.free.Get().(*record.Block) }
	err = m.legacy.ScanBlocks(ctx, c, rows, next, func(b *record.Block) error {
		blocks = append(blocks, b)
		return nil
	})
	return blocks, err
}

// matchChunk compares a chunk, and then in the slow way what did not match.
func (r *work) matchChunk(ctx context.Context, c record.Chunk, t *Tally) error {
	blocks, err := r.fast.read(ctx, c, r.Batch)
	if err != nil {
		return fmt.Errorf("read legacy: %w", err)
	}
	var unsure []record.Row
	same := make([]bool, 0, r.Batch)
	for _, b := range blocks {
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
