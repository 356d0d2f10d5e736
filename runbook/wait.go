package runbook

import (
	"context"
	"fmt"
	"time"
)

// holds looks once.
func (r *Runner) conditionMet(ctx context.Context, id string) bool {
	block := r.Book.named[id]
	within, cancel := context.WithTimeout(ctx, time.Duration(block.Timeout))
	defer cancel()
	_, err := r.Do.Do(within, block, func(string) {})
	return err == nil
}

func (r *Runner) attemptOnce(ctx context.Context, block *Step) (Detail, error) {
	within, cancel := context.WithTimeout(ctx, time.Duration(block.Timeout))
	defer cancel()
	d, err := r.Do.Do(within, block, func(line string) { r.notify(Event{What: "line", Step: block, Block: block, Text: line}) })
	if err != nil && within.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("it took longer than %s and was stopped (%w)", block.Timeout, err)
	}
	return d, err
}

// until looks until the condition holds, for as long as the block may take. The error
// is that of the last look.
func (r *Runner) pollUntilMet(ctx context.Context, block *Step) (Detail, error) {
	within, cancel := context.WithTimeout(ctx, time.Duration(block.Timeout))
	defer cancel()
	var last Detail
	var lastErr error
	notified := ""
	for attempts := 1; ; attempts++ {
		d, err := r.Do.Do(within, block, func(string) {})
		if err == nil {
			d.Attempts = attempts
			return d, nil
		}
		if lastErr == nil || within.Err() == nil { // else it was only cut off
			last, lastErr = d, err
		}
		if text := r.clean(err); text != notified && within.Err() == nil {
			notified = text
			r.notify(Event{What: "wait", Step: block, Block: block, Text: "not yet: " + text})
		}
		if sleep(within, time.Duration(block.Pause)) != nil {
			last.Attempts = attempts
			return last, fmt.Errorf("not within %s: %w", block.Timeout, lastErr)
		}
	}
}

// Clock is a Log that tells the time by the clock that its records have theirs from.
type Clock interface {
	Now(ctx context.Context) (time.Time, error)
}

// pass waits until a fixed time is over since the step first began, by the log's
// clock: a step that was begun elsewhere may have some of it behind it, and a machine
// whose own clock is ahead must not take the time for over.
func (r *Runner) waitFixed(ctx context.Context, block *Step, began time.Time) error {
	now := time.Now()
	if c, ok := r.Log.(Clock); ok {
		var err error
		if now, err = c.Now(ctx); err != nil {
			return err
		}
	}
	left := min(began.Add(time.Duration(block.For)).Sub(now), time.Duration(block.For))
	if left > 0 {
		r.notify(Event{What: "wait", Step: block, Block: block, Text: fmt.Sprintf("%s are left", left.Round(time.Second))})
	}
	return sleep(ctx, left)
}

// approval waits for a person's word, which is given through the log.
func (r *Runner) waitApproval(ctx context.Context, n Next, record Record) error {
	r.notify(Event{What: "wait", Step: n.Step, Block: n.Block, Record: record, Text: n.Block.Body})
	poll := r.Poll
	if poll <= 0 {
		poll = time.Second
	}
	within, cancel := context.WithTimeout(ctx, time.Duration(n.Block.Timeout))
	defer cancel()
	for {
		log, err := r.Log.Records(ctx)
		if err != nil {
			return err
		}
		for _, one := range log {
			if one.Step == record.Step && one.Direction == record.Direction && one.Attempt == record.Attempt && one.Outcome != "" {
				r.notify(Event{What: "end", Step: n.Step, Block: n.Block, Record: one})
				return nil
			}
		}
		if sleep(within, poll) != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return &WaitingError{Step: n.Step.ID, Within: time.Duration(n.Block.Timeout)}
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return ctx.Err()
	}
}
