package main

import (
	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/humanize"
)

func newApply(c *cli) *cobra.Command {
	var liftFence string
	var takeOver bool
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Record the migration file and prepare both stores",
		Long: `Runs the checks of plan, prepares legacy (schema migrator_legacy: the era and the
version function) and the target, and records the migration file in the state
database. A new migration starts in phase legacy: nothing changes for the
application. Applying a changed migration file makes older telemetry and runs void.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			m, err := c.load()
			if err != nil {
				return err
			}
			store, err := c.openState(ctx)
			if err != nil {
				return err
			}
			defer store.Close()
			if liftFence != "" {
				if err := app.LiftOrphan(ctx, store, m, liftFence); err != nil {
					return err
				}
			}
			pre := c.preflight(m)
			pre.TakeOver = takeOver
			if p := pre.Check(ctx); p.Refused > 0 {
				if err := c.show(p, func() { c.printChecks(p.Checks) }); err != nil {
					return err
				}
				return verdict(p)
			}
			a, err := app.Apply(ctx, store, m, takeOver)
			if err != nil {
				return err
			}
			return c.show(a, func() {
				verb := "applied"
				if a.Created {
					verb = "created"
				}
				c.printf("%s %s: %s (epoch %d), config hash %s\n", verb, m.Name, a.Status.Route, a.Status.Route.Epoch, humanize.Short(a.Status.ConfigHash))
			})
		},
	}
	cmd.Flags().StringVar(&liftFence, "lift-fence", "", "first lift the fence of this attempt, whose state database no longer exists; writes since then are in the target alone")
	cmd.Flags().BoolVar(&takeOver, "take-over", false, "take the target's keys from the migration that has them, which then stops to use the target: only if it is over, or its state database no longer exists")
	return cmd
}
