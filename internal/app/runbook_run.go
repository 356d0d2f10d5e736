package app

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/stranglerfig/migrator/internal/state/runbooks"
	"github.com/stranglerfig/migrator/runbook"
)

// RunbookView is a run with all that was recorded of it.
type RunbookView struct {
	Run   runbooks.Run     `json:"run"`
	Steps []runbook.Record `json:"steps"`
}

// ViewRunbook reads a run.
func ViewRunbook(ctx context.Context, runs *runbooks.Runs, id int64) (v RunbookView, err error) {
	if v.Run, err = runs.Run(ctx, id); err == nil {
		v.Steps, err = runs.Records(ctx, id)
	}
	if v.Steps == nil {
		v.Steps = []runbook.Record{}
	}
	return v, err
}

// ApproveStep approves or rejects a step that waits for a person.
func ApproveStep(ctx context.Context, runs *runbooks.Runs, id int64, step string, outcome runbook.Outcome, reason string) (r runbook.Record, err error) {
	v, err := ViewRunbook(ctx, runs, id)
	if err != nil {
		return r, err
	}
	var open []string
	for _, s := range v.Steps {
		if s.Kind == runbook.Approve && s.Outcome == "" {
			if s.Step == step {
				return runs.Decide(ctx, id, step, outcome, reason)
			}
			open = append(open, s.Step)
		}
	}
	if len(open) > 0 {
		return r, refuse("step %s of run %d waits for no approval; %s does; try: migrator runbook approve %d %s", step, id, strings.Join(open, ", "), id, open[0])
	}
	return r, notYet("no step of run %d waits for an approval now; try: migrator runbook show %d", id, id)
}

// StepDecision is what a person knows of a step's outcome.
type StepDecision struct {
	Step, Reason string // no Step: nothing
	Outcome      runbook.Outcome
}

// RunbookWork is what one process does for a recorded run.
type RunbookWork struct {
	Book     *runbook.Runbook
	Run      runbooks.Run
	Decision StepDecision // recorded before the run goes on
	Begins   func()       // called before the first step
	// Runner is how a person takes part. Its Book, Log and Do are set by Work.
	Runner runbook.Runner
}

// Work runs the steps that are left, unless another process does. The view is nil if it
// did not get to them; else it is returned with an error too.
func (b *Runbooks) Work(ctx context.Context, w RunbookWork) (*RunbookView, error) {
	runs := runbooks.New(b.State.Pool(), b.Config.Name)
	log, err := runs.Take(ctx, w.Run.ID)
	if errors.Is(err, runbooks.ErrRunbookTaken) {
		err = notYet("%w; try: migrator runbook show %d", err, w.Run.ID)
	}
	if err != nil {
		return nil, err
	}
	defer log.Release()
	if w.Decision.Step != "" {
		if err := w.decide(ctx, runs, log); err != nil {
			return nil, err
		}
	}
	executors, err := b.Executor(w.Book, w.Run)
	if err != nil {
		return nil, err
	}
	defer func() { _ = executors.Close() }()
	w.Begins()
	w.Runner.Book, w.Runner.Log, w.Runner.Do = w.Book, log, executors
	err = w.Runner.Run(ctx)
	view, viewErr := ViewRunbook(context.WithoutCancel(ctx), runs, w.Run.ID)
	if viewErr != nil {
		return nil, errors.Join(err, viewErr)
	}
	return &view, runError(ctx, w.Run.ID, err)
}

// decide records a person's decision on a step.
func (w *RunbookWork) decide(ctx context.Context, runs *runbooks.Runs, log *runbooks.Log) error {
	records, err := log.Records(ctx)
	if err != nil {
		return err
	}
	d, id := w.Decision, w.Run.ID
	n := w.Book.Next(records)
	switch {
	case n.Step == nil || n.Step.ID != d.Step:
		at := "none"
		if n.Step != nil {
			at = n.Step.ID
		}
		return refuse("the step that run %d is at is %s, not %s; try: migrator runbook show %d", id, at, d.Step, id)
	case n.Open != nil && n.Block.Kind == runbook.Approve:
		return refuse("step %s waits for an approval; try: migrator runbook approve %d %s", d.Step, id, d.Step)
	case n.Open != nil:
		_, err := runs.Decide(ctx, id, d.Step, d.Outcome, d.Reason)
		return err
	case n.End == runbook.RunFailed && n.Direction == runbook.Compensate:
		n.Attempt = lastAttempt(records, n) + 1
		return log.SaveOutcome(ctx, n, d.Outcome, d.Reason)
	}
	return refuse("step %s of run %d is not in doubt; try: migrator runbook show %d", d.Step, id, id)
}

func lastAttempt(records []runbook.Record, n runbook.Next) (last int) {
	for _, r := range records {
		if r.Step == n.Step.ID && r.Direction == n.Direction {
			last = max(last, r.Attempt)
		}
	}
	return last
}

// runError says how a run is resumed.
func runError(ctx context.Context, id int64, err error) error {
	var doubt *runbook.UnknownOutcomeError
	var waits *runbook.WaitingError
	var still *runbook.StillRunningError
	var failed *runbook.FailedError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%w; try: migrator runbook resume %d", ctx.Err(), id)
	case errors.As(err, &doubt):
		return notYet("%w; try: migrator runbook resume %d --step %s --outcome done, or failed, or again", doubt, id, doubt.Step)
	case errors.As(err, &waits):
		return notYet("%w; try: migrator runbook resume %d", waits, id)
	case errors.As(err, &still):
		return notYet("%w; try: migrator runbook resume %d, once it has ended", still, id)
	case errors.As(err, &failed) && failed.Status == runbook.RunFailed && failed.Block != failed.Step:
		return fmt.Errorf("%w; try: migrator runbook resume %d --step %s --outcome again", failed, id, failed.Step)
	case errors.As(err, &failed):
		return fmt.Errorf("%w; try: migrator runbook show %d", failed, id)
	}
	return err
}
