package sketch

import (
	"fmt"
	"iter"
	"time"
)

// All yields the sketch's durations, shortest first, each within RelativeError of the
// durations that it represents, and their number.
func (s *Sketch) All() iter.Seq2[time.Duration, uint64] {
	return func(yield func(time.Duration, uint64) bool) {
		for i, n := range s.counts {
			if n > 0 && !yield(value(i), n) {
				return
			}
		}
	}
}

// Buckets yields the numbers of the buckets that have counts, lowest first, with these.
func (s *Sketch) Buckets() iter.Seq2[int, uint64] {
	return func(yield func(int, uint64) bool) {
		for i, n := range s.counts {
			if n > 0 && !yield(i, n) {
				return
			}
		}
	}
}

// AddBucket counts n durations in a bucket by its number, as Buckets yields it.
func (s *Sketch) AddBucket(bucket int, n uint64) error {
	if bucket < 0 || bucket >= buckets {
		return fmt.Errorf("sketch: there is no bucket %d: want 0 to %d", bucket, buckets-1)
	}
	s.add(bucket, n)
	return nil
}
