package main

import (
	"context"
	"errors"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/reconciles"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/reconcile"
)

// runArgument parses the optional number of a run; 0: the newest.
func runArgument(args []string) (int64, error) {
	if len(args) == 0 {
		return 0, nil
	}
	id, err := strconv.ParseInt(args[0], 10, 64)
	if err != nil || id <= 0 || len(args) > 1 {
		return 0, usageTry(hint.Hint{Do: hint.ReconcileList}, "run %q: want one number", args[0])
	}
	return id, nil
}

// newReconcileMark is a command that marks a run; the run's processes read the mark.
func newReconcileMark(c *cli, use, short, done string, mark func(ctx context.Context, kept *reconciles.Runs, run reconcile.Run, reason string) error) *cobra.Command {
	var migration, reason string
	cmd := &cobra.Command{
		Use: use + " [RUN]", Short: short, Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := runArgument(args)
			if err != nil {
				return err
			}
			return c.withState(func(ctx context.Context, store *state.Store, name string) error {
				kept := reconciles.New(store.Pool(), name)
				run, _, err := kept.Unfinished(ctx, id)
				if run.Status == reconcile.Cancelled && use == "cancel" { // before: it may be repeated
					return c.show(run, func() { c.printf(done+"\n", run.ID, name) })
				}
				if err != nil {
					return noRun(err)
				}
				if err := mark(ctx, kept, run, reason); err != nil {
					return noRun(err)
				}
				if run, err = kept.Run(ctx, run.ID); err != nil {
					return err
				}
				return c.show(run, func() {
					if c.dryRun {
						c.printf("Nothing was changed. Without --dry-run: ")
					}
					c.printf(done+"\n", run.ID, name)
				})
			})(cmd, named(migration))
		},
	}
	cmd.Flags().StringVarP(&migration, "migration", "m", "", "the migration, if there are several")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for operators who wait for the run")
	return c.canDryRun(cmd)
}

func named(migration string) []string {
	if migration == "" {
		return nil
	}
	return []string{migration}
}

func noRun(err error) error {
	if errors.Is(err, reconciles.ErrNoRun) {
		return codedError{err, exitUsage}
	}
	return err
}

func newReconcilePause(c *cli) *cobra.Command {
	return newReconcileMark(c, "pause", "Pause a run and all of its workers", "Run %d of %s is paused. To resume it: migrator reconcile resume",
		func(ctx context.Context, kept *reconciles.Runs, run reconcile.Run, reason string) error {
			return kept.Pause(ctx, run.ID, reason, false)
		})
}

func newReconcileCancel(c *cli) *cobra.Command {
	return newReconcileMark(c, "cancel", "Cancel a run; its findings stay listed", "Run %d of %s is cancelled.",
		func(ctx context.Context, kept *reconciles.Runs, run reconcile.Run, reason string) error {
			return kept.Cancel(ctx, run.ID, reason)
		})
}

func newReconcileResume(c *cli) *cobra.Command {
	var report reportFlags
	cmd := &cobra.Command{
		Use:   "resume [RUN]",
		Short: "Resume a paused or interrupted run",
		Long: `Ends a pause. If no process coordinates the run any more, because it was stopped or
killed, this one does: it works on the jobs that are not done, rechecks the suspects,
and reports as reconcile run does. The jobs that are done count.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			id, err := runArgument(args)
			if err != nil {
				return err
			}
			if err := report.check(); err != nil {
				return err
			}
			j, err := c.openJobWith(ctx, true, (*migration.Config).LimitLoad)
			if err != nil {
				return err
			}
			defer j.Close()
			kept := reconciles.New(j.State.Pool(), j.Config.Name)
			run, coordinated, err := kept.Unfinished(ctx, id)
			if err != nil {
				return noRun(err)
			}
			result := func(word string) error {
				return c.show(app.Reconciled{Run: run, Claim: reconcile.Claim(run), Findings: []reconcile.Finding{}}, func() { c.printf("Run %d of %s %s.\n", run.ID, j.Config.Name, word) })
			}
			if !coordinated && c.dryRun {
				return result("would be resumed by this process (nothing was changed)")
			}
			if !coordinated {
				return c.reconcile(ctx, j, reconcile.RunOptions{Resume: run.ID, Repair: run.Repair}, nil, report)
			}
			if run.Status != reconcile.Paused {
				return result("is running: nothing was changed")
			}
			if err := kept.Continue(ctx, run.ID, false); err != nil {
				return noRun(err)
			}
			if run, err = kept.Run(ctx, run.ID); err != nil {
				return err
			}
			if c.dryRun {
				return result("would be resumed (nothing was changed)")
			}
			return result("resumed")
		},
	}
	report.add(cmd.Flags())
	return c.canDryRun(cmd)
}
