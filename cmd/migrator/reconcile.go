package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/backfill"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/store"
)

// jobError gives exit code 8 to a job that only has to wait for another.
func jobError(err error) error {
	if errors.Is(err, reconcile.ErrRunning) {
		return notYet(hint.With(err, hint.Hint{Do: hint.ReconcileList}))
	}
	if errors.Is(err, backfill.ErrRunning) || errors.Is(err, backfill.ErrNotReady) {
		return notYet(err)
	}
	if errors.Is(err, store.ErrRecentColumn) {
		return codedError{err, exitUsage}
	}
	return err
}

func newReconcile(c *cli) *cobra.Command {
	return group("reconcile", "Compare both stores and repair the target",
		newReconcileRun(c), newReconcilePause(c), newReconcileResume(c), newReconcileCancel(c),
		newReconcileList(c), newReconcileSchedule(c), newReconcileShow(c), newReconcileExplain(c))
}

func newReconcileRun(c *cli) *cobra.Command {
	var full, oneWay, fresh bool
	var sample string
	var rate int
	var report reportFlags
	var repairs repairFlags
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Compare both stores; exit with 8 if they differ",
		Long: `Compares a sample of legacy's records with the target (the next slice of blocks,
so that enough runs cover everything), or with --full every record, and the
target's for what legacy lacks. Suspects are read again until both sides agree or the
difference is confirmed: only differences count. --repair repairs them once all is
compared, and journaled keys too; --repair=plan prints what that would do. If more
differs than reconcile.max_difference allows, nothing is repaired: see --force, which asks
first, and without a terminal needs --yes.

A run that repaired something is not clean: only a later one proves the repair.

Other machines take jobs of it with migrator worker. An interrupted run of the same kind
is resumed, unless --fresh is given.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if oneWay && !full {
				return usagef("--one-way needs --full: a sampled run compares one way only")
			}
			if err := inRange(inRate("rate", rate)); err != nil {
				return err
			}
			if err := repairs.check(cmd.Flags()); err != nil {
				return err
			}
			if err := report.check(); err != nil {
				return err
			}
			if err := repairs.confirm(cmd.Context(), c); err != nil {
				return err
			}
			j, err := c.openJobWith(cmd.Context(), true, (*migration.Config).LimitLoad)
			if err != nil {
				return err
			}
			defer j.Close()
			o := reconcile.RunOptions{Full: full, TwoWay: full && !oneWay, Sample: j.Config.Reconcile.Sample}
			if sample != "" {
				if full {
					return usagef("--full and --sample exclude each other")
				}
				if o.Sample, err = phases.ParsePercent(sample); err != nil {
					return usage(err, "--sample 1")
				}
			}
			if cmd.Flags().Changed("rate") {
				j.Config.Reconcile.Rate = rate
			}
			plan := repairs.apply(cmd.Flags(), j, &o)
			if !fresh && plan == nil {
				if o.Resume, err = c.interruptedRun(cmd.Context(), j, o, sample != ""); err != nil {
					return err
				}
			}
			return c.reconcile(cmd.Context(), j, o, plan, report)
		},
	}
	f := cmd.Flags()
	report.add(f)
	f.BoolVar(&fresh, "fresh", false, "start a new run, even if one of this kind was interrupted")
	f.BoolVar(&full, "full", false, "compare every record, and find those that only the target has")
	f.BoolVar(&oneWay, "one-way", false, "with --full: skip the search for records that only the target has")
	f.StringVar(&sample, "sample", "", "per cent of legacy's blocks (default: the migration file's)")
	f.IntVar(&rate, "rate", 0, "records per second at most (default: the migration file's)")
	repairs.flags(f)
	return cmd
}

func (c *cli) reconcile(ctx context.Context, j *app.Job, o reconcile.RunOptions, plan *plannedRepairs, report reportFlags) error {
	at, err := j.CheckReconcile(ctx, o.Repair)
	if err != nil {
		return err
	}
	if at == phases.Retain {
		c.note("records that were written since the fence are in the target alone, and are skipped")
	}
	if err := j.ReachTarget(ctx); err != nil {
		return err
	}
	bar, journal := c.progress("reconcile"), c.progress("journal")
	run, findings, err := j.Reconcile(ctx, app.Reconcile{RunOptions: o, Log: c.log, OnPause: c.reconcilePaused, Journal: journal.set, Progress: func(run reconcile.Run) {
		bar.set(run.Progress())
	}})
	journal.close()
	bar.close()
	if run.Status == reconcile.Stopped && plan == nil && ctx.Err() != nil {
		return hint.With(err, hint.Hint{Do: hint.ReconcileResume})
	}
	if err != nil {
		return jobError(err)
	}
	if err := report.write(ctx, j, run); err != nil {
		return err
	}
	result := app.Reconciled{Run: run, Claim: reconcile.Claim(run), Findings: append([]reconcile.Finding{}, findings...), Plan: plan.list()}
	covered, err := app.Coverage(ctx, j.State, j.Config)
	if err != nil {
		return err
	}
	result.Coverage = &covered
	st, err := j.State.Status(ctx, j.Config.Name)
	if err != nil {
		return err
	}
	result.CountsFrom = app.CountsFrom(run, st)
	if err := c.show(result, func() {
		if report.summary {
			c.printf("%s\n", app.RunSummary(j.Config.Name, run))
			return
		}
		_ = reconcile.WriteReport(c.out, run, result.Coverage, findings)
		plan.write(c)
	}); err != nil {
		return err
	}
	if !result.CountsFrom.IsZero() {
		c.note("this run does not count for cutover: an instance ended uncleanly, and its writes may land until %s; one that begins after that does", result.CountsFrom.UTC().Format(time.RFC3339))
	}
	return differences(run, o.Repair, plan != nil)
}

func (c *cli) reconcilePaused(run int64, why string) {
	if why == "" {
		c.note("run %d resumed", run)
		return
	}
	c.note("run %d is paused (%s); to resume it: migrator reconcile resume", run, why)
}

// differences is nil if the run has found none; else its hint is the next command.
func differences(run reconcile.Run, repair, planned bool) error {
	left := run.Differences - run.Repaired
	switch {
	case run.Differences == 0:
		return nil
	case run.Refused != "":
		return notYet(hint.Errorf(try("migrator reconcile explain KEY for some of the keys; if legacy is right about all of them, repeat the run with --force"), "too much differs for a repair, and nothing was repaired"))
	case repair && run.Repaired == 0:
		return notYet(errors.New("the stores differ, and no difference could be repaired; see the report"))
	case repair && left > 0:
		return notYet(hint.Errorf(hint.Hint{Do: hint.ReconcileFullRepair}, "%s differences were repaired and %s were not; see the report", humanize.Count(run.Repaired), humanize.Count(left)))
	case repair:
		return notYet(hint.Errorf(hint.Hint{Do: hint.ReconcileFull}, "differences were found and repaired; only a later clean run proves it"))
	case planned:
		return notYet(hint.Errorf(hint.Hint{Do: hint.ReconcileFullRepair}, "the stores differ, and this was only the plan"))
	}
	return notYet(hint.Errorf(try("migrator reconcile run --full --repair=plan"), "the stores differ"))
}

// interruptedRun is the interrupted run of the same kind; 0: none.
func (c *cli) interruptedRun(ctx context.Context, j *app.Job, o reconcile.RunOptions, sampled bool) (int64, error) {
	if sampled {
		return 0, nil
	}
	run, err := j.Interrupted(ctx, o, false)
	if run != 0 {
		c.note("resuming interrupted run %d (--fresh starts a new one)", run)
	}
	return run, err
}
