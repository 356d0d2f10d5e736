package sketch

import (
	"iter"
	"time"
)

// All yields what the sketch holds, the shortest first: a duration, which is within
// RelativeError of those that it stands for, and their number.
func (s *Sketch) All() iter.Seq2[time.Duration, uint64] {
	return func(yield func(time.Duration, uint64) bool) {
		for i, n := range s.counts {
			if n > 0 && !yield(value(i), n) {
				return
			}
		}
	}
}
