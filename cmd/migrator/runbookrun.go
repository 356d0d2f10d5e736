package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/runbooks"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
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
			word := personsWord{step: step, reason: reason}
			switch outcome {
			case "":
			case "done":
				word.outcome = runbook.Done
			case "failed":
				word.outcome = runbook.Failed
			case "again":
				word.outcome = runbook.Unknown
			default:
				return usagef("--outcome %q: want done, failed or again; try: migrator runbook show %d", outcome, id)
			}
			return c.resumeRunbook(cmd.Context(), id, word, yes, changed)
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

// personsWord is what somebody says about a step.
type personsWord struct {
	step, reason string
	outcome      runbook.Outcome
}

// bookshelf is the description at hand, if any, and the state.
type bookshelf struct {
	m     *migration.Config // nil: there is none at hand
	store *state.Store
	at    phases.Standing
}

// openShelf needs the state, and takes the description where there is one.
func (c *cli) openShelf(ctx context.Context) (*bookshelf, error) {
	b := &bookshelf{}
	var err error
	if c.settings.descriptionFile() != "" {
		if b.m, err = c.load(); err != nil {
			return nil, err
		}
	}
	if b.store, err = c.openState(ctx); err != nil {
		return nil, err
	}
	name, err := c.name(ctx, b.store, nil)
	if err == nil {
		b.at, err = b.store.Standing(ctx, name)
	}
	if err == nil && b.m == nil {
		b.m, err = appliedSettings(ctx, b.store, name)
	}
	if err != nil {
		b.store.Close()
		return nil, err
	}
	return b, nil
}

// open reads a file, or renders one of the names.
func (c *cli) openBook(ctx context.Context, b *bookshelf, what string) (*runbook.Runbook, string, error) {
	if !slices.Contains(runbook.Rendered, what) {
		r, err := runbook.Load(what, runbook.Values(b.m))
		if errors.Is(err, os.ErrNotExist) {
			err = usagef("%w; what can be rendered is %s; try: migrator runbook render rollback", err, strings.Join(runbook.Rendered, ", "))
		} else if err != nil {
			err = coded{err, exitUsage}
		}
		return r, what, err
	}
	text, err := c.renderBook(ctx, b, what)
	if err != nil {
		return nil, "", err
	}
	r, err := runbook.Parse(what, text, nil)
	if r != nil {
		r.File = c.settings.descriptionFile() // its connections' files are beside the description
	}
	return r, "", err
}

// applies refuses a runbook that is for something else.
func applies(r *runbook.Runbook, b *bookshelf, begins bool) error {
	a := r.AppliesTo
	switch {
	case len(a.Migrations) > 0 && !slices.Contains(a.Migrations, b.m.Name):
		return usagef("%s is for %s, not for %s; try: migrator runbook render %s", r.Name, strings.Join(a.Migrations, ", "), b.m.Name, runbook.Rendered[0])
	case len(a.Environments) > 0 && !slices.Contains(a.Environments, b.m.Environment):
		return usagef("%s is for %s, and the environment of %s is %s", r.Name, strings.Join(a.Environments, ", "), b.m.Name, b.m.Environment)
	case begins && len(a.Phases) > 0 && !slices.Contains(a.Phases, b.at.Route.Phase):
		words := make([]string, len(a.Phases))
		for i, p := range a.Phases {
			words[i] = string(p)
		}
		return usagef("%s is for the phases %s, and %s is on %s; try: migrator status", r.Name, strings.Join(words, ", "), b.m.Name, b.at.Route)
	case r.ConfigHash != "" && r.ConfigHash != b.at.ConfigHash:
		return usagef("%s was rendered from the configuration %s, and %s is applied; try: migrator runbook render %s", r.Name, short12(r.ConfigHash), short12(b.at.ConfigHash), r.Name)
	}
	return nil
}

func (c *cli) beginRunbook(ctx context.Context, what string, yes, anew bool) error {
	b, err := c.openShelf(ctx)
	if err != nil {
		return err
	}
	defer b.store.Close()
	r, path, err := c.openBook(ctx, b, what)
	if err == nil {
		err = applies(r, b, true)
	}
	if err != nil {
		return err
	}
	runs := runbooks.New(b.store.Pool(), b.m.Name)
	if path != "" {
		if path, err = filepath.Abs(path); err != nil {
			return err
		}
	}
	run, err := runs.Begin(ctx, r, path, anew)
	var open *runbooks.UnfinishedError
	if errors.As(err, &open) {
		err = notYet(fmt.Errorf("%w; try: migrator runbook resume %d, or the same command with --anew", err, open.Run.ID))
	}
	if err != nil {
		return err
	}
	return c.goOn(ctx, b, runs, run, r, personsWord{}, yes)
}

