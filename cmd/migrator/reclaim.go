package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/phases"
)

func newReclaim(c *cli) *cobra.Command {
	var reason string
	var settle time.Duration
	var yes bool
	cmd := &cobra.Command{
		Use:   "reclaim",
		Short: "Go on after the state database has lost transactions",
		Long: `For a state database that was restored from an older backup, or failed over to a
standby that lacked its last transactions. Instances refuse what it says as long
as its epoch is lower than theirs.

Asks legacy whether a fence stands. If none does, legacy has every acknowledged
write: the migration goes on in dual-read, or in the earlier phase that the
database says. If one does, the target may have writes that legacy lacks: all
writes wait while the target is looked through for them, they are replayed to
legacy, the fence is lifted, and the migration goes on in grace.

The new epoch is above every one that an instance remembers, so all follow. What
the journal has forgotten is not known: cutover needs a full reconcile first. Run
it after every such restore, also if no instance has complained.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if strings.TrimSpace(reason) == "" {
				return usagef("it needs a reason; try: --reason 'restored the backup of ...'")
			}
			ctx := cmd.Context()
			j, err := c.openJob(ctx, false)
			if err != nil {
				return err
			}
			defer j.Close()
			m, err := app.Applied(ctx, j.State, j.Config.Name)
			if err != nil {
				return err
			}
			if err := c.confirm(cmd.Context(), yes, "Has the state database lost transactions of "+m.Name+"?"); err != nil {
				return err
			}
			began := time.Now()
			moves, err := c.controller(j.State, m, j).Reclaim(ctx, reason, settle)
			if printErr := c.showMoves(moves, began, err == nil, "; cutover needs a full reconcile first"); printErr != nil {
				return printErr
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&reason, "reason", "", "what happened to the state database, for the history")
	f.DurationVar(&settle, "settle", phases.Settle, "how long to wait for leases from before the loss, and for the fleet")
	f.BoolVarP(&yes, "yes", "y", false, "don't ask")
	return cmd
}

// warnLost says before anything else that the state can't be believed.
func (c *cli) warnLost(st phases.Status) {
	if st.StateLoss == nil {
		return
	}
	c.printf("  %s\n", c.paint(c.out, red, "lost       "+st.StateLoss.Describe(st.Route)))
	c.printf("             try: %s\n", c.given.text(phases.StateLossHint()))
}
