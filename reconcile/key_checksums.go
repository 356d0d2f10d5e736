package reconcile

import (
	"encoding/binary"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/stranglerfig/migrator/record"
)

// keyChecksums are sums over keys, in any order, by the keys' hashes: where the sums of
// both stores are the same, they hold the same keys.
type keyChecksums struct {
	seed uint64
	sums []keySum
	buf  []byte
}

type keySum struct {
	keys uint64
	sum  uint64
}

// keyParts is how many sums there are: each difference costs the lookup of as many keys
// as one of them is of.
const keyParts = 1 << 16

func newKeyChecksums(seed uint64) *keyChecksums {
	return &keyChecksums{seed: seed, sums: make([]keySum, keyParts)}
}

func (s *keyChecksums) add(hash uint64) {
	part := &s.sums[hash%keyParts]
	part.keys++
	part.sum += hash
}

func (s *keyChecksums) hash(k record.Key) uint64 {
	s.buf = append(binary.LittleEndian.AppendUint64(s.buf[:0], s.seed), k...)
	return xxhash.Sum64(s.buf)
}

// same reports whether both were added the same keys. A nil one is the same as no other.
func (s *keyChecksums) same(other *keyChecksums) bool {
	return other != nil && slices.Equal(s.sums, other.sums)
}

// differs reports whether the part of a key's hash is not the same in both.
func (s *keyChecksums) differs(hash uint64, other *keyChecksums) bool {
	return other == nil || s.sums[hash%keyParts] != other.sums[hash%keyParts]
}

// appendKeyHashes appends the hashes of a block's keys: the same in every process that
// knows the seed.
func appendKeyHashes(hashes []uint64, seed uint64, s *record.Schema, b *record.Block) []uint64 {
	key := make([]byte, 0, 64)
	for i := range b.Rows() {
		key, _ = s.AppendKey(binary.LittleEndian.AppendUint64(key[:0], seed), b, i)
		hashes = append(hashes, xxhash.Sum64(key))
	}
	return hashes
}
