package main

import (
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/migration"
)

func newReconcileSchedule(c *cli) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "schedule [MIGRATION]",
		Short: "Show when runs are due, and the outcomes of past times",
		Long: `Shows for reconcile.schedule and full_schedule the next time and the last one that has
an outcome, and then the newest times of both. The schedules are those of the migration
file, else the applied ones. Overdue times have passed since: the leading daemon starts
one run for all of them.`,
		Args:    optionalName,
		PreRunE: limitAboveZero(&limit),
		RunE: c.withState(func(ctx context.Context, store *state.Store, name string) error {
			m, err := c.scheduledConfig(ctx, store, name)
			if err != nil {
				return err
			}
			found, err := app.ReadSchedule(ctx, store, m, limit)
			if err != nil {
				return err
			}
			return c.show(found, func() { c.showSchedule(found) })
		}),
	}
	cmd.Flags().IntVarP(&limit, "limit", "n", 10, "newest times to show")
	return cmd
}

// scheduledConfig is the configuration whose schedules are shown: the migration file's,
// since schedules may be changed without apply, else the applied one.
func (c *cli) scheduledConfig(ctx context.Context, store *state.Store, name string) (*migration.Config, error) {
	if c.settings.migrationFile() != "" {
		if m, err := c.load(); err != nil || m.Name == name {
			return m, err
		}
	}
	return app.Applied(ctx, store, name)
}

func (c *cli) showSchedule(found app.ScheduledTimes) {
	if len(found.Schedules) == 0 {
		c.printf("No runs are due: the migration file of %s sets neither reconcile.schedule nor reconcile.full_schedule.\n", found.Migration)
	} else {
		rows := [][]string{{"KIND", "SCHEDULE", "NEXT (UTC)", "LAST", "OUTCOME", "RUN", "OVERDUE"}}
		for _, s := range found.Schedules {
			last, outcome, run := "never", "-", "-"
			switch {
			case s.Last != nil:
				last, outcome, run = s.Last.Due.UTC().Format(time.DateTime), string(s.Last.Outcome), numberOrDash(s.Last.Run)
			case !s.Known:
				outcome = "no daemon has read it yet"
			}
			rows = append(rows, []string{string(s.Kind), s.Expr, s.Next.Format(time.DateTime), last, outcome, run, timesPassed(s.Overdue)})
		}
		c.table(rows)
	}
	if len(found.Times) == 0 {
		return
	}
	rows := [][]string{{"DUE (UTC)", "KIND", "OUTCOME", "RUN", "SKIPPED", "DETAIL"}}
	for _, s := range found.Times {
		rows = append(rows, []string{s.Due.UTC().Format(time.DateTime), string(s.Kind), string(s.Outcome), numberOrDash(s.Run), timesPassed(s.Skipped), s.Detail})
	}
	c.printf("\n")
	c.table(rows)
}

func numberOrDash(n int64) string {
	if n == 0 {
		return "-"
	}
	return strconv.FormatInt(n, 10)
}

func timesPassed(n int) string {
	if n == app.MaxTimes {
		return humanize.Count(n) + " or more"
	}
	return humanize.Count(n)
}
