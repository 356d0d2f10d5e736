package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/backfill"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/store"
)

// jobError gives the exit code 8 to jobs that only have to wait their turn.
func jobError(err error) error {
	if errors.Is(err, reconcile.ErrRunning) {
		return notYet(fmt.Errorf("%w; try: migrator reconcile list", err))
	}
	if errors.Is(err, backfill.ErrRunning) || errors.Is(err, backfill.ErrNotReady) {
		return notYet(err)
	}
	if errors.Is(err, store.ErrRecentColumn) {
		return coded{err, exitUsage}
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
	var mend mending
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Compare both stores; exit with 8 if they differ",
		Long: `Compares a sample of legacy's records with the target (the next slice of blocks,
so that enough runs cover everything), or with --full every record, and the
target's for what legacy lacks. What differs is read again until it agrees or
stays different: only that counts. --repair mends it once all is compared, and keys
known to be behind; --repair=plan only says what that would do. If more differs than
reconcile.max_difference allows, nothing is mended: see --force.

A run that repaired something is not clean: only a later one proves the repair.

Other machines take a share of it with migrator worker. A run of the same kind whose
process was killed is gone on with, unless --fresh says otherwise.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if oneWay && !full {
				return usagef("--one-way goes with --full: a sampled run looks one way only")
			}
			if err := inRange(inRate("rate", rate)); err != nil {
				return err
			}
			if err := mend.check(cmd.Flags()); err != nil {
				return err
			}
			if err := report.check(); err != nil {
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
			plan := mend.apply(cmd.Flags(), j, &o)
			if !fresh && plan == nil {
				if o.Resume, err = c.killedRun(cmd.Context(), j, o, sample != ""); err != nil {
					return err
				}
			}
			return c.reconcile(cmd.Context(), j, o, plan, report)
		},
	}
	f := cmd.Flags()
	report.add(f)
	f.BoolVar(&fresh, "fresh", false, "begin anew, even if a run of this kind was killed midway")
	f.BoolVar(&full, "full", false, "every record, and the target's extras too")
	f.BoolVar(&oneWay, "one-way", false, "with --full: don't look for records that only the target has")
	f.StringVar(&sample, "sample", "", "per cent of legacy's blocks, instead of the description's")
	f.IntVar(&rate, "rate", 0, "records per second at most, instead of the description's")
	mend.flags(f)
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
	bar := c.progress("reconcile")
	run, findings, err := j.Reconcile(ctx, app.Reconcile{RunOptions: o, Log: c.log, OnPause: c.reconcilePaused, Progress: func(run reconcile.Run) {
		total := run.Expected
		if run.TwoWay {
			total *= 2 // and the target's, about as many
		}
		done := run.Checked + run.Scanned
		if run.Repair && run.Repaired > 0 { // which begins when all is compared
			done, total = done+run.Repaired, done+run.Differences
		}
		bar.set(done, total)
	}})
	bar.close()
	if run.Status == reconcile.Stopped && plan == nil && ctx.Err() != nil {
		return fmt.Errorf("%w; try: migrator reconcile resume", err)
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
	return differences(run, o.Repair, plan != nil)
}

func (c *cli) reconcilePaused(run int64, why string) {
	if why == "" {
		c.note("run %d goes on", run)
		return
	}
	c.note("run %d is paused (%s); try: migrator reconcile resume", run, why)
}

// differences is nil if the run has found none; else it says what helps.
func differences(run reconcile.Run, repair, planned bool) error {
	left := run.Differences - run.Repaired
	switch {
	case run.Differences == 0:
		return nil
	case run.Refused != "":
		return notYet(errors.New("too much differs for a repair, and nothing was repaired; look at some of the keys, and if legacy is right about them all, say so with --force; try: migrator reconcile explain KEY"))
	case repair && run.Repaired == 0:
		return notYet(errors.New("the stores differ, and nothing of it could be repaired: the report says why, key by key"))
	case repair && left > 0:
		return notYet(fmt.Errorf("%s differences were repaired and %s were not: the report says why, key by key; try: migrator reconcile run --full --repair", humanize.Count(run.Repaired), humanize.Count(left)))
	case repair:
		return notYet(errors.New("differences were found and repaired; only a later clean run proves it; try: migrator reconcile run --full"))
	case planned:
		return notYet(errors.New("the stores differ, and this was only the plan; try: migrator reconcile run --full --repair"))
	}
	return notYet(errors.New("the stores differ; try: migrator reconcile run --full --repair=plan"))
}

// killedRun finds the run of the same kind whose process ended without a word; 0: none.
func (c *cli) killedRun(ctx context.Context, j *app.Job, o reconcile.RunOptions, sampled bool) (int64, error) {
	if sampled {
		return 0, nil
	}
	run, err := j.Interrupted(ctx, o, false)
	if run != 0 {
		c.note("going on with run %d, whose process ended without a word (--fresh begins anew)", run)
	}
	return run, err
}
