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
	"github.com/stranglerfig/migrator/reconcile"
)

// covered is the share of legacy that was checked.
func covered(of *reconcile.Coverage) string {
	if of == nil {
		return "-"
	}
	return reconcile.Share(of.Checked)
}

func newReconcileList(c *cli) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:     "list [MIGRATION]",
		Short:   "List the newest runs",
		Args:    optionalName,
		PreRunE: limitAboveZero(&limit),
		RunE: c.withState(func(ctx context.Context, store *state.Store, name string) error {
			listed, err := app.ListRuns(ctx, store, name, limit)
			if err != nil {
				return err
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
						humanize.Count(r.Checked), humanize.Count(r.Differences), humanize.Count(r.Repaired), covered(r.Coverage),
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
				result, err := app.ReadRun(ctx, store, name, id, limit)
				if err != nil {
					return err
				}
				return c.show(result, func() { _ = reconcile.WriteReport(c.out, result.Run, result.Coverage, result.Findings) })
			})(cmd, named)
		},
	}
	cmd.Flags().StringVarP(&migration, "migration", "m", "", "the migration, if there are several")
	cmd.Flags().IntVarP(&limit, "limit", "n", 100, "findings to show")
	return cmd
}
