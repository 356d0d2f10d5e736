package dual

import (
	"context"
	"sync"
	"time"
)

// detached is a context with its own deadline that keeps its parent's values and not
// its end: legacy has the write, so a caller that gives up must not keep it from the
// target. Its time begins, and its channel and timer are made, when they are first
// asked for: at once, by a store that waits for anything.
type detached struct {
	parent context.Context
	budget time.Duration

	mu       sync.Mutex
	deadline time.Time
	done     chan struct{}
	timer    *time.Timer
	ended    bool
}

func detach(parent context.Context, budget time.Duration) *detached {
	return &detached{parent: parent, budget: budget}
}

// ends is called with the lock taken.
func (d *detached) ends() time.Time {
	if d.deadline.IsZero() {
		d.deadline = time.Now().Add(d.budget)
	}
	return d.deadline
}

// Deadline also begins the context's time.
func (d *detached) Deadline() (time.Time, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ends(), true
}

func (d *detached) Value(key any) any { return d.parent.Value(key) }

func (d *detached) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	// The deadline is compared here, not left to the timer: without Done there is no timer.
	case !time.Now().Before(d.ends()):
		return context.DeadlineExceeded
	case d.ended:
		return context.Canceled
	default:
		return nil
	}
}

func (d *detached) Done() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done == nil {
		d.done = make(chan struct{})
		if d.ended {
			close(d.done)
		} else {
			d.timer = time.AfterFunc(time.Until(d.ends()), d.stop)
		}
	}
	return d.done
}

// stop ends the context. The caller of detach must call it.
func (d *detached) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		return
	}
	d.ended = true
	// A timer that is left behind would call stop later; the second call does nothing.
	if d.timer != nil {
		d.timer.Stop()
	}
	if d.done != nil {
		close(d.done)
	}
}
