// Package throttle makes a job that moves records wait: for its rate, and while legacy's standbys are behind, or
// a store has other work. The limits are read again and again, so that a change of them acts on a job that runs.
package throttle

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/internal/sleep"
	"github.com/stranglerfig/migrator/store"
)

// Limits are bounds of a job's load; a zero is none.
type Limits struct {
	Rate          int           // rows a second
	StandbyLag    time.Duration // of legacy's slowest standby, in applying
	StandbyBytes  int64         // of log that it has not applied
	Sessions      int           // of legacy that run a statement, without those of this program
	TargetLatency time.Duration // of a call that only reads the target's clock
}

// Throttle holds one job up. A nil one never does.
type Throttle struct {
	// Limits returns those in force. It is called every second.
	Limits func(context.Context) (Limits, error)
	Legacy store.LoadReporter // nil: a limit of legacy's load is an error
	Target Clock
	// Report, if set, is called when the job begins to be held, or goes on, by one goroutine at a time.
	Report func(Status)

	mu      sync.Mutex
	status  Status
	since   time.Time
	urgent  bool
	turn    chan struct{} // closed at the next change of what holds
	limiter *rate.Limiter // nil: no rate
}

// Clock is a target's.
type Clock interface {
	Now(ctx context.Context) (time.Time, error)
}

// Status is what a throttle has done.
type Status struct {
	Why   string        // the job is held; "" if it is not
	Held  time.Duration // altogether
	Holds int64         // times that it began to be held
	Error string        // why the limits, or what they bound, could not be read last; what was read before stays in force
}

// period is how often the limits, and what they bound, are read.
const period = time.Second

// Start reads the limits once, where an error is the caller's, and then until stop is called. Later errors change
// nothing but Status.Error: what can't be read stops no job that has begun, and starts none that is held.
func (t *Throttle) Start(ctx context.Context) (stop func(), err error) {
	if t == nil {
		return func() {}, nil
	}
	t.turn = make(chan struct{})
	if err := t.look(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for sleep.For(ctx, period) == nil {
			err := t.look(ctx)
			if ctx.Err() != nil {
				return
			}
			t.mu.Lock()
			t.status.Error = ""
			if err != nil {
				t.status.Error = err.Error()
			}
			t.mu.Unlock()
		}
	}()
	return func() { cancel(); <-done }, nil
}

func (t *Throttle) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*period)
	defer cancel()
	limits, err := t.Limits(ctx)
	if err != nil {
		return fmt.Errorf("read the throttle's limits: %w", err)
	}
	t.pace(limits.Rate)
	why, err := t.measure(ctx, limits)
	if err != nil {
		return err
	}
	t.hold(why)
	return nil
}

// pace sets the rate. A burst is half a second's rows: a wait is never much longer than that under the rate of
// before.
func (t *Throttle) pace(rows int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case rows <= 0:
		t.limiter = nil
	case t.limiter == nil:
		t.limiter = rate.NewLimiter(rate.Limit(rows), max(1, rows/2))
	case t.limiter.Limit() != rate.Limit(rows):
		t.limiter.SetLimit(rate.Limit(rows))
		t.limiter.SetBurst(max(1, rows/2))
	}
}

// measure returns why the job must wait.
func (t *Throttle) measure(ctx context.Context, limits Limits) (why string, err error) {
	if limits.StandbyLag > 0 || limits.StandbyBytes > 0 || limits.Sessions > 0 {
		if t.Legacy == nil {
			return "", errors.New("this legacy store does not report its load, and the throttle has a limit of it")
		}
		load, err := t.Legacy.Load(ctx)
		switch {
		case err != nil:
			return "", err
		case limits.StandbyLag > 0 && load.StandbyLag > limits.StandbyLag:
			return fmt.Sprintf("standby lag %s > %s", humanize.Span(load.StandbyLag), humanize.Span(limits.StandbyLag)), nil
		case limits.StandbyBytes > 0 && load.StandbyBytes > limits.StandbyBytes:
			return fmt.Sprintf("standby lag %d MiB > %d MiB", load.StandbyBytes>>20, limits.StandbyBytes>>20), nil
		case limits.Sessions > 0 && load.Sessions < 0:
			return "", errors.New("the role may not see which sessions of legacy are active: GRANT pg_read_all_stats to it")
		case limits.Sessions > 0 && load.Sessions > limits.Sessions:
			return fmt.Sprintf("active sessions of legacy %d > %d", load.Sessions, limits.Sessions), nil
		}
	}
	if limits.TargetLatency > 0 {
		began := time.Now()
		if _, err := t.Target.Now(ctx); err != nil {
			return "", fmt.Errorf("read the target's clock: %w", err)
		}
		if took := time.Since(began); took > limits.TargetLatency {
			return fmt.Sprintf("target latency %s > %s", took.Round(time.Millisecond), limits.TargetLatency), nil
		}
	}
	return "", nil
}

func (t *Throttle) hold(why string) {
	t.mu.Lock()
	was, now := t.status.Why, time.Now()
	switch {
	case was == "" && why != "":
		t.since = now
		t.status.Holds++
	case was != "":
		t.status.Held += now.Sub(t.since)
		t.since = now
	}
	t.status.Why = why
	if was != "" && why == "" {
		close(t.turn)
		t.turn = make(chan struct{})
	}
	report, status := t.Report, t.status
	t.mu.Unlock()
	if report != nil && (was == "") != (why == "") {
		report(status)
	}
}

// Status is the present one.
func (t *Throttle) Status() Status {
	if t == nil {
		return Status{}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.status
	if s.Why != "" {
		s.Held += time.Since(t.since)
	}
	return s
}

// Urgent lets the job go on whatever the limits are, until it is called with false: to wait would do more harm.
func (t *Throttle) Urgent(yes bool) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if yes && !t.urgent && t.turn != nil {
		close(t.turn)
		t.turn = make(chan struct{})
	}
	t.urgent = yes
}

// Hold returns once nothing holds the job.
func (t *Throttle) Hold(ctx context.Context) error {
	if t == nil {
		return nil
	}
	for {
		t.mu.Lock()
		free, turn := t.status.Why == "" || t.urgent, t.turn
		t.mu.Unlock()
		if free {
			return ctx.Err()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-turn:
		}
	}
}

// Wait returns once the rate has room for so many rows. It takes them in parts, so that another rate acts within
// a second or so.
func (t *Throttle) Wait(ctx context.Context, rows int) error {
	for t != nil && rows > 0 {
		t.mu.Lock()
		limiter, urgent := t.limiter, t.urgent
		t.mu.Unlock()
		if limiter == nil || urgent {
			break
		}
		part := min(rows, max(1, limiter.Burst()))
		reserved := limiter.ReserveN(time.Now(), part)
		if !reserved.OK() { // the burst was lowered meanwhile
			continue
		}
		if err := sleep.For(ctx, reserved.Delay()); err != nil {
			return err
		}
		rows -= part
	}
	return ctx.Err()
}
