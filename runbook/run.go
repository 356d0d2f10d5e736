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
type Doer interface {
	// Do does it once. *NotHeldError: it did look, and the condition does not hold.
	// Any other error of a block that changes nothing: nobody knows.
	Do(ctx context.Context, block *Step, line func(string)) (Detail, error)
	// Quiet waits until nothing that an attempt began goes on. *StillRunningError when that takes
	// longer than the block may.
	Quiet(ctx context.Context, block *Step) error
}

// NotHeldError tells that a condition was looked at and does not hold.
type NotHeldError struct{ What string }

func (e *NotHeldError) Error() string { return e.What }

// StillRunningError tells that something which a killed run began still goes on.
type StillRunningError struct{ What string }

func (e *StillRunningError) Error() string { return e.What }

// DoubtError tells that nobody but a person knows whether a step was done.
type DoubtError struct {
	Step string
	Why  string
}

func (e *DoubtError) Error() string {
	return fmt.Sprintf("whether step %s was done is not known: %s", e.Step, e.Why)
}

// WaitingError tells that an approval did not come in time. The run stays open.
type WaitingError struct {
	Step   string
	Within time.Duration
}

func (e *WaitingError) Error() string {
	return fmt.Sprintf("nobody has approved step %s within %s", e.Step, e.Within)
}

// FailedError is a run that has failed.
type FailedError struct {
	Status Status
	Step   string // that failed; of RunFailed, maybe one that could not be taken back
	Block  string
	Why    string
}

