package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/internal/oneline"
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
	var force, lapsed, yes bool
	cmd := &cobra.Command{
		Use:   "evict INSTANCE|--lapsed",
		Short: "Remove lapsed instances that you confirm have stopped",
		Long: `Ends the lease of an instance that expired without leaving, so that the migration can
continue; with --lapsed the leases of all such instances. Make sure first that the processes
have stopped: migrator cannot check that. Their queued writes may never reach the target, so
cutover then needs a full reconcile, begun once writing.not_after has passed: status says from
when it counts. An instance that was evicted before stays so: the command may be repeated.

With --force, an instance that still renews its lease can't any more. Its lease counts
until it expires: a process that runs all the same then goes on as without a lease.`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case lapsed && (len(args) > 0 || force):
				return usageTry(try("%s --lapsed --reason '...'", cmd.CommandPath()), "--lapsed takes neither an instance nor --force")
			case !lapsed && (len(args) != 1 || args[0] == ""):
				return usageTry(hint.Hint{Do: hint.FleetList}, "name one instance, or all that have lapsed with --lapsed")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if strings.TrimSpace(reason) == "" {
				return usageTry(try("--reason 'the host was switched off'"), "an eviction needs a reason")
			}
			return c.withState(func(ctx context.Context, store *state.Store, name string) error {
				if lapsed {
					return c.evictLapsed(ctx, store, name, reason, yes)
				}
				if err := store.Evict(ctx, name, args[0], reason, force); err != nil {
					return err
				}
				return c.changed(args[0], "evicted")
			})(cmd, named(migration))
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "how you know that it has stopped, for the history")
	cmd.Flags().BoolVar(&force, "force", false, "also an instance that still renews its lease")
	cmd.Flags().BoolVar(&lapsed, "lapsed", false, "every instance whose lease has lapsed")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "with --lapsed: don't ask; needed without a terminal")
	cmd.Flags().StringVarP(&migration, "migration", "m", "", "the migration, if there are several")
	return c.canDryRun(cmd)
}

func (c *cli) evictLapsed(ctx context.Context, store *state.Store, name, reason string, yes bool) error {
	st, err := store.Snapshot(ctx, name)
	if err != nil {
		return err
	}
	if n := len(st.Fleet.Lapsed); n > 0 {
		question := fmt.Sprintf("Have all of these stopped: %s?", oneline.Within(join(st.Fleet.Lapsed), maxErrorLine))
		if err := c.confirmUnlessDry(ctx, yes, question); err != nil {
			return err
		}
	}
	evicted, err := store.EvictLapsed(ctx, name, reason)
	if err != nil {
		return err
	}
	result := struct {
		Migration string   `json:"migration"`
		Evicted   []string `json:"evicted"`
		DryRun    bool     `json:"dry_run,omitempty"`
	}{name, append([]string{}, evicted...), c.dryRun}
	return c.show(result, func() {
		for _, instance := range evicted {
			c.printf("%s\n", instance)
		}
		verb := "evicted"
		if c.dryRun {
			verb = "nothing was changed; would be evicted:"
		}
		c.printf("%s %s of %s\n", verb, humanize.Counted(len(evicted), "instance"), name)
	})
}
