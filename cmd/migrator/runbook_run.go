package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/internal/state/runbooks"
	"github.com/stranglerfig/migrator/runbook"
)

func newRunbookRun(c *cli) *cobra.Command {
	var yes, another bool
	cmd := &cobra.Command{
		Use:   "run FILE|rollback|cutover",
		Short: "Run a runbook: a file, or a rendered one",
		Long: `Runs the steps in their order. Each step's intent is recorded before it acts, its
outcome after. When a step fails, the steps that are done are compensated, last first.
migrator runbook resume RUN resumes an interrupted run.

Exit codes: 0 every step was done, 1 a step failed (the output reports whether the
compensation succeeded), 8 the run waits for a person.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageTry(try("migrator runbook run rollback"), "want one runbook: a file, rollback or cutover")
			}
			return c.beginRunbook(cmd.Context(), args[0], yes, another)
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "don't ask before steps with a warning")
	cmd.Flags().BoolVar(&another, "anew", false, "start another run although one of this runbook has not ended")
	return cmd
}

func newRunbookResume(c *cli) *cobra.Command {
	var yes, changed bool
	var step, outcome, reason string
	cmd := &cobra.Command{
		Use:   "resume RUN",
		Short: "Resume a run that was interrupted or waits for a person",
		Long: `Resumes after the last recorded step. A step that began and has no outcome is run again
if it is marked idempotent; else its verification decides whether it was done; else you
decide: --step ID --outcome done, failed or again. The same flags decide a compensation
step that has failed for good.

A run whose commands were filled in under another config hash than the applied one is
refused, unless --despite-changes confirms that they still fit.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			id, _, err := runArgs(args)
			if err != nil {
				return err
			}
			if (step == "") != (outcome == "") {
				return usageTry(try("migrator runbook resume %d --step ID --outcome done", id), "--step and --outcome need each other")
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
				return usageTry(hint.Hint{Do: hint.RunbookShow, Of: []string{strconv.FormatInt(id, 10)}}, "--outcome %q: want done, failed or again", outcome)
			}
			return c.resumeRunbook(cmd.Context(), id, decision, yes, changed)
		},
	}
	f := cmd.Flags()
	f.StringVar(&step, "step", "", "the step whose outcome you know")
	f.StringVar(&outcome, "outcome", "", "its outcome: `done`, failed, or again (it was not done: run it again)")
	f.StringVar(&reason, "reason", "", "how you know, for the log")
	f.BoolVar(&changed, "despite-changes", false, "resume although the applied configuration has changed since the run began")
	f.BoolVarP(&yes, "yes", "y", false, "don't ask before steps with a warning")
	return c.canDryRun(cmd)
}

// openRunbooks opens the state, and reads the migration file if there is one.
func (c *cli) openRunbooks(ctx context.Context) (*app.Runbooks, error) {
	b := &app.Runbooks{File: c.settings.migrationFile(), StateURLFile: c.settings.StateURLFile}
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

func (c *cli) beginRunbook(ctx context.Context, what string, yes, another bool) error {
	b, err := c.openRunbooks(ctx)
	if err != nil {
		return err
	}
	defer b.State.Close()
	r, run, err := b.Begin(ctx, what, another)
	if err != nil {
		return err
	}
	return c.executeRunbook(ctx, b, app.RunbookWork{Book: r, Run: run}, yes)
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
		drift := fmt.Errorf("run %d began under config hash %s, from which its commands were filled in, and %s is applied now", id, humanize.Short(run.ConfigHash), humanize.Short(b.At.ConfigHash))
		if !changed {
			return usage(drift, fmt.Sprintf("migrator runbook export %d, and if they still fit: migrator runbook resume %d --despite-changes", id, id))
		}
		c.note("%s; resuming anyway", drift)
	}
	r, err := b.Reread(run)
	if err != nil {
		return err
	}
	return c.executeRunbook(ctx, b, app.RunbookWork{Book: r, Run: run, Decision: decision}, yes)
}

// executeRunbook executes a run and prompts on this terminal.
func (c *cli) executeRunbook(ctx context.Context, b *app.Runbooks, w app.RunbookWork, yes bool) error {
	id := w.Run.ID
	w.Begins = func() { c.note("run %d of %s: %s", id, w.Book.Name, w.Book.Title) }
	w.Runner = runbook.Runner{
		Notify: c.runbookProgress(ctx, runbooks.New(b.State.Pool(), b.Config.Name), id), UnknownOutcome: c.askOutcome, Poll: 500 * time.Millisecond,
		Warn: func(ctx context.Context, s *runbook.Step) error {
			if !c.interactive() {
				return nil
			}
			return c.confirm(ctx, yes, "Continue with "+s.ID+"?")
		},
	}
	view, err := b.Work(ctx, w)
	if view != nil {
		if showErr := c.show(view, func() {
			if c.dryRun {
				c.printf("run %d of %s would be resumed (nothing was changed)\n", id, w.Book.Name)
				return
			}
			c.printf("run %d of %s: %s\n", id, w.Book.Name, c.paintStatus(string(view.Run.Status)))
		}); showErr != nil {
			return showErr
		}
	}
	return err
}
