package dual

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stranglerfig/migrator/dual/telemetry"
)

// An open breaker lets one operation through as a probe: first after a second, and after each
// probe that fails in twice the time, up to the most.
const (
	breakerFailures = 5 // in a row open it
	breakerFirst    = time.Second
	breakerMost     = 5 * time.Second
)

// errCallerCanceled is the outcome of an attempt whose caller gave up. It proves nothing
// about the store.
var errCallerCanceled = errors.New("the caller gave up before the store answered")

// breaker keeps an outage from adding its timeout to every operation. The zero breaker is
// closed. While nothing fails it costs one atomic load.
type breaker struct {
	most    time.Duration // the longest pause between probes; 0: breakerMost
	failing atomic.Bool   // an operation has failed, and no success has followed

	mu       sync.Mutex
	failures int           // in a row, while closed
	pause    time.Duration // before the next probe; 0: closed
	due      time.Time     // the next probe's
	probe    uint64        // the number of the last one, which is under way until due
	probing  bool          // that one's outcome is not known yet
}

// pass permits one operation, whose outcome must be reported.
type pass struct {
	probe uint64 // 0: the breaker was closed
}

func (b *breaker) allow() (p pass, ok bool) {
	// No lock while nothing fails: this is on the path of every operation.
	if !b.failing.Load() {
		return pass{}, true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pause == 0 {
		return pass{}, true
	}
	now := time.Now()
	if now.Before(b.due) {
		return pass{}, false
	}
	// A probe that hangs must not keep the breaker open for good: the next one is due all the same.
	b.due = now.Add(b.pause)
	b.probe++
	b.probing = true
	return pass{b.probe}, true
}

// report reports the outcome: nil if the store answered, errCallerCanceled or a failure.
func (b *breaker) report(p pass, err error) {
	if err == nil && p.probe == 0 && !b.failing.Load() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch open := b.pause > 0; {
	case open && (p.probe == 0 || p.probe != b.probe):
		// It began before the store failed, or is a probe that was given up: it proves nothing of now.
	case errors.Is(err, errCallerCanceled):
		if open {
			b.due, b.probing = time.Now(), false
		}
	case err == nil:
		b.close()
	case open:
		b.opened(2 * b.pause)
	default:
		b.failing.Store(true)
		if b.failures++; b.failures >= breakerFailures {
			b.opened(breakerFirst)
		}
	}
}

func (b *breaker) opened(pause time.Duration) {
	most := b.most
	if most == 0 {
		most = breakerMost
	}
	b.pause = min(pause, most)
	b.due = time.Now().Add(b.pause)
	b.probing = false
}

func (b *breaker) close() {
	b.failures, b.pause, b.probing = 0, 0, false
	b.failing.Store(false)
}

// reset closes the breaker: the store is known to answer, or must be asked once more.
func (b *breaker) reset() {
	if !b.failing.Load() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.close()
}

func (b *breaker) state() telemetry.BreakerState {
	if !b.failing.Load() {
		return telemetry.BreakerClosed
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.pause == 0:
		return telemetry.BreakerClosed
	case b.probing, !time.Now().Before(b.due):
		return telemetry.BreakerHalfOpen
	default:
		return telemetry.BreakerOpen
	}
}

// namedBreaker is a breaker of the target, as metrics name it.
type namedBreaker struct {
	*breaker
	name string
}

// Breakers returns the instance's circuit breakers, sorted by name. Where it has several of one name,
// one that is not closed counts, and open before half-open.
func (i *Instance) Breakers() []telemetry.Breaker {
	i.mu.Lock()
	all := append(slices.Clone(i.guards), namedBreaker{&i.journal, "journal"})
	i.mu.Unlock()
	slices.SortStableFunc(all, func(a, b namedBreaker) int { return cmp.Compare(a.name, b.name) })
	var found []telemetry.Breaker
	for _, b := range all {
		state := b.state()
		switch last := len(found) - 1; {
		case last < 0 || found[last].Name != b.name:
			found = append(found, telemetry.Breaker{Name: b.name, State: state})
		case state == telemetry.BreakerOpen, found[last].State == telemetry.BreakerClosed:
			found[last].State = state
		}
	}
	return found
}
