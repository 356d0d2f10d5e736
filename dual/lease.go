package dual

import (
	"sync/atomic"
	"time"
)

// lease is one grant of time. An operation asks it after its read of the target,
// not before: a process that was stopped between the two must not answer.
type lease struct {
	id       string
	clock    func() time.Duration
	deadline atomic.Int64 // by clock; 0: it has ended
	noticed  atomic.Int64 // the deadline that somebody found to be over
}

func newLease(id string, clock func() time.Duration, sent, ttl time.Duration) *lease {
	l := &lease{id: id, clock: clock}
	l.noticed.Store(-1)
	l.extend(sent, ttl)
	return l
}

// extend counts ttl from before the request was sent: the state's own count began later.
// [lease-own-clock]: counted from the response, the lease would end here later than in the state,
// and this instance would read the target while the fleet no longer waits for it.
func (l *lease) extend(sent, ttl time.Duration) { l.deadline.Store(int64(sent + ttl - clockSlack)) }

// end gives the lease up for its holder at once. It is never taken back: a new lease is another
// value.
func (l *lease) end() { l.deadline.Store(0) }

// holds reads the clock.
func (l *lease) holds() bool {
	deadline := l.deadline.Load()
	if int64(l.clock()) < deadline {
		return true
	}
	l.noticed.Store(deadline)
	return false
}

// over tells, without reading the clock, that somebody has found the lease lapsed.
func (l *lease) over() bool { return l.noticed.Load() == l.deadline.Load() }

func (l *lease) remaining() time.Duration { return time.Duration(l.deadline.Load()) - l.clock() }
