package reconcile

import (
	"context"
	"fmt"
	"hash/maphash"
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
func (r *work) matchChunk(ctx context.Context, c record.Chunk) error {
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
		r.seen.add(r.Legacy.Schema(), b)
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
		r.mu.Lock()
		r.run.Checked += matched
		r.mu.Unlock()
		r.fast.free.Put(b)
		if len(unsure) >= r.Batch || high.IsZero() && len(unsure) > 0 {
			if err := r.compareBatches(ctx, unsure); err != nil {
				return err
			}
			unsure = unsure[:0]
		}
		r.report()
	}
	return r.compareBatches(ctx, unsure)
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

// prints are order-free sums over keys, by the keys' hashes: where the sums of
// both stores agree, they hold the same keys.
type prints struct {
	mu   sync.Mutex
	seed maphash.Seed
	sums []part
	key  []byte
}

type part struct {
	keys uint64
	sum  uint64
}

// parts is how many sums there are: a difference costs the look at as many keys as one of them is of.
const parts = 1 << 16

func newPrints(seed maphash.Seed) *prints { return &prints{seed: seed, sums: make([]part, parts)} }

func (p *prints) add(s *record.Schema, b *record.Block) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range b.Rows() {
		p.key, _ = s.AppendKey(p.key[:0], b, i)
		p.count(maphash.Bytes(p.seed, p.key))
	}
}

func (p *prints) count(hash uint64) {
	of := &p.sums[hash%parts]
	of.keys++
	of.sum += hash
}

// compareNames looks for what only the target has by the names of what it has:
// first by sums, then one by one where these differ.
func (r *work) compareNames(ctx context.Context, names record.NameScanner) error {
	theirs := newPrints(r.seed)
	err := names.ScanNames(ctx, func(keys []record.Key, strays []record.Entry) error {
		for _, k := range keys {
			theirs.count(maphash.String(r.seed, string(k)))
		}
		for i := range strays {
			r.stray(&strays[i])
		}
		r.mu.Lock()
		r.run.Scanned += int64(len(keys) + len(strays))
		r.mu.Unlock()
		r.report()
		return r.throttle(ctx, min(len(keys), r.Batch))
	})
	if err != nil {
		return fmt.Errorf("list the whole target: %w", err)
	}
	differ := false
	for i := range theirs.sums {
		differ = differ || theirs.sums[i] != r.seen.sums[i]
	}
	if !differ {
		return nil
	}
	var keys []record.Key
	err = names.ScanNames(ctx, func(found []record.Key, _ []record.Entry) error {
		for _, k := range found {
			at := maphash.String(r.seed, string(k)) % parts
			if theirs.sums[at] != r.seen.sums[at] {
				keys = append(keys, k)
			}
		}
		for len(keys) >= r.Batch {
			if err := r.lookForExtras(ctx, keys[:r.Batch]); err != nil {
				return err
			}
			keys = keys[:copy(keys, keys[r.Batch:])]
		}
		return nil
	})
	if err == nil {
		err = r.lookForExtras(ctx, keys)
	}
	if err != nil {
		return fmt.Errorf("list the whole target: %w", err)
	}
	return nil
}

func (r *work) lookForExtras(ctx context.Context, keys []record.Key) error {
	if err := r.throttle(ctx, len(keys)); err != nil {
		return err
	}
	rows, err := r.lookup(ctx, keys)
	if err != nil {
		return err
	}
	var extras []record.Key
	for i := range rows {
		if !rows[i].Found {
			extras = append(extras, keys[i])
		}
	}
	r.mu.Lock()
	r.suspect(extras)
	full := len(r.suspects) >= r.Quarantine
	r.mu.Unlock()
	if full {
		return r.settle(ctx)
	}
	return nil
}
