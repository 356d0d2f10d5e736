package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/internal/state/runbooks"
	"github.com/stranglerfig/migrator/runbook"
)

func newRunbookRun(c *cli) *cobra.Command {
	var yes, anew bool
	cmd := &cobra.Command{
		Use:   "run FILE|rollback|cutover",
		Short: "Run a runbook: a file, or one that is rendered from the description",
		Long: `Runs the steps in their order. Each step's intent is recorded before it acts, its
outcome after. When a step fails, what was done is taken back, last first. A run
that was killed or interrupted goes on by migrator runbook resume RUN.

Exit codes: 0 every step was done, 1 a step failed (whether what was done could be
taken back is said), 8 the run waits for a person.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("want one runbook: a file, rollback or cutover; try: migrator runbook run rollback")
			}
			return c.beginRunbook(cmd.Context(), args[0], yes, anew)
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "don't ask before steps with a warning")
	cmd.Flags().BoolVar(&anew, "anew", false, "begin another run though one of this runbook has not ended")
	return cmd
}

func newRunbookResume(c *cli) *cobra.Command {
	var yes, changed bool
	var step, outcome, reason string
	cmd := &cobra.Command{
		Use:   "resume RUN",
		Short: "Go on with a run that was killed, interrupted, or waits for a word",
		Long: `Goes on where the records end. A step that was begun and has no outcome is run again
if it says that this does no harm; else its verification tells whether it was done;
else you do: --step ID --outcome done, failed or again. The same words help on a
step that has failed for good while the run took back what it did.

A run whose commands were filled in under another configuration than the one that is
applied now is refused, unless --despite-changes says that they still fit.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			id, _, err := runArgs(args)
			if err != nil {
				return err
			}
			if (step == "") != (outcome == "") {
				return usagef("--step and --outcome go together; try: migrator runbook resume %d --step ID --outcome done", id)
			}
			decision := app.StepDecision{Step: step, Reason: reason}
			switch outcome {
			case "":
			case "done":
				decision.Outcome = runbook.Done
			case "failed":
				decision.Outcome = runbook.Failed
			case "again":
				decision.Outcome = runbook.Unknown
			default:
				return usagef("--outcome %q: want done, failed or again; try: migrator runbook show %d", outcome, id)
			}
			return c.resumeRunbook(cmd.Context(), id, decision, yes, changed)
		},
	}
	f := cmd.Flags()
	f.StringVar(&step, "step", "", "the step that you know about")
	f.StringVar(&outcome, "outcome", "", "what you know: it was `done`, it failed (failed), or it was not done and is to be run (again)")
	f.StringVar(&reason, "reason", "", "how you know, for the log")
	f.BoolVar(&changed, "despite-changes", false, "go on though the configuration has changed since the run began")
	f.BoolVarP(&yes, "yes", "y", false, "don't ask before steps with a warning")
	return cmd
}

// openRunbooks needs the state, and takes the migration file where there is one.
func (c *cli) openRunbooks(ctx context.Context) (*app.Runbooks, error) {
	b := &app.Runbooks{File: c.settings.descriptionFile(), StateURLFile: c.settings.StateURLFile}
	var err error
	if b.File != "" {
		if b.Config, err = c.load(); err != nil {
			return nil, err
		}
	}
	if b.StateURL, err = c.settings.stateURL(); err != nil {
		return nil, err
	}
	if b.State, err = c.openState(ctx); err != nil {
		return nil, err
	}
	name, err := c.name(ctx, b.State, nil)
	if err == nil {
		b.At, err = b.State.Status(ctx, name)
	}
	if err == nil && b.Config == nil {
		b.Config, err = app.Applied(ctx, b.State, name)
	}
	if err != nil {
		b.State.Close()
		return nil, err
	}
	return b, nil
}

func (c *cli) beginRunbook(ctx context.Context, what string, yes, anew bool) error {
	b, err := c.openRunbooks(ctx)
	if err != nil {
		return err
	}
	defer b.State.Close()
	r, run, err := b.Begin(ctx, what, anew)
	if err != nil {
		return err
	}
	return c.workRunbook(ctx, b, app.RunbookWork{Book: r, Run: run}, yes)
}

func (c *cli) resumeRunbook(ctx context.Context, id int64, decision app.StepDecision, yes, changed bool) error {
	b, err := c.openRunbooks(ctx)
	if err != nil {
		return err
	}
	defer b.State.Close()
	run, err := runbooks.New(b.State.Pool(), b.Config.Name).Run(ctx, id)
	if err != nil {
		return err
	}
	if run.ConfigHash != b.At.ConfigHash {
		drift := fmt.Errorf("run %d began under the configuration %s, from which its commands were filled in, and %s is applied now", id, humanize.Short(run.ConfigHash), humanize.Short(b.At.ConfigHash))
		if !changed {
			return usage(drift, fmt.Sprintf("migrator runbook export %d, and if they still fit: migrator runbook resume %d --despite-changes", id, id))
		}
		c.note("%s; it goes on all the same", drift)
	}
	r, err := b.Reread(run)
	if err != nil {
		return err
	}
	return c.workRunbook(ctx, b, app.RunbookWork{Book: r, Run: run, Decision: decision}, yes)
}

// workRunbook works a run, with this terminal as the person's.
func (c *cli) workRunbook(ctx context.Context, b *app.Runbooks, w app.RunbookWork, yes bool) error {
	id := w.Run.ID
	w.Begins = func() { c.note("run %d of %s: %s", id, w.Book.Name, w.Book.Title) }
	w.Runner = runbook.Runner{
		Notify: c.runbookProgress(ctx, runbooks.New(b.State.Pool(), b.Config.Name), id), UnknownOutcome: c.doubt, Poll: 500 * time.Millisecond,
		Warn: func(ctx context.Context, s *runbook.Step) error { return c.confirm(ctx, yes, "Go on with "+s.ID+"?") },
	}
	view, err := b.Work(ctx, w)
	if view != nil {
		if showErr := c.show(view, func() {
			c.printf("run %d of %s: %s\n", id, w.Book.Name, c.paintStatus(string(view.Run.Status)))
		}); showErr != nil {
			return showErr
		}
	}
	return err
}
