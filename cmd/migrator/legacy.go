package main

import (
	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/hint"
)

func newLegacy(c *cli) *cobra.Command {
	return group("legacy", "Raise the era of legacy's writes", newRaiseEra(c))
}

func newRaiseEra(c *cli) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "raise-era",
		Short: "Make legacy's next writes newer than all that the target has",
		Long: `For a legacy that went back: restored from a backup, failed over to a standby that lagged,
or crashed while commits did not wait for its log. The target then has versions that legacy
never gave, which refuse its next writes as older. The daemon finds this within seconds, and
raises the era by itself; without one, run this before the application writes again.

The migration is marked unclean: cutover waits for a full reconcile, which finds what the
target has and legacy lost. It may be repeated: each time the era is raised above the last one,
since a second loss looks like the first. It is refused while a fence is raised: lifting it raises the era.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			j, err := c.openUnchecked(ctx, true) // the target, which it does not touch, may be lost too
			if err != nil {
				return err
			}
			defer j.Close()
			if attempt, _, err := j.Legacy.FenceState(ctx); err != nil {
				return err
			} else if attempt != "" {
				return usageTry(hint.Hint{Do: hint.RollbackToGrace}, "the fence of attempt %s is raised: lifting it raises the era", attempt)
			}
			if err := c.confirmUnlessDry(ctx, yes, "Has legacy of "+j.Config.Name+" lost transactions?"); err != nil {
				return err
			}
			era, err := j.LoseLegacy(ctx, "an operator reported that legacy has lost transactions")
			if err != nil {
				return err
			}
			result := struct {
				Migration string `json:"migration"`
				Era       uint32 `json:"era"`
				DryRun    bool   `json:"dry_run,omitempty"`
			}{j.Config.Name, era, c.dryRun}
			return c.show(result, func() {
				if c.dryRun {
					c.printf("%s: legacy's writes are of era %d, which would be raised; nothing was changed\n", j.Config.Name, era)
					return
				}
				c.printf("%s: legacy's writes are of era %d now\n", j.Config.Name, era)
			})
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "don't ask; needed without a terminal")
	return c.canDryRun(cmd)
}
