package main

import (
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/drill"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/drills"
)

func newDrillList(c *cli) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:     "list [MIGRATION]",
		Short:   "List the newest drills",
		Args:    optionalName,
		PreRunE: limitAboveZero(&limit),
		RunE: c.withState(func(ctx context.Context, store *state.Store, name string) error {
			runs, err := drills.New(store.Pool(), name).List(ctx, limit)
			if err != nil {
				return err
			}
			return c.show(append([]drills.Run{}, runs...), func() {
				rows := [][]string{{"DRILL", "BEGAN", "ENVIRONMENT", "RESULT", "REASON"}}
				for _, d := range runs {
					result := "PASS"
					switch {
					case d.Finished.IsZero():
						result = "unfinished"
					case !d.Passed:
						result = "FAIL"
					case !d.Imported.IsZero():
						result += ", imported"
					}
					rows = append(rows, []string{strconv.FormatInt(d.ID, 10), d.Began.Format(time.DateTime), d.Environment, result, d.Reason})
				}
				c.table(rows)
			})
		}),
	}
	cmd.Flags().IntVarP(&limit, "limit", "n", 20, "newest drills to show")
	return cmd
}

// oneDrill is cobra's validator for the number of a drill.
func oneDrill(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usageTry(hint.Hint{Do: hint.DrillList}, "name one drill")
	}
	if _, err := strconv.ParseInt(args[0], 10, 64); err != nil {
		return usageTry(hint.Hint{Do: hint.DrillList}, "drill %q: want a number", args[0])
	}
	return nil
}

// withDrill runs f on the drill that the arguments name.
func (c *cli) withDrill(migration *string, f func(ctx context.Context, runs *drills.Runs, id int64) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		id, err := strconv.ParseInt(args[0], 10, 64)
		if err != nil {
			return err
		}
		var named []string
		if *migration != "" {
			named = []string{*migration}
		}
		return c.withState(func(ctx context.Context, store *state.Store, name string) error {
			return f(ctx, drills.New(store.Pool(), name), id)
		})(cmd, named)
	}
}

func newDrillShow(c *cli) *cobra.Command {
	var migration, reports string
	var markdown bool
	cmd := &cobra.Command{
		Use:   "show DRILL",
		Short: "Show a drill's report, or write its files again",
		Args:  oneDrill,
		RunE: c.withDrill(&migration, func(ctx context.Context, runs *drills.Runs, id int64) error {
			report, err := runs.Report(ctx, id)
			if err != nil {
				return err
			}
			if reports != "" {
				if err := drill.Writable(reports); err != nil {
					return usagef("--reports %w", err)
				}
				if _, err := report.WriteFiles(reports); err != nil {
					return err
				}
			}
			return c.show(report, func() {
				if markdown {
					c.printf("%s", written(report.Markdown()))
					return
				}
				c.printf("%s", written(report.Summary()))
			})
		}),
	}
	f := cmd.Flags()
	f.StringVarP(&migration, "migration", "m", "", "the migration, if there are several")
	f.BoolVar(&markdown, "markdown", false, "the whole report, as Markdown")
	f.StringVar(&reports, "reports", "", "directory to write the report's three files to again")
	return cmd
}
