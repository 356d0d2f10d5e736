package main

import (
	"context"
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
		Short: "Recover after state loss in the state database",
		Long: `For a state database that was restored from an older backup, or failed over to a
standby that lacked its last transactions. Instances refuse its route as long as its
epoch is lower than theirs.

Reads from legacy whether a fence is up. If not, legacy has every acknowledged write:
the migration continues in dual-read, or in the earlier phase that the database
contains. If so, the target may have writes that legacy lacks: all writes wait while
the target is scanned for them, they are replayed to legacy, the fence is lifted, and
the migration continues in grace.

The new epoch is above every one that an instance knows, so all instances follow. Keys
may be missing from the journal, so cutover needs a full reconcile first. Run it after
every such restore, even if no instance reported a state loss.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if strings.TrimSpace(reason) == "" {
				return usageTry(try("--reason 'restored the backup of ...'"), "a reclaim needs a reason")
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
			question, err := reclaimQuestion(ctx, j)
			if err != nil {
				return err
			}
			if err := c.confirmUnlessDry(ctx, yes, question); err != nil {
				return err
			}
			began := time.Now()
			ctl := c.controller(j.State, m, j)
			ctl.DryRun = c.dryRun
			moves, err := ctl.Reclaim(ctx, reason, settle)
			if printErr := c.showMoves(moves, began, 0, err == nil && !c.dryRun, "; cutover needs a full reconcile first"); printErr != nil {
				return printErr
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&reason, "reason", "", "what happened to the state database, for the history")
	f.DurationVar(&settle, "settle", phases.Settle, "how long to wait for leases from before the loss, and for the fleet")
	f.BoolVarP(&yes, "yes", "y", false, "don't ask; needed without a terminal")
	return c.canDryRun(cmd)
}

// reclaimQuestion says where a reclaim leads, which legacy's fence decides, and what it costs.
func reclaimQuestion(ctx context.Context, j *app.Job) (string, error) {
	st, err := j.State.Status(ctx, j.Config.Name)
	if err != nil {
		return "", err
	}
	holder, _, err := j.Legacy.FenceState(ctx)
	if err != nil {
		return "", err
	}
	to, err := phases.Reclaimed(st.Route, holder != "")
	if err != nil {
		return "", codedError{err, exitUsage}
	}
	text := "Has the state database lost transactions? " + st.Migration + " would move from " + st.Route.String() + " to " + to.String() +
		" (rollback from there: " + phases.ClassOf(phases.Status{Route: to, Reversible: st.Reversible}).String() + ")."
	if to.Phase == phases.Returning {
		text += " Writes would wait while the whole target is scanned for those since the fence."
	}
	return text + " Reclaim?", nil
}

// warnStateLoss prints a state loss before all else: the rest of the status is
// unreliable.
func (c *cli) warnStateLoss(st phases.Status) {
	if st.StateLoss == nil {
		return
	}
	c.printf("  %s\n", c.paint(c.out, red, "lost       "+st.StateLoss.Describe(st.Route)))
	c.printf("             try: %s\n", c.given.text(phases.StateLossHint()))
}
