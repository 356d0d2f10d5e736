package dual

import (
	"context"
	"sync"
	"time"
)

// detached is a context with a time of its own that keeps its parent's values and
// not its end: legacy has the write, so the caller's impatience must not keep it
// from the target. Its channel and timer are made when somebody asks for them.
type detached struct {
	parent   context.Context
	deadline time.Time

	mu    sync.Mutex
	done  chan struct{}
	timer *time.Timer
	ended bool
}

func detach(parent context.Context, deadline time.Time) *detached {
	return &detached{parent: parent, deadline: deadline}
}

func (d *detached) Deadline() (time.Time, bool) { return d.deadline, true }
func (d *detached) Value(key any) any           { return d.parent.Value(key) }

func (d *detached) Err() error {
	d.mu.Lock()
	ended := d.ended
	d.mu.Unlock()
	switch {
	case !time.Now().Before(d.deadline):
		return context.DeadlineExceeded
	case ended:
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
			d.timer = time.AfterFunc(time.Until(d.deadline), d.stop)
		}
	}
	return d.done
}

// stop ends the context; whoever made it calls stop when it has returned.
func (d *detached) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		return
	}
	d.ended = true
	if d.timer != nil {
		d.timer.Stop()
	}
	if d.done != nil {
		close(d.done)
	}
}
