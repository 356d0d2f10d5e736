package runbook

import (
	"context"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/internal/sleep"
)

// conditionMet evaluates a verify block once.
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
		err = fmt.Errorf("stopped after its timeout of %s (%w)", block.Timeout, err)
	}
	return d, err
}

// pollUntilMet evaluates the block until its condition is met, for at most the block's
// timeout. The error is that of the last complete attempt.
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
		if lastErr == nil || within.Err() == nil { // else the timeout only cut it off
			last, lastErr = d, err
		}
		if text := r.clean(err); text != notified && within.Err() == nil {
			notified = text
			r.notify(Event{What: "wait", Step: block, Block: block, Text: "not yet: " + text})
		}
		if sleep.For(within, time.Duration(block.Pause)) != nil {
			last.Attempts = attempts
			return last, fmt.Errorf("not within %s: %w", block.Timeout, lastErr)
		}
	}
}

// Clock is a Log that has the clock of its records' times.
type Clock interface {
	Now(ctx context.Context) (time.Time, error)
}

// waitFixed waits until a fixed time has passed since the step first began, by the log's
// clock. The step may have begun on another machine, and this machine's clock may be ahead.
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
		r.notify(Event{What: "wait", Step: block, Block: block, Text: fmt.Sprintf("%s left", left.Round(time.Second))})
	}
	return sleep.For(ctx, left)
}

// waitApproval waits for an approval, which an operator records in the log.
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
		if sleep.For(within, poll) != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return &WaitingError{Step: n.Step.ID, Within: time.Duration(n.Block.Timeout)}
		}
	}
}
