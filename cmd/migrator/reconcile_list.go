package main

import (
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/reconciles"
	"github.com/stranglerfig/migrator/reconcile"
)

// listedRun is a row of reconcile list.
type listedRun struct {
	reconcile.Run
	Coverage *reconcile.Coverage `json:"coverage,omitempty"` // of a done run: at its end
}

func (r *listedRun) covered() string {
	if r.Coverage == nil {
		return "-"
	}
	return reconcile.Share(r.Coverage.Checked)
}

func newReconcileList(c *cli) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:     "list [MIGRATION]",
		Short:   "List the newest runs",
		Args:    optionalName,
		PreRunE: limitAboveZero(&limit),
		RunE: c.withState(func(ctx context.Context, store *state.Store, name string) error {
			runs, err := reconciles.New(store.Pool(), name).List(ctx, limit)
			if err != nil {
				return err
			}
			listed := make([]listedRun, len(runs))
			for i, r := range runs {
				listed[i].Run = r
				if listed[i].Coverage, err = app.CoverageOf(ctx, store, name, r); err != nil {
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
						humanize.Count(r.Checked), humanize.Count(r.Differences), humanize.Count(r.Repaired), r.covered(),
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
				return usageTry(hint.Hint{Do: hint.ReconcileList}, "name one run")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil {
				return usageTry(hint.Hint{Do: hint.ReconcileList}, "run %q: want a number", args[0])
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
				result := app.Reconciled{Run: run, Claim: reconcile.Claim(run), Findings: append([]reconcile.Finding{}, findings...)}
				if result.Coverage, err = app.CoverageOf(ctx, store, name, run); err != nil {
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
