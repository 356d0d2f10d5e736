package dual

import (
	"sync"
	"sync/atomic"
	"time"
)

// Failures in a row that open a breaker, and for how long.
const (
	breakerFailures = 5
	breakerPause    = time.Minute
)

// breaker keeps an outage from adding its timeout to every operation: after some
// failures in a row it lets none pass for a while, then one to probe.
type breaker struct {
	clock    func() time.Duration
	pause    time.Duration // 0: breakerPause
	failures atomic.Int32
	mu       sync.Mutex
	open     bool
	until    time.Duration // by clock; the next probe
}

// allow tells that the operation may be tried; one that was allowed must be followed by done.
func (b *breaker) allow() bool {
	if b.failures.Load() < breakerFailures {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.open {
		return true
	}
	now := b.clock()
	if now < b.until {
		return false
	}
	b.until = now + b.rest() // this one probes; should it never come back, another will
	return true
}

func (b *breaker) done(ok bool) {
	if ok {
		if b.failures.Load() != 0 {
			b.reset()
		}
		return
	}
	if b.failures.Add(1) < breakerFailures {
		return
	}
	b.mu.Lock()
	b.open, b.until = true, b.clock()+b.rest()
	b.mu.Unlock()
}

func (b *breaker) rest() time.Duration {
	if b.pause > 0 {
		return b.pause
	}
	return breakerPause
}

func (b *breaker) reset() {
	b.mu.Lock()
	b.open = false
	b.failures.Store(0)
	b.mu.Unlock()
}