func (c *cli) resumeRunbook(ctx context.Context, id int64, word personsWord, yes, changed bool) error {
	b, err := c.openShelf(ctx)
	if err != nil {
		return err
	}
	defer b.store.Close()
	runs := runbooks.New(b.store.Pool(), b.m.Name)
	run, err := runs.Run(ctx, id)
	if err != nil {
		return err
	}
	if run.ConfigHash != b.at.ConfigHash {
		told := fmt.Errorf("run %d began under the configuration %s, from which its commands were filled in, and %s is applied now", id, short12(run.ConfigHash), short12(b.at.ConfigHash))
		if !changed {
			return usage(told, fmt.Sprintf("migrator runbook export %d, and if they still fit: migrator runbook resume %d --despite-changes", id, id))
		}
		c.note("%s; it goes on all the same", told)
	}
	// Its values were filled in when it began.
	r, err := runbook.Reread(fmt.Sprintf("run %d", id), run.Source)
	if err != nil {
		return err
	}
	if r.File = run.Path; r.File == "" {
		r.File = c.settings.descriptionFile()
	}
	return c.goOn(ctx, b, runs, run, r, word, yes)
}

// goOn is the one process that is at the run.
func (c *cli) goOn(ctx context.Context, b *bookshelf, runs *runbooks.Runs, run runbooks.Run, r *runbook.Runbook, word personsWord, yes bool) error {
	log, err := runs.Take(ctx, run.ID)
	if errors.Is(err, runbooks.ErrRunbookTaken) {
		err = notYet(fmt.Errorf("%w; try: migrator runbook show %d", err, run.ID))
	}
	if err != nil {
		return err
	}
	defer log.Release()
	if word.step != "" {
		if err := say(ctx, runs, log, run.ID, r, word); err != nil {
			return err
		}
	}
	tools, err := c.runbookTools(b, r, run)
	if err != nil {
		return err
	}
	defer func() { _ = tools.Close() }()
	c.note("run %d of %s: %s", run.ID, r.Name, r.Title)
	runner := runbook.Runner{
		Book: r, Log: log, Do: tools, Notify: c.toldOf(ctx, runs, run.ID),
		UnknownOutcome: c.doubt, Poll: 500 * time.Millisecond,
		Warn: func(ctx context.Context, s *runbook.Step) error { return c.confirm(ctx, yes, "Go on with "+s.ID+"?") },
	}
	err = runner.Run(ctx)
	view, viewErr := viewRun(context.WithoutCancel(ctx), runs, run.ID)
	if viewErr != nil {
		return errors.Join(err, viewErr)
	}
	if showErr := c.show(view, func() {
		c.printf("run %d of %s: %s\n", run.ID, r.Name, c.paintStatus(string(view.Run.Status)))
	}); showErr != nil {
		return showErr
	}
	return c.runError(ctx, run.ID, err)
}

// runError says how a run is gone on with.
func (c *cli) runError(ctx context.Context, id int64, err error) error {
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
		return notYet(fmt.Errorf("%w; try: migrator runbook resume %d --step %s --outcome done, or failed, or again", doubt, id, doubt.Step))
	case errors.As(err, &waits):
		return notYet(fmt.Errorf("%w; try: migrator runbook resume %d", waits, id))
	case errors.As(err, &still):
		return notYet(fmt.Errorf("%w; try: migrator runbook resume %d, once it has ended", still, id))
	case errors.As(err, &failed) && failed.Status == runbook.RunFailed && failed.Block != failed.Step:
		return fmt.Errorf("%w; try: migrator runbook resume %d --step %s --outcome again", failed, id, failed.Step)
	case errors.As(err, &failed):
		return fmt.Errorf("%w; try: migrator runbook show %d", failed, id)
	}
	return err
}

// say keeps a person's word about a step.
func say(ctx context.Context, runs *runbooks.Runs, log *runbooks.Log, id int64, r *runbook.Runbook, word personsWord) error {
	records, err := log.Records(ctx)
	if err != nil {
		return err
	}
	n := r.Next(records)
	switch {
	case n.Step == nil || n.Step.ID != word.step:
		at := "none"
		if n.Step != nil {
			at = n.Step.ID
		}
		return usagef("the step that run %d is at is %s, not %s; try: migrator runbook show %d", id, at, word.step, id)
	case n.Open != nil && n.Block.Kind == runbook.Approve:
		return usagef("step %s waits for an approval; try: migrator runbook approve %d %s", word.step, id, word.step)
	case n.Open != nil:
		_, err := runs.Word(ctx, id, word.step, word.outcome, word.reason)
		return err
	case n.End == runbook.RunFailed && n.Direction == runbook.Compensate:
		n.Attempt = lastAttempt(records, n) + 1
		return log.Say(ctx, n, word.outcome, word.reason)
	}
	return usagef("step %s of run %d is not in doubt; try: migrator runbook show %d", word.step, id, id)
}

func lastAttempt(records []runbook.Record, n runbook.Next) (last int) {
	for _, r := range records {
		if r.Step == n.Step.ID && r.Direction == n.Direction {
			last = max(last, r.Attempt)
		}
	}
	return last
}
