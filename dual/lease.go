package dual

import (
	"sync/atomic"
	"time"
)

// lease is a grant of limited time. An operation checks it after its read of the target,
// not before: a process that was suspended between the two must not answer.
type lease struct {
	id       string
	clock    func() time.Duration
	deadline atomic.Int64 // by clock; 0: it has ended
	noticed  atomic.Int64 // the deadline that an operation found to have passed
}

func newLease(id string, clock func() time.Duration, sent, ttl time.Duration) *lease {
	l := &lease{id: id, clock: clock}
	l.noticed.Store(-1)
	l.extend(sent, ttl)
	return l
}

// extend counts ttl from before the request was sent: the state's own count began later.
// [lease-own-clock]: counted from the response, the lease would expire here later than in the
// state, and this instance would read the target while the fleet no longer waits for it.
func (l *lease) extend(sent, ttl time.Duration) { l.deadline.Store(int64(sent + ttl - clockSlack)) }

// end expires the lease on this instance at once. It never becomes valid again: a new
// lease is another value.
func (l *lease) end() { l.deadline.Store(0) }

// valid reports whether the lease has not expired. It reads the clock.
func (l *lease) valid() bool {
	deadline := l.deadline.Load()
	if int64(l.clock()) < deadline {
		return true
	}
	l.noticed.Store(deadline)
	return false
}

// knownExpired reports whether an operation has found the lease expired. It does not read the clock.
func (l *lease) knownExpired() bool { return l.noticed.Load() == l.deadline.Load() }

func (l *lease) remaining() time.Duration { return time.Duration(l.deadline.Load()) - l.clock() }
