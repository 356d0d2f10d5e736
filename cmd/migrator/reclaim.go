package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
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
			defer j.close()
			m, err := appliedSettings(ctx, j.state, j.m.Name)
			if err != nil {
				return err
			}
			if err := c.confirm(cmd.Context(), yes, "Has the state database lost transactions of "+m.Name+"?"); err != nil {
				return err
			}
			began := time.Now()
			moves, err := c.controller(j.state, m, j).Reclaim(ctx, reason, settle)
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
func (c *cli) warnLost(st phases.Standing) {
	if st.Lost == nil {
		return
	}
	c.printf("  %s\n", c.paint(c.out, red, "lost       "+st.Lost.Tell(st.Route)))
	c.printf("             try: %s\n", c.given.text(phases.StateLossHint()))
}

// fenceAgrees compares legacy's fence with what the state says of it. They differ
// where another state database retired the table, or where this one has lost
// transactions.
func (c *cli) fenceAgrees(ctx context.Context, name string, legacy store.Legacy) []store.Check {
	attempt, _, err := legacy.FenceState(ctx)
	if err != nil {
		return nil // nothing is installed yet
	}
	refused := func(detail string, h hint.Hint) []store.Check {
		return []store.Check{{Name: "standing-fence", Result: store.Refused, Detail: detail, Hint: h}}
	}
	st, known := c.standingIfKnown(ctx, name)
	switch at := st.Route.Phase; {
	case attempt == "" && (at == phases.Fenced || at == phases.Retain || at == phases.Returning):
		// It may have been raised, or lifted, since we asked.
		again, _, err := legacy.FenceState(ctx)
		if now, _ := c.standingIfKnown(ctx, name); err != nil || again != "" || now.Route != st.Route {
			return nil
		}
		return refused(fmt.Sprintf("the state database says %s (epoch %d), but no fence stands: legacy takes writes; the database has lost transactions (restored from an older backup?)", st.Route, st.Route.Epoch), phases.StateLossHint())
	case attempt == "", known && (st.Attempt == attempt || at == phases.Complete):
		return nil
	case known:
		return refused(fmt.Sprintf("a migration has retired the table (attempt %s), and the state database says %s (epoch %d): it has lost transactions (restored from an older backup?), or is another; records may be in the target alone", attempt, st.Route, st.Route.Epoch), phases.StateLossHint())
	}
	return refused("a migration has retired the table (attempt "+attempt+"), and the state database does not know of it: its records may be in the target alone",
		hint.Hint{Text: "restore the state database; or, if legacy shall take writes again as it is: migrator apply --lift-fence " + attempt})
}

func (c *cli) standingIfKnown(ctx context.Context, name string) (st phases.Standing, known bool) {
	store, err := c.openState(ctx)
	if err != nil {
		return st, false
	}
	defer store.Close()
	st, err = store.Standing(ctx, name)
	return st, err == nil
}
