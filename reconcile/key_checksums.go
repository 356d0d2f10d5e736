package reconcile

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// prints are order-free sums over keys, by the keys' hashes: where the sums of
// both stores agree, they hold the same keys.
type prints struct {
	seed uint64
	sums []part
	key  []byte
}

type part struct {
	keys uint64
	sum  uint64
}

// parts is how many sums there are: a difference costs the look at as many keys as one of them is of.
const parts = 1 << 16

func newPrints(seed uint64) *prints { return &prints{seed: seed, sums: make([]part, parts)} }

func (p *prints) count(hash uint64) {
	of := &p.sums[hash%parts]
	of.keys++
	of.sum += hash
}

func (p *prints) hash(k record.Key) uint64 {
	p.key = append(binary.LittleEndian.AppendUint64(p.key[:0], p.seed), k...)
	return xxhash.Sum64(p.key)
}

// appendNames appends the hashes that prints counts: the same in every process that
// knows the seed.
func appendNames(names []uint64, seed uint64, s *record.Schema, b *record.Block) []uint64 {
	key := make([]byte, 0, 64)
	for i := range b.Rows() {
		key, _ = s.AppendKey(binary.LittleEndian.AppendUint64(key[:0], seed), b, i)
		names = append(names, xxhash.Sum64(key))
	}
	return names
}

// compareNames looks for what only the target has by the names of what it has:
// first by sums, then one by one where these differ. Where legacy's sums are not
// known, because the process that had them has died, it asks for each.
func (r *work) compareNames(ctx context.Context, names store.KeyScanner) error {
	theirs := newPrints(r.terms.Seed)
	err := names.ScanKeys(ctx, func(keys []record.Key, strays []store.Entry) error {
		for _, k := range keys {
			theirs.count(theirs.hash(k))
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
	if r.seen != nil && slices.Equal(theirs.sums, r.seen.sums) {
		return nil
	}
	var keys []record.Key
	err = names.ScanKeys(ctx, func(found []record.Key, _ []store.Entry) error {
		for _, k := range found {
			if at := theirs.hash(k) % parts; r.seen == nil || theirs.sums[at] != r.seen.sums[at] {
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
