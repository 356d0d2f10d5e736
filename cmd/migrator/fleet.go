package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/phases"
)

func newFleet(c *cli) *cobra.Command {
	return group("fleet", "Inspect the application's instances and their leases", newFleetList(c), newEvict(c))
}

func newFleetList(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "list [MIGRATION]",
		Short: "List instances with the epoch that each has acknowledged",
		Args:  optionalName,
		RunE: c.withState(func(ctx context.Context, store *state.Store, name string) error {
			leases, err := store.Leases(ctx, name)
			if err != nil {
				return err
			}
			status, err := store.Status(ctx, name)
			if err != nil {
				return err
			}
			return c.show(append([]phases.Lease{}, leases...), func() {
				c.warnStateLoss(status)
				c.printFleet(leases, status.Route.Epoch)
			})
		}),
	}
}

func (c *cli) printFleet(leases []phases.Lease, epoch int64) {
	if len(leases) == 0 {
		c.printf("no instance has joined\n")
		return
	}
	rows := [][]string{{"INSTANCE", "STATE", "EPOCH", "MOVES", "JOINED", "RENEWED", "ABOUT"}}
	for _, l := range leases {
		state := "settled"
		switch {
		case l.Lapsed:
			state = "lapsed"
		case l.Acknowledged < epoch:
			state = "behind"
		case l.Other:
			state = "other"
		}
		moves := humanize.Short(l.Moves)
		if l.Moves == "" {
			moves = "not said"
		} else if l.Other {
			moves += " (other)"
		}
		rows = append(rows, []string{
			l.Instance, state, fmt.Sprintf("%d of %d", l.Acknowledged, epoch), moves,
			l.Joined.Format(time.DateTime), l.Renewed.Format(time.DateTime), l.About,
		})
	}
	c.table(rows)
}

func newEvict(c *cli) *cobra.Command {
	var reason, migration string
	var force bool
	cmd := &cobra.Command{
		Use:   "evict INSTANCE",
		Short: "Remove a lapsed instance that you confirm has stopped",
		Long: `Ends the lease of an instance that expired without leaving, so that the migration can
continue. Make sure first that the process has stopped: migrator cannot check that.
Its queued writes may never reach the target, so cutover then needs a full reconcile.

With --force, an instance that still renews its lease can't any more. Its lease counts
until it expires: a process that runs all the same then goes on as without a lease.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return usageTry(hint.Hint{Do: hint.FleetList}, "name one instance")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if strings.TrimSpace(reason) == "" {
				return usageTry(try("--reason 'the host was switched off'"), "an eviction needs a reason")
			}
			var named []string
			if migration != "" {
				named = []string{migration}
			}
			return c.withState(func(ctx context.Context, store *state.Store, name string) error {
				if err := store.Evict(ctx, name, args[0], reason, force); err != nil {
					return err
				}
				return c.changed(args[0], "evicted")
			})(cmd, named)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "how you know that it has stopped, for the history")
	cmd.Flags().BoolVar(&force, "force", false, "also an instance that still renews its lease")
	cmd.Flags().StringVarP(&migration, "migration", "m", "", "the migration, if there are several")
	return cmd
}
