package dual

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// Failures in a row that open a breaker, and for how long.
const (
	breakerFailures = 5
	breakerPause    = time.Minute
)

// errCallerCanceled is the outcome of an attempt whose caller gave up. It proves nothing
// about the store.
var errCallerCanceled = errors.New("the caller gave up before the store answered")

// breaker keeps an outage from adding its timeout to every operation: after some
// failures in a row it lets no operation pass for a while, then one as a probe. The
// states are gobreaker's, which takes a lock and allocates on each operation. So it is
// bypassed until an operation fails, and gets the successes after that only until it is
// closed again without failures.
type breaker struct {
	pause   time.Duration // 0: breakerPause
	failing atomic.Bool   // gobreaker is in use: an operation failed, and no success has reset that
	mu      sync.Mutex
	state   *gobreaker.TwoStepCircuitBreaker[struct{}] // nil until something fails
	probe   func(error)                                // reports the outcome of the last probe
	probed  time.Time
}

// pass permits one operation, whose outcome must be reported.
type pass struct {
	done func(error) // nil: gobreaker was not asked
}

func (b *breaker) allow() (p pass, ok bool) {
	// No lock while nothing fails: this is on the path of every operation.
	if !b.failing.Load() {
		return pass{}, true
	}
	return b.ask()
}

// report reports the outcome: nil if the store answered, errCallerCanceled or a failure.
func (b *breaker) report(p pass, err error) {
	if err == nil && p.done == nil && !b.failing.Load() {
		return
	}
	b.record(p, err)
}

func (b *breaker) ask() (p pass, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state == nil {
		return pass{}, true
	}
	done, err := b.state.Allow()
	if errors.Is(err, gobreaker.ErrTooManyRequests) && time.Since(b.probed) >= b.rest() {
		// A probe that hangs would otherwise keep the breaker open for good.
		b.probe(errCallerCanceled) // it may never return: another operation probes
		done, err = b.state.Allow()
	}
	if err != nil {
		return pass{}, false
	}
	if b.state.State() == gobreaker.StateHalfOpen {
		b.probe, b.probed = done, time.Now()
	}
	return pass{done}, true
}

func (b *breaker) record(p pass, err error) {
	if p.done == nil && errors.Is(err, errCallerCanceled) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state == nil {
		b.state = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
			Timeout:     b.rest(),
			ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= breakerFailures },
			IsExcluded:  func(err error) bool { return errors.Is(err, errCallerCanceled) },
		})
	}
	if p.done == nil { // it began before the first failure
		var refused error
		// Its outcome counts only if the breaker lets it in now: a success from before the outage
		// must not close it.
		if p.done, refused = b.state.Allow(); refused != nil {
			return
		}
	}
	p.done(err)
	b.failing.Store(b.state.State() != gobreaker.StateClosed || b.state.Counts().ConsecutiveFailures > 0)
}

func (b *breaker) rest() time.Duration {
	if b.pause > 0 {
		return b.pause
	}
	return breakerPause
}

// reset closes the breaker: the store is known to answer.
func (b *breaker) reset() {
	if !b.failing.Load() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state = nil
	b.failing.Store(false)
}
