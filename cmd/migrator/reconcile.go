package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/backfill"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/backfills"
	"github.com/stranglerfig/migrator/internal/state/reconciles"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/record"
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

// reconciled is what the -o json contract of reconcile run and show holds.
type reconciled struct {
	reconcile.Run
	Claim    string              `json:"claim"`
	Findings []reconcile.Finding `json:"findings"`
	Plan     []reconcile.Planned `json:"plan,omitempty"`     // of --repair=plan
	Coverage *reconcile.Coverage `json:"coverage,omitempty"` // of a done run: as it was at its end
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
			defer j.close()
			o := reconcile.RunOptions{Full: full, TwoWay: full && !oneWay, Sample: j.m.Reconcile.Sample}
			if sample != "" {
				if full {
					return usagef("--full and --sample exclude each other")
				}
				if o.Sample, err = phases.ParsePercent(sample); err != nil {
					return usage(err, "--sample 1")
				}
			}
			if cmd.Flags().Changed("rate") {
				j.m.Reconcile.Rate = rate
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

func (c *cli) reconcile(ctx context.Context, j *job, o reconcile.RunOptions, plan *plannedRepairs, report reportFlags) error {
	standing, err := j.state.Standing(ctx, j.m.Name)
	if err != nil {
		return err
	}
	switch standing.Route.Phase {
	case phases.Complete:
		return usagef("%s is complete: legacy no longer follows, there is nothing to compare the target with", j.m.Name)
	case phases.Legacy:
		if o.Repair {
			return usagef("%s is on legacy: writes don't reach the target, and what is repaired would be behind again; try: migrator phase advance", j.m.Name)
		}
	case phases.Retain:
		c.note("records that were written since the fence are in the target alone, and are skipped")
	}
	if err := j.reachTarget(ctx); err != nil {
		return err
	}
	bar := c.progress("reconcile")
	r, kept, err := j.reconciler(ctx)
	if err != nil {
		return err
	}
	kept.Log = c.log
	kept.OnPause = func(run int64, why string) {
		if why == "" {
			c.note("run %d goes on", run)
			return
		}
		c.note("run %d is paused (%s); try: migrator reconcile resume", run, why)
	}
	r.Report = func(run reconcile.Run) {
		total := run.Expected
		if run.TwoWay {
			total *= 2 // and the target's, about as many
		}
		done := run.Checked + run.Scanned
		if run.Repair && run.Repaired > 0 { // which begins when all is compared
			done, total = done+run.Repaired, done+run.Differences
		}
		bar.set(done, total)
	}
	run, findings, err := runWatched(ctx, j, r, kept, o, c.log)
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
	result := reconciled{Run: run, Claim: reconcile.Claim(run), Findings: append([]reconcile.Finding{}, findings...), Plan: plan.list()}
	if result.Coverage, err = coverageNow(ctx, j); err != nil {
		return err
	}
	if err := c.show(result, func() {
		if report.summary {
			c.printf("%s\n", summary(j.m.Name, run))
			return
		}
		_ = reconcile.WriteReport(c.out, run, result.Coverage, findings)
		plan.write(c)
	}); err != nil {
		return err
	}
	if run.Differences > 0 {
		if run.Refused != "" {
			return notYet(errors.New("too much differs for a repair, and nothing was repaired; look at some of the keys, and if legacy is right about them all, say so with --force; try: migrator reconcile explain KEY"))
		}
		if o.Repair && run.Repaired == 0 {
			return notYet(errors.New("the stores differ, and nothing of it could be repaired: the report says why, key by key"))
		}
		if left := run.Differences - run.Repaired; o.Repair && left > 0 {
			return notYet(fmt.Errorf("%s differences were repaired and %s were not: the report says why, key by key; try: migrator reconcile run --full --repair", count(run.Repaired), count(left)))
		}
		if o.Repair {
			return notYet(errors.New("differences were found and repaired; only a later clean run proves it; try: migrator reconcile run --full"))
		}
		if plan != nil {
			return notYet(errors.New("the stores differ, and this was only the plan; try: migrator reconcile run --full --repair"))
		}
		return notYet(errors.New("the stores differ; try: migrator reconcile run --full --repair=plan"))
	}
	return nil
}

// reconciler compares the job's stores as its description says; kept is where its runs are kept.
func (j *job) reconciler(ctx context.Context) (*reconcile.Reconciler, *reconciles.Runs, error) {
	compare, err := record.NewComparer(j.schema, j.m.Compare)
	if err != nil {
		return nil, nil, err
	}
	kept := reconciles.New(j.state.Pool(), j.m.Name)
	r := &reconcile.Reconciler{
		Legacy: j.legacy, Locker: j.legacy, Target: j.target, Ledger: kept, Jobs: kept, Compare: compare,
		Options: reconcileOptions(j),
	}
	backfill, err := backfills.New(j.state.Pool(), j.m.Name).Latest(ctx)
	if err != nil {
		return nil, nil, err
	}
	if backfill != nil && !backfill.Finished.IsZero() {
		r.Barrier = backfill.Barrier
	}
	return r, kept, nil
}

// killedRun finds the run of the same kind whose process ended without a word; 0: none.
func (c *cli) killedRun(ctx context.Context, j *job, o reconcile.RunOptions, sampled bool) (int64, error) {
	if sampled {
		return 0, nil
	}
	run, err := interrupted(ctx, j, o, false)
	if run != 0 {
		c.note("going on with run %d, whose process ended without a word (--fresh begins anew)", run)
	}
	return run, err
}

// interrupted is the newest run, if it is of the kind and its process is dead; or,
// with stopped, if a signal ended it.
func interrupted(ctx context.Context, j *job, o reconcile.RunOptions, stopped bool) (int64, error) {
	run, held, err := reconciles.New(j.state.Pool(), j.m.Name).Unfinished(ctx, 0)
	if errors.Is(err, reconciles.ErrNoRun) {
		return 0, nil
	}
	if err != nil || held || run.Status != reconcile.Running && (!stopped || run.Status != reconcile.Stopped) {
		return 0, err
	}
	standing, err := j.state.Standing(ctx, j.m.Name)
	if err != nil || run.Epoch != standing.Route.Epoch || run.ConfigHash != standing.ConfigHash ||
		run.Full != o.Full || run.TwoWay != o.TwoWay || run.Repair != o.Repair || time.Since(run.Began) > resumeWithin {
		return 0, err
	}
	return run.ID, nil
}

// resumeWithin is how old a run may be that is gone on with unasked: what its first
// jobs have seen is as old.
const resumeWithin = 24 * time.Hour

func reconcileOptions(j *job) reconcile.Options {
	s := j.m.Reconcile
	return reconcile.Options{
		ChunkRows: s.ChunkRows, Workers: s.Workers, Rate: s.Rate, Findings: s.Findings,
		MaxRepairs: orNone(s.MaxRepairs), RepairRate: s.RepairRate, MaxDifference: s.MaxDifference,
		Recent: reconcile.Recent{Column: s.Recent.Column, Within: time.Duration(s.Recent.Within), Sample: s.Recent.Sample},
		Pause:  time.Duration(s.Pause), Rereads: s.Rereads, Lease: time.Duration(s.Lease),
		NotAfter: time.Duration(j.m.Writing.NotAfter), Expires: j.m.ExpiryColumn(),
	}
}

func newReconcileList(c *cli) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "list [MIGRATION]",
		Short: "List the newest runs",
		Args:  maybeName,
		RunE: c.withState(func(ctx context.Context, store *state.Store, name string) error {
			if err := aboveZero(limit); err != nil {
				return err
			}
			runs, err := reconciles.New(store.Pool(), name).List(ctx, limit)
			if err != nil {
				return err
			}
			listed := make([]listedRun, len(runs))
			for i, r := range runs {
				listed[i].Run = r
				if listed[i].Coverage, err = coverageOf(ctx, store, name, r); err != nil {
					return err
				}
			}
			return c.show(listed, func() {
				rows := [][]string{{"RUN", "BEGAN", "KIND", "STATUS", "CHECKED", "DIFFERENCES", "REPAIRED", "COVERAGE"}}
				for _, r := range listed {
					kind := "slice " + strconv.Itoa(r.Slice+1) + " of " + strconv.Itoa(r.Slices)
					if r.Full {
						kind = "full"
					}
					rows = append(rows, []string{
						strconv.FormatInt(r.ID, 10), r.Began.Format(time.DateTime), kind, string(r.Status),
						count(r.Checked), count(r.Differences), count(r.Repaired), r.covered(),
					})
				}
				c.table(rows)
			})
		}),
	}
	cmd.Flags().IntVarP(&limit, "limit", "n", 20, "newest runs to show")
	return cmd
}

