package main

import (
	"github.com/spf13/cobra"
)

func newTarget(c *cli) *cobra.Command {
	return group("target", "Claim the target's keys", newTargetClaim(c))
}

func newTargetClaim(c *cli) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "claim",
		Short: "Use a target that lacks the migration's mark",
		Long: `A migration uses only the target that has its mark, which apply places and the daemon
renews each second. A target without it is another server, was emptied, or went back to
an earlier state: reads return to legacy, or in retain operations fail, and the target is
neither written nor compared.

First look whether target.url names the right server, and whether its data can be
restored: then the mark is there again, and nothing need be claimed. If the data is lost,
claim places a new mark. The migration is marked unclean: the next backfill or reconcile
with --repair writes what the target lacks, and cutover waits for a full reconcile. In
retain legacy has no newer state of what was lost: phase rollback then counts it.

Where the target has the mark, it changes nothing and asks nothing: it may be repeated.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			j, err := c.openUnchecked(ctx, true)
			if err != nil {
				return err
			}
			defer j.Close()
			name := j.Config.Name
			if had, err := j.HasMark(ctx); err != nil {
				return err
			} else if had {
				return c.changed(name, "claimed already")
			}
			if err := c.confirmUnlessDry(ctx, yes, "Has the target of "+name+" lost data that can't be restored?"); err != nil {
				return err
			}
			claimed, err := j.Claim(ctx)
			switch {
			case err != nil:
				return err
			case !claimed:
				return c.changed(name, "claimed already")
			}
			return c.changed(name, "claimed")
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "don't ask; needed without a terminal")
	return c.canDryRun(cmd)
}
