package dual

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// clockAge is the age past which a sample of the target's clock is renewed before
// it is used: two clocks drift by some milliseconds in that time.
const clockAge = time.Minute

// targetClock computes a time that the target's clock has certainly reached: the time
// of its last answer, plus the time since that answer arrived. The latter is measured by
// the monotonic clock, the cheapest one. Where that clock stops in suspend the bound is
// early, never late. Changes are then refused until the lease is taken again or five
// seconds have passed, since then the target's clock is read again.
type targetClock struct {
	now    func(context.Context) (time.Time, error)
	sample atomic.Pointer[clockSample]
	guard  breaker
	mu     sync.Mutex
	asking *clockCall
}

type clockCall struct {
	done chan struct{}
	err  error
}

type clockSample struct {
	target time.Time
	at     time.Time // when the answer arrived
}

// atLeast returns a time that is not later than the target's present one.
func (t *targetClock) atLeast(ctx context.Context, timeout time.Duration) (time.Time, error) {
	if now, fresh := t.estimate(); fresh {
		return now, nil
	}
	err := t.fetch(ctx, timeout, false)
	if now, _ := t.estimate(); !now.IsZero() {
		return now, nil // an old sample is still a lower bound, drift apart
	}
	return time.Time{}, err
}

func (t *targetClock) estimate() (now time.Time, fresh bool) {
	s := t.sample.Load()
	if s == nil {
		return time.Time{}, false
	}
	// [not-after]: a lower bound. An estimate ahead of the target's clock would let a change land
	// later than its write permits; one behind it costs a refusal and an entry in the journal.
	since := max(time.Since(s.at)-clockSlack, 0)
	return s.target.Add(since), since < clockAge
}

// fetch reads the target's clock; unless forced, only if no other caller has done so
// meanwhile. Concurrent callers share one answer. It continues when the caller gives up,
// since other callers wait for it too, but not for longer than timeout.
func (t *targetClock) fetch(ctx context.Context, timeout time.Duration, force bool) error {
	t.mu.Lock()
	if _, fresh := t.estimate(); fresh && !force {
		t.mu.Unlock()
		return nil
	}
	if c := t.asking; c != nil {
		t.mu.Unlock()
		<-c.done
		return c.err
	}
	passed, ok := t.guard.allow()
	if !ok {
		t.mu.Unlock()
		return fmt.Errorf("%w: %w", errNoClock, errBreakerOpen)
	}
	c := &clockCall{done: make(chan struct{}), err: errNoClock}
	t.asking = c
	t.mu.Unlock()
	defer func() { // also when the application's Now panics
		t.guard.report(passed, c.err)
		t.mu.Lock()
		t.asking = nil
		t.mu.Unlock()
		close(c.done)
	}()
	asked := detach(ctx, timeout)
	defer asked.stop()
	now, err := t.now(asked)
	if err != nil {
		c.err = fmt.Errorf("%w: %w", errNoClock, err)
		return c.err
	}
	t.sample.Store(&clockSample{target: now, at: time.Now()})
	c.err = nil
	return nil
}
