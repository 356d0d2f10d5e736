package dual

import "sync/atomic"

const (
	leastTimed = 1000 // of a window's operations, to twice as many; all, if there are fewer
	mostTimed  = 4 * leastTimed
	maxSkip    = 63
)

// sampling decides which operations are timed: one in skip+1, a power of two. A timed
// operation costs some readings of a clock, so the more operations the window before
// had, the smaller the share that is timed.
type sampling struct {
	skip atomic.Uint64
	n    atomic.Uint64 // timed in this window
}

// adapt begins a window. operations is the count of the window before.
func (s *sampling) adapt(operations uint64) {
	every := uint64(1)
	for every <= maxSkip && operations/(2*every) >= leastTimed {
		every *= 2
	}
	s.skip.Store(every - 1)
	s.n.Store(0)
}

// timed counts a timed operation. If the traffic is far above the last window's, fewer
// are timed from here on.
func (s *sampling) timed() {
	if n := s.n.Add(1); n%mostTimed != 0 {
		return
	}
	if skip := s.skip.Load(); skip < maxSkip {
		s.skip.CompareAndSwap(skip, 2*skip+1)
	}
}
