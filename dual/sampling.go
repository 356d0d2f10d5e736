package dual

import "sync/atomic"

const (
	leastTimed = 1000 // of a window's operations, to twice as many; all, if there are fewer
	mostTimed  = 4 * leastTimed
	maxSkip    = 63
)

// sampling says which operations are timed: one in skip+1, a power of two. What is
// timed costs some readings of a clock more, so it is sparing where there are many,
// by the traffic of the window before.
type sampling struct {
	skip atomic.Uint64
	n    atomic.Uint64 // timed in this window
}

// adapt begins a window after one with so many operations.
func (s *sampling) adapt(operations uint64) {
	every := uint64(1)
	for every <= maxSkip && operations/(2*every) >= leastTimed {
		every *= 2
	}
	s.skip.Store(every - 1)
	s.n.Store(0)
}

// timed counts one that is timed. Should the traffic be far above the last
// window's, fewer are from here on.
func (s *sampling) timed() {
	if n := s.n.Add(1); n%mostTimed != 0 {
		return
	}
	if skip := s.skip.Load(); skip < maxSkip {
		s.skip.CompareAndSwap(skip, 2*skip+1)
	}
}
