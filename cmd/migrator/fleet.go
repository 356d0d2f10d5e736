package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/phases"
)

func newFleet(c *cli) *cobra.Command {
	return group("fleet", "The application's instances and their leases", newFleetList(c), newEvict(c))
}

func newFleetList(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "list [MIGRATION]",
		Short: "List instances with the epoch that each has acknowledged",
		Args:  maybeName,
		RunE: c.withState(func(ctx context.Context, store *state.Store, name string) error {
			leases, err := store.Leases(ctx, name)
			if err != nil {
				return err
			}
			standing, err := store.Status(ctx, name)
			if err != nil {
				return err
			}
			return c.show(append([]phases.Lease{}, leases...), func() {
				c.warnLost(standing)
				c.printFleet(leases, standing.Route.Epoch)
			})
		}),
	}
}

func (c *cli) printFleet(leases []phases.Lease, epoch int64) {
	if len(leases) == 0 {
		c.printf("no instance has joined\n")
		return
	}
	rows := [][]string{{"INSTANCE", "STATE", "EPOCH", "JOINED", "RENEWED", "ABOUT"}}
	for _, l := range leases {
		word := "settled"
		switch {
		case l.Lapsed:
			word = "lapsed"
		case l.Acknowledged < epoch:
			word = "behind"
		}
		rows = append(rows, []string{
			l.Instance, word, fmt.Sprintf("%d of %d", l.Acknowledged, epoch),
			l.Joined.Format(time.DateTime), l.Renewed.Format(time.DateTime), l.About,
		})
	}
	c.table(rows)
}

func newEvict(c *cli) *cobra.Command {
	var reason, migration string
	cmd := &cobra.Command{
		Use:   "evict INSTANCE",
		Short: "Take your word for it that a lapsed instance has stopped",
		Long: `Ends the lease of an instance that ran out without leaving, so that the migration
may go on. Make sure first that the process has stopped: nobody can check that
for you. Its queued writes may be lost, so cutover then needs a full reconcile.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("name one instance; try: migrator fleet list")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if strings.TrimSpace(reason) == "" {
				return usagef("an eviction needs a reason; try: --reason 'the host was switched off'")
			}
			var named []string
			if migration != "" {
				named = []string{migration}
			}
			return c.withState(func(ctx context.Context, store *state.Store, name string) error {
				if err := store.Evict(ctx, name, args[0], reason); err != nil {
					return err
				}
				return c.changed(args[0], "evicted")
			})(cmd, named)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "how you know that it has stopped; for the history")
	cmd.Flags().StringVarP(&migration, "migration", "m", "", "the migration, if there are several")
	return cmd
}