func newReconcileShow(c *cli) *cobra.Command {
	var migration string
	var limit int
	cmd := &cobra.Command{
		Use:   "show RUN",
		Short: "Show one run with its findings",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("name one run; try: migrator reconcile list")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil {
				return usagef("run %q: want a number; try: migrator reconcile list", args[0])
			}
			if limit < 0 {
				return usagef("--limit %d: want a number from 0 on", limit)
			}
			var named []string
			if migration != "" {
				named = []string{migration}
			}
			return c.withState(func(ctx context.Context, store *state.Store, name string) error {
				run, err := reconciles.New(store.Pool(), name).Run(ctx, id)
				if err != nil {
					return err
				}
				findings, err := reconciles.New(store.Pool(), name).Findings(ctx, id, limit)
				if err != nil {
					return err
				}
				result := reconciled{Run: run, Claim: reconcile.Claim(run), Findings: append([]reconcile.Finding{}, findings...)}
				if result.Coverage, err = coverageOf(ctx, store, name, run); err != nil {
					return err
				}
				return c.show(result, func() { _ = reconcile.WriteReport(c.out, run, result.Coverage, findings) })
			})(cmd, named)
		},
	}
	cmd.Flags().StringVarP(&migration, "migration", "m", "", "the migration, if there are several")
	cmd.Flags().IntVarP(&limit, "limit", "n", 100, "findings to show")
	return cmd
}
