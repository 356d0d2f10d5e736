package runbook

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/stranglerfig/migrator/internal/failpoint"
)

// Log remembers a run. What it has returned from is durable; each call fails once
// another process may have taken the run over.
type Log interface {
	// Records are all attempts, in the order of their intents.
	Records(ctx context.Context) ([]Record, error)
	// Intend keeps that an attempt begins, and returns it with its time and actor.
	Intend(ctx context.Context, r Record) (Record, error)
	// End keeps an attempt's outcome and detail, once.
	End(ctx context.Context, r Record) error
	// Mark keeps where the run stands.
	Mark(ctx context.Context, s Status) error
}

// Doer does what a block says.
type Executor interface {
	// Do does it once. *NotHeldError: it did look, and the condition does not hold.
	// Any other error of a block that changes nothing: nobody knows.
	Do(ctx context.Context, block *Step, line func(string)) (Detail, error)
	// Quiet waits until nothing that an attempt began goes on. *StillRunningError when that takes
	// longer than the block may.
	AwaitStopped(ctx context.Context, block *Step) error
}

// Event tells whoever looks on how a run comes along.
type Event struct {
	What   string // "begin", "line", "warn", "wait", "end"
	Number int    // of the step in the order, from 1
	Of     int
	Step   *Step
	Block  *Step
	Record Record
	Text   string // of "line", "warn" and "wait"
}

// Runner runs one runbook. Told is called from one goroutine at a time.
type Runner struct {
	Book   *Runbook
	Log    Log
	Do     Executor
	Notify func(Event)
	// Doubt asks a person about a step of which nobody else knows whether it was done; nil, or
	// an error: *DoubtError ends Run.
	UnknownOutcome func(ctx context.Context, block *Step, r Record) (Outcome, error)
	// Warn says a warning and returns an error unless the step may begin; nil: it may.
	Warn func(ctx context.Context, block *Step) error
	// Poll is how often an approval is looked for; 0: 1 s.
	Poll time.Duration
}

// Run goes on from what is recorded until the run has ended: nil when every step was
// done, *FailedError when one failed. *DoubtError, *WaitingError, *StillRunningError and ctx's error
// leave the run as it is, to be gone on with later.
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
	// What is to be told is why the step failed, not how its undoing went, unless that failed.
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

// step takes one attempt to its outcome.
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
			if err := sleep(ctx, time.Duration(n.Block.Pause)); err != nil {
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
	default: // it changes nothing, and is looked at again
		record = *n.Open
	}
	r.notify(Event{What: "begin", Step: n.Step, Block: n.Block, Record: record})
	began := time.Now()
	var err error
	switch {
	case n.Block.Kind == Approve:
		return r.waitApproval(ctx, n, record)
	case n.Block.Unless != "" && r.conditionMet(ctx, n.Block.Unless):
		record.Outcome, record.Detail.Reason = Skipped, n.Block.Unless+" holds already"
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
				err = fmt.Errorf("it ended well, but %s says that it was not done: %w", verify.ID, err)
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

// cleaner is a Doer that knows what must not be told.
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

// again tells that the attempt before ended without a word or was set aside: no pause is due.
func retriesUnknown(n Next, log []Record) bool {
	for _, one := range log {
		if one.Step == n.Step.ID && one.Direction == n.Direction && one.Attempt == n.Attempt-1 {
			return one.Outcome == Unknown
		}
	}
	return false
}

// first is when the step was first begun: a fixed time is not waited for anew.
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

// settle finds out what became of an attempt that may have changed something: its
// process ended without a word.
func (r *Runner) resolveInterrupted(ctx context.Context, n Next) error {
	record := *n.Open
	if err := r.Do.AwaitStopped(ctx, n.Block); err != nil {
		return err
	}
	switch {
	case n.Block.Idempotent:
		record.Outcome, record.Detail.Reason = Unknown, "its process ended without a word; to do it again does no harm"
	case n.Block.Verify != "":
		verify := r.Book.named[n.Block.Verify]
		r.notify(Event{What: "wait", Step: n.Step, Block: n.Block, Text: "its process ended without a word; " + verify.ID + " says whether it was done"})
		_, err := r.pollUntilMet(ctx, verify)
		var not *NotMetError
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			record.Outcome, record.Detail.Reason = Done, "its process ended without a word; "+verify.ID+" says that it was done"
		case errors.As(err, &not):
			record.Outcome, record.Detail.Reason = Unknown, "its process ended without a word; "+verify.ID+" says that it was not done: "+r.clean(err)
		default:
			return r.askOutcome(ctx, n, record, fmt.Sprintf("its process ended without a word, and %s could not tell: %s", verify.ID, r.clean(err)))
		}
	default:
		return r.askOutcome(ctx, n, record, "its process ended without a word, and nothing says that it may be run twice (idempotent=true) or how to find out (verify=ID)")
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
	record.Outcome, record.Detail.Reason = outcome, "its process ended without a word; a person says so"
	return r.end(ctx, n, record)
}
