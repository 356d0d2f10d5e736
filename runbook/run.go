package runbook

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/sleep"
)

// Log stores a run. When a method returns without an error, its record is durable. Each call
// fails once another process may have taken the run over.
type Log interface {
	// Records returns all attempts, in the order of their intents.
	Records(ctx context.Context) ([]Record, error)
	// Intend records that an attempt begins, and returns it with its time and actor.
	Intend(ctx context.Context, r Record) (Record, error)
	// End records an attempt's outcome and detail, once.
	End(ctx context.Context, r Record) error
	// Mark records the run's status.
	Mark(ctx context.Context, s Status) error
}

// Executor executes a block.
type Executor interface {
	// Do executes the block once. *NotMetError: the condition was evaluated and is not met.
	// Any other error of a block that changes nothing: the result is unknown.
	Do(ctx context.Context, block *Step, line func(string)) (Detail, error)
	// AwaitStopped waits until nothing that an attempt started still runs. *StillRunningError
	// if that takes longer than the block's timeout.
	AwaitStopped(ctx context.Context, block *Step) error
}

// Event is one step of a run's progress.
type Event struct {
	What   string // "begin", "line", "warn", "wait", "end"
	Number int    // of the step in the order, from 1
	Of     int
	Step   *Step
	Block  *Step
	Record Record
	Text   string // of "line", "warn" and "wait"
}

// Runner runs one runbook. It calls Notify from one goroutine at a time.
type Runner struct {
	Book   *Runbook
	Log    Log
	Do     Executor
	Notify func(Event)
	// UnknownOutcome asks an operator whether a step was done if nothing else can show it. If
	// it is nil or returns an error, Run ends with *UnknownOutcomeError.
	UnknownOutcome func(ctx context.Context, block *Step, r Record) (Outcome, error)
	// Warn shows a warning and returns an error unless the step may begin. nil: every step
	// may.
	Warn func(ctx context.Context, block *Step) error
	// Poll is the interval at which an approval is checked; 0: 1 s.
	Poll time.Duration
}

// Run continues from the recorded attempts until the run has ended. It returns nil when every
// step is done, and *FailedError when one failed. After *UnknownOutcomeError, *WaitingError,
// *StillRunningError and ctx's error the run stays open, to be resumed later.
func (r *Runner) Run(ctx context.Context) error {
	for {
		log, err := r.Log.Records(ctx)
		if err != nil {
			return err
		}
		n := r.Book.Next(log)
		if n.End != "" {
			if err := r.Log.Mark(ctx, n.End); err != nil {
				return err
			}
			return ended(n, log)
		}
		if err := r.Log.Mark(ctx, status(n)); err != nil {
			return err
		}
		if err := r.step(ctx, n, log); err != nil {
			return err
		}
	}
}

func status(n Next) Status {
	switch {
	case n.Direction == Compensate:
		return Compensating
	case n.Block.Kind == Approve:
		return Waiting
	}
	return Running
}

func ended(n Next, log []Record) error {
	if n.End == RunDone {
		return nil
	}
	// Report why the step failed, not how its undo went, unless the undo failed.
	why := ""
	for _, one := range log {
		if one.Outcome == Failed && one.Step == n.Step.ID && one.Direction == n.Direction {
			why = one.Detail.Error
			if why == "" {
				why = one.Detail.Reason
			}
		}
	}
	return &FailedError{Status: n.End, Step: n.Step.ID, Block: n.Block.ID, Why: why}
}

// step runs one attempt to its outcome.
func (r *Runner) step(ctx context.Context, n Next, log []Record) error {
	record := Record{
		Step: n.Step.ID, Direction: n.Direction, Attempt: n.Attempt, Kind: n.Block.Kind, Block: n.Block.ID,
		Role: n.Block.Role, TwoPeople: n.Block.TwoPeople,
	}
	record.Host, _ = os.Hostname()
	switch {
	case n.Open == nil:
		if n.Block.Warn != "" {
			r.notify(Event{What: "warn", Step: n.Step, Block: n.Block, Text: n.Block.Warn})
			if r.Warn != nil {
				if err := r.Warn(ctx, n.Block); err != nil {
					return err
				}
			}
		}
		if n.Attempt > 1 && !retriesUnknown(n, log) {
			if err := sleep.For(ctx, time.Duration(n.Block.Pause)); err != nil {
				return err
			}
		}
		var err error
		if record, err = r.Log.Intend(ctx, record); err != nil {
			return err
		}
		failpoint.Here("runbook.intent.kept")
	case n.Block.Kind.changes():
		return r.resolveInterrupted(ctx, n)
	default: // it changes nothing, and runs again
		record = *n.Open
	}
	r.notify(Event{What: "begin", Step: n.Step, Block: n.Block, Record: record})
	began := time.Now()
	var err error
	switch {
	case n.Block.Kind == Approve:
		return r.waitApproval(ctx, n, record)
	case n.Block.Unless != "" && r.conditionMet(ctx, n.Block.Unless):
		record.Outcome, record.Detail.Reason = Skipped, n.Block.Unless+" is met already"
		return r.end(ctx, n, record)
	case n.Block.Kind == Wait && n.Block.For > 0:
		err = r.waitFixed(ctx, n.Block, firstBegan(log, record))
	case n.Block.Kind == Wait:
		record.Detail, err = r.pollUntilMet(ctx, n.Block)
	default:
		record.Detail, err = r.attemptOnce(ctx, n.Block)
		if err == nil && n.Block.Verify != "" {
			failpoint.Here("runbook.acted")
			verify := r.Book.named[n.Block.Verify]
			var seen Detail
			if seen, err = r.pollUntilMet(ctx, verify); err != nil {
				err = fmt.Errorf("it ended without an error, but %s shows that it was not done: %w", verify.ID, err)
				record.Detail.Output += seen.Output
			}
		}
	}
	if ctx.Err() != nil {
		return ctx.Err() // an intent without an outcome, as after a crash
	}
	record.Outcome, record.Detail.Seconds = Done, time.Since(began).Seconds()
	if err != nil {
		record.Outcome, record.Detail.Error = Failed, r.clean(err)
	}
	return r.end(ctx, n, record)
}

