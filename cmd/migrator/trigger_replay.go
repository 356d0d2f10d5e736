package main

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/judge"
	"github.com/stranglerfig/migrator/internal/state"
)

func newTriggerTest(c *cli) *cobra.Command {
	var since time.Duration
	cmd := &cobra.Command{
		Use:   "test [MIGRATION]",
		Short: "Replay telemetry to see when triggers would have fired",
		Long: `Evaluates the recorded telemetry in the order of time, as the daemon would have, and
reports when each trigger would have begun to fire. If there is a migration file, its
triggers are used, applied or not: so a limit can be tried before it is applied. The
answers of outside sources (promql, command, alertmanager) are not recorded: those
triggers count as they were evaluated at the time. Telemetry of the last hour is in
windows of ten seconds, older telemetry in windows of five minutes: there a firing is
found that much later than by the daemon. Changes nothing.`,
		Args: optionalName,
		PreRunE: func(*cobra.Command, []string) error {
			if since <= 0 {
				return usagef("--since %s: want a time above 0, such as 24h", since)
			}
			return nil
		},
		RunE: c.withState(func(ctx context.Context, store *state.Store, name string) error {
			m, err := app.Applied(ctx, store, name)
			if err != nil {
				return err
			}
			settings := m.Settings()
			if c.settings.migrationFile() != "" {
				at, err := c.load()
				if err != nil {
					return err
				}
				if at.Name == name {
					settings = at.Settings()
				}
			}
			result, err := app.ReplayTriggers(ctx, store, name, settings, since)
			if err != nil {
				return err
			}
			return c.show(result, func() { c.printReplayed(result) })
		}),
	}
	cmd.Flags().DurationVar(&since, "since", 24*time.Hour, "how far back")
	return cmd
}

func (c *cli) printReplayed(x *judge.Replayed) {
	c.printf("evaluated %d windows of telemetry since %s\n", x.Buckets, x.Since.UTC().Format(time.RFC3339))
	for _, f := range x.Firings {
		what := "would have fired, without a rollback: reads came from legacy"
		if f.Acts {
			what = "would have fired"
		}
		c.printf("  %s %s at %s, on %s: %s\n", c.paint(c.out, red, f.Trigger), what, f.At.UTC().Format(time.RFC3339), f.Route, f.Detail)
	}
	for _, t := range x.Triggers {
		switch {
		case t.Off != "":
			c.printf("  %-14s off: %s\n", t.Trigger, t.Off)
		case !slices.ContainsFunc(x.Firings, func(f judge.ReplayedFiring) bool { return f.Trigger == t.Trigger }):
			c.printf("  %-14s would not have fired (%d evaluations; the last: %s, %s)\n", t.Trigger, t.Evaluations, t.Verdict, t.Detail)
		}
	}
}