func (e *FailedError) Error() string {
	switch {
	case e.Status == Compensated:
		return fmt.Sprintf("step %s failed (%s); what was done has been taken back", e.Step, e.Why)
	case e.Block != "" && e.Block != e.Step:
		return fmt.Sprintf("step %s could not be taken back: %s failed (%s)", e.Step, e.Block, e.Why)
	}
	return fmt.Sprintf("step %s failed (%s); nothing had to be taken back", e.Step, e.Why)
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
	Book *Runbook
	Log  Log
	Do   Doer
	Told func(Event)
	// Doubt asks a person about a step of which nobody else knows whether it was done; nil, or
	// an error: *DoubtError ends Run.
	Doubt func(ctx context.Context, block *Step, r Record) (Outcome, error)
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
			r.tell(Event{What: "warn", Step: n.Step, Block: n.Block, Text: n.Block.Warn})
			if r.Warn != nil {
				if err := r.Warn(ctx, n.Block); err != nil {
					return err
				}
			}
		}
		if n.Attempt > 1 && !again(n, log) {
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
		return r.settle(ctx, n)
	default: // it changes nothing, and is looked at again
		record = *n.Open
	}
	r.tell(Event{What: "begin", Step: n.Step, Block: n.Block, Record: record})
	began := time.Now()
	var err error
	switch {
	case n.Block.Kind == Approve:
		return r.approval(ctx, n, record)
	case n.Block.Unless != "" && r.holds(ctx, n.Block.Unless):
		record.Outcome, record.Detail.Reason = Skipped, n.Block.Unless+" holds already"
		return r.end(ctx, n, record)
	case n.Block.Kind == Wait && n.Block.For > 0:
		err = r.pass(ctx, n.Block, first(log, record))
	case n.Block.Kind == Wait:
		record.Detail, err = r.until(ctx, n.Block)
	default:
		record.Detail, err = r.once(ctx, n.Block)
		if err == nil && n.Block.Verify != "" {
			failpoint.Here("runbook.acted")
			verify := r.Book.named[n.Block.Verify]
			var seen Detail
			if seen, err = r.until(ctx, verify); err != nil {
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

// holds looks once.
func (r *Runner) holds(ctx context.Context, id string) bool {
	block := r.Book.named[id]
	within, cancel := context.WithTimeout(ctx, time.Duration(block.Timeout))
	defer cancel()
	_, err := r.Do.Do(within, block, func(string) {})
	return err == nil
}

// cleaner is a Doer that knows what must not be told.
type cleaner interface{ Clean(text string) string }

func (r *Runner) clean(err error) string {
	if c, ok := r.Do.(cleaner); ok {
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
	r.tell(Event{What: "end", Step: n.Step, Block: n.Block, Record: record})
	return nil
}

// again tells that the attempt before ended without a word or was set aside: no pause is due.
func again(n Next, log []Record) bool {
	for _, one := range log {
		if one.Step == n.Step.ID && one.Direction == n.Direction && one.Attempt == n.Attempt-1 {
			return one.Outcome == Unknown
		}
	}
	return false
}

// first is when the step was first begun: a fixed time is not waited for anew.
func first(log []Record, record Record) time.Time {
	for _, one := range log {
		if one.Step == record.Step && one.Direction == record.Direction {
			return one.Began
		}
	}
	return record.Began
}

func (r *Runner) tell(e Event) {
	if r.Told == nil {
		return
	}
	e.Of = len(r.Book.Steps)
	for i, s := range r.Book.Steps {
		if s == e.Step {
			e.Number = i + 1
		}
	}
	r.Told(e)
}

// settle finds out what became of an attempt that may have changed something: its
// process ended without a word.
func (r *Runner) settle(ctx context.Context, n Next) error {
	record := *n.Open
	if err := r.Do.Quiet(ctx, n.Block); err != nil {
		return err
	}
	switch {
	case n.Block.Idempotent:
		record.Outcome, record.Detail.Reason = Unknown, "its process ended without a word; to do it again does no harm"
	case n.Block.Verify != "":
		verify := r.Book.named[n.Block.Verify]
		r.tell(Event{What: "wait", Step: n.Step, Block: n.Block, Text: "its process ended without a word; " + verify.ID + " says whether it was done"})
		_, err := r.until(ctx, verify)
		var not *NotHeldError
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			record.Outcome, record.Detail.Reason = Done, "its process ended without a word; "+verify.ID+" says that it was done"
		case errors.As(err, &not):
			record.Outcome, record.Detail.Reason = Unknown, "its process ended without a word; "+verify.ID+" says that it was not done: "+r.clean(err)
		default:
			return r.ask(ctx, n, record, fmt.Sprintf("its process ended without a word, and %s could not tell: %s", verify.ID, r.clean(err)))
		}
	default:
		return r.ask(ctx, n, record, "its process ended without a word, and nothing says that it may be run twice (idempotent=true) or how to find out (verify=ID)")
	}
	return r.end(ctx, n, record)
}

func (r *Runner) ask(ctx context.Context, n Next, record Record, why string) error {
	doubt := &DoubtError{Step: n.Step.ID, Why: why}
	if r.Doubt == nil {
		return errors.Join(doubt, r.Log.Mark(ctx, Waiting))
	}
	outcome, err := r.Doubt(ctx, n.Block, record)
	if err != nil {
		return errors.Join(doubt, r.Log.Mark(ctx, Waiting))
	}
	record.Outcome, record.Detail.Reason = outcome, "its process ended without a word; a person says so"
	return r.end(ctx, n, record)
}

func (r *Runner) once(ctx context.Context, block *Step) (Detail, error) {
	within, cancel := context.WithTimeout(ctx, time.Duration(block.Timeout))
	defer cancel()
	d, err := r.Do.Do(within, block, func(line string) { r.tell(Event{What: "line", Step: block, Block: block, Text: line}) })
	if err != nil && within.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("it took longer than %s and was stopped (%w)", block.Timeout, err)
	}
	return d, err
}

// until looks until the condition holds, for as long as the block may take. The error
// is that of the last look.
func (r *Runner) until(ctx context.Context, block *Step) (Detail, error) {
	within, cancel := context.WithTimeout(ctx, time.Duration(block.Timeout))
	defer cancel()
	var last Detail
	var lastErr error
	told := ""
	for looks := 1; ; looks++ {
		d, err := r.Do.Do(within, block, func(string) {})
		if err == nil {
			d.Looks = looks
			return d, nil
		}
		if lastErr == nil || within.Err() == nil { // else it was only cut off
			last, lastErr = d, err
		}
		if text := r.clean(err); text != told && within.Err() == nil {
			told = text
			r.tell(Event{What: "wait", Step: block, Block: block, Text: "not yet: " + text})
		}
		if sleep(within, time.Duration(block.Pause)) != nil {
			last.Looks = looks
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
func (r *Runner) pass(ctx context.Context, block *Step, began time.Time) error {
	now := time.Now()
	if c, ok := r.Log.(Clock); ok {
		var err error
		if now, err = c.Now(ctx); err != nil {
			return err
		}
	}
	left := min(began.Add(time.Duration(block.For)).Sub(now), time.Duration(block.For))
	if left > 0 {
		r.tell(Event{What: "wait", Step: block, Block: block, Text: fmt.Sprintf("%s are left", left.Round(time.Second))})
	}
	return sleep(ctx, left)
}

// approval waits for a person's word, which is given through the log.
func (r *Runner) approval(ctx context.Context, n Next, record Record) error {
	r.tell(Event{What: "wait", Step: n.Step, Block: n.Block, Record: record, Text: n.Block.Body})
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
				r.tell(Event{What: "end", Step: n.Step, Block: n.Block, Record: one})
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