// redacting is an Executor that removes secrets from error texts.
type redacting interface{ Clean(text string) string }

func (r *Runner) clean(err error) string {
	if c, ok := r.Do.(redacting); ok {
		return c.Clean(err.Error())
	}
	return err.Error()
}

func (r *Runner) end(ctx context.Context, n Next, record Record) error {
	record.Ended = time.Now()
	failpoint.Here("runbook.outcome.due")
	if err := r.Log.End(ctx, record); err != nil {
		return err
	}
	failpoint.Here("runbook.outcome.kept")
	r.notify(Event{What: "end", Step: n.Step, Block: n.Block, Record: record})
	return nil
}

// retriesUnknown reports whether the previous attempt was interrupted or set aside: then no
// pause is due.
func retriesUnknown(n Next, log []Record) bool {
	for _, one := range log {
		if one.Step == n.Step.ID && one.Direction == n.Direction && one.Attempt == n.Attempt-1 {
			return one.Outcome == Unknown
		}
	}
	return false
}

// firstBegan returns when the step first began: a fixed wait does not restart.
func firstBegan(log []Record, record Record) time.Time {
	for _, one := range log {
		if one.Step == record.Step && one.Direction == record.Direction {
			return one.Began
		}
	}
	return record.Began
}

func (r *Runner) notify(e Event) {
	if r.Notify == nil {
		return
	}
	e.Of = len(r.Book.Steps)
	for i, s := range r.Book.Steps {
		if s == e.Step {
			e.Number = i + 1
		}
	}
	r.Notify(e)
}

// resolveInterrupted determines the outcome of an attempt that may have changed something and
// whose process ended before it recorded the outcome.
func (r *Runner) resolveInterrupted(ctx context.Context, n Next) error {
	record := *n.Open
	if err := r.Do.AwaitStopped(ctx, n.Block); err != nil {
		return err
	}
	switch {
	case n.Block.Idempotent:
		record.Outcome, record.Detail.Reason = Unknown, "its process was interrupted; it is safe to run again"
	case n.Block.Verify != "":
		verify := r.Book.named[n.Block.Verify]
		r.notify(Event{What: "wait", Step: n.Step, Block: n.Block, Text: "its process was interrupted; " + verify.ID + " checks whether it was done"})
		_, err := r.pollUntilMet(ctx, verify)
		var not *NotMetError
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			record.Outcome, record.Detail.Reason = Done, "its process was interrupted; "+verify.ID+" shows that it was done"
		case errors.As(err, &not):
			record.Outcome, record.Detail.Reason = Unknown, "its process was interrupted; "+verify.ID+" shows that it was not done: "+r.clean(err)
		default:
			return r.askOutcome(ctx, n, record, fmt.Sprintf("its process was interrupted, and %s could not decide: %s", verify.ID, r.clean(err)))
		}
	default:
		return r.askOutcome(ctx, n, record, "its process was interrupted, and the step has neither idempotent=true (safe to run twice) nor verify=ID (a check)")
	}
	return r.end(ctx, n, record)
}

func (r *Runner) askOutcome(ctx context.Context, n Next, record Record, why string) error {
	unknown := &UnknownOutcomeError{Step: n.Step.ID, Why: why}
	if r.UnknownOutcome == nil {
		return errors.Join(unknown, r.Log.Mark(ctx, Waiting))
	}
	outcome, err := r.UnknownOutcome(ctx, n.Block, record)
	if err != nil {
		return errors.Join(unknown, r.Log.Mark(ctx, Waiting))
	}
	record.Outcome, record.Detail.Reason = outcome, "its process was interrupted; an operator reported the outcome"
	return r.end(ctx, n, record)
}
