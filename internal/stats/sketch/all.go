package sketch

import (
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
