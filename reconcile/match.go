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

// read reads a chunk while its first blocks are compared. It has room for all of
// them: neither legacy's snapshot nor its connection must be held while the target
// is waited for. wait drops what is left of them and tells why the reading ended.
func (m *matching) read(ctx context.Context, c record.Chunk, rows int) (_ <-chan *record.Block, wait func() error) {
	blocks := make(chan *record.Block, 2*c.Rows/int64(rows)+16)
	next := func() *record.Block { return m.free.Get().(*record.Block) }
	var failed error
	go func() {
		defer close(blocks)
		failed = m.legacy.ScanBlocks(ctx, c, rows, next, func(b *record.Block) error {
			select {
			case blocks <- b:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	return blocks, func() error {
		for b := range blocks {
			m.free.Put(b)
		}
		return failed
	}
}

// matchChunk compares a chunk, and then in the slow way what did not match.
func (r *work) matchChunk(ctx context.Context, c record.Chunk, t *Tally) error {
	ctx, cancel := context.WithCancel(ctx)
	blocks, read := r.fast.read(ctx, c, r.Batch)
	defer func() { _ = read() }()
	defer cancel()
	var unsure []record.Row
	same := make([]bool, 0, r.Batch)
	for b := range blocks {
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
	if err := read(); err != nil {
		return fmt.Errorf("read legacy: %w", err)
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
