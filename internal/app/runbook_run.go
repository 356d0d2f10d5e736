package app

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/runbooks"
	"github.com/stranglerfig/migrator/runbook"
)

// RunbookView is a run with the records of its steps.
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

// ApproveStep approves or rejects a step that waits for an approval.
func ApproveStep(ctx context.Context, runs *runbooks.Runs, id int64, step string, outcome runbook.Outcome, reason string) (r runbook.Record, err error) {
	v, err := ViewRunbook(ctx, runs, id)
	if err != nil {
		return r, err
	}
	var open []string
	for _, s := range v.Steps {
		if s.Kind == runbook.Approve && s.Step == step {
			r = s
		}
		if s.Kind == runbook.Approve && s.Outcome == "" {
			if s.Step == step {
				return runs.Decide(ctx, id, step, outcome, reason)
			}
			open = append(open, s.Step)
		}
	}
	if r.Outcome == outcome {
		return r, nil // decided so before: it may be repeated
	}
	if len(open) > 0 {
		return r, refuseHint(hint.Hint{Do: hint.RunbookApprove, Of: []string{runID(id), open[0]}}, "step %s of run %d waits for no approval; %s does", step, id, strings.Join(open, ", "))
	}
	return r, notYetHint(showRun(id), "no step of run %d waits for an approval now", id)
}

// StepDecision is an operator's decision on a step's outcome.
type StepDecision struct {
	Step, Reason string // no Step: no decision
	Outcome      runbook.Outcome
}

// RunbookWork is one process's work on a recorded run.
type RunbookWork struct {
	Book     *runbook.Runbook
	Run      runbooks.Run
	Decision StepDecision // recorded before the run resumes
	Begins   func()       // called before the first step
	// Runner has the callbacks for an operator. Its Book, Log and Do are set by Work.
	Runner runbook.Runner
}

// Work runs the remaining steps, unless another process does. The view is nil if an error
// came before the first of them; otherwise it is returned with an error too.
func (b *Runbooks) Work(ctx context.Context, w RunbookWork) (*RunbookView, error) {
	runs := runbooks.New(b.State.Pool(), b.Config.Name)
	log, err := runs.Take(ctx, w.Run.ID)
	if errors.Is(err, runbooks.ErrRunbookTaken) {
		err = notYetHint(showRun(w.Run.ID), "%w", err)
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
	if state.IsDryRun(ctx) {
		view, err := ViewRunbook(ctx, runs, w.Run.ID)
		return &view, err
	}
	w.Begins()
	w.Runner.Book, w.Runner.Log, w.Runner.Do = w.Book, log, executors
	err = w.Runner.Run(ctx)
	view, viewErr := ViewRunbook(context.WithoutCancel(ctx), runs, w.Run.ID)
	if viewErr != nil {
		return nil, errors.Join(err, viewErr)
	}
	return &view, runError(ctx, w.Run.ID, err)
}

// decide records the operator's decision on a step.
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
		return refuseHint(showRun(id), "the present step of run %d is %s, not %s", id, at, d.Step)
	case n.Open != nil && n.Block.Kind == runbook.Approve:
		return refuseHint(hint.Hint{Do: hint.RunbookApprove, Of: []string{runID(id), d.Step}}, "step %s waits for an approval", d.Step)
	case n.Open != nil:
		_, err := runs.Decide(ctx, id, d.Step, d.Outcome, d.Reason)
		return err
	case n.End == runbook.RunFailed && n.Direction == runbook.Compensate:
		n.Attempt = lastAttempt(records, n) + 1
		return log.SaveOutcome(ctx, n, d.Outcome, d.Reason)
	}
	return refuseHint(showRun(id), "the outcome of step %s of run %d is not unknown", d.Step, id)
}

func lastAttempt(records []runbook.Record, n runbook.Next) (last int) {
	for _, r := range records {
		if r.Step == n.Step.ID && r.Direction == n.Direction {
			last = max(last, r.Attempt)
		}
	}
	return last
}

func runID(id int64) string { return strconv.FormatInt(id, 10) }

func showRun(id int64) hint.Hint {
	return hint.Hint{Do: hint.RunbookShow, Of: []string{runID(id)}}
}

// runError gives the error of a run the hint how to resume it.
func runError(ctx context.Context, id int64, err error) error {
	var doubt *runbook.UnknownOutcomeError
	var waits *runbook.WaitingError
	var still *runbook.StillRunningError
	var failed *runbook.FailedError
	resume := hint.Hint{Do: hint.RunbookResume, Of: []string{runID(id)}}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return hint.With(ctx.Err(), resume)
	case errors.As(err, &doubt):
		return notYetHint(hint.Hint{Do: hint.RunbookDecide, Of: []string{runID(id), doubt.Step, "done"}, Text: "or failed, or again"}, "%w", doubt)
	case errors.As(err, &waits):
		return notYetHint(resume, "%w", waits)
	case errors.As(err, &still):
		resume.Text = "once it has ended"
		return notYetHint(resume, "%w", still)
	case errors.As(err, &failed) && failed.Status == runbook.RunFailed && failed.Block != failed.Step:
		return hint.With(failed, hint.Hint{Do: hint.RunbookDecide, Of: []string{runID(id), failed.Step, "again"}})
	case errors.As(err, &failed):
		return hint.With(failed, showRun(id))
	}
	return err
}
