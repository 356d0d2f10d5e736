package main

import (
	"context"
	"encoding/json"
	"time"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

func fenceBudget(m *migration.Config) time.Duration { return time.Duration(m.Writing.FenceBudget) }
func lockTimeout(m *migration.Config) time.Duration { return time.Duration(m.Backfill.LockTimeout) }

func newApply(c *cli) *cobra.Command {
	var liftFence string
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Record the migration's description and prepare both stores",
		Long: `Makes the checks of plan, prepares legacy (schema migrator_legacy: the era and the
version function) and the target, and records the description in the state
database. A new migration starts in phase legacy: nothing changes for the
application. Applying a changed description makes older evidence void.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			m, err := c.load()
			if err != nil {
				return err
			}
			kept, err := c.openState(ctx)
			if err != nil {
				return err
			}
			defer kept.Close()
			if liftFence != "" {
				if err := c.liftOrphan(ctx, kept, m, liftFence); err != nil {
					return err
				}
				failpoint.Here("apply.unfenced")
			}
			if p := c.examine(ctx, m); p.Refused > 0 {
				if err := c.show(p, func() { c.printChecks(p.Checks) }); err != nil {
					return err
				}
				return p.verdict()
			}
			legacy, err := m.OpenLegacy(ctx)
			if err != nil {
				return err
			}
			defer legacy.Close()
			if err := legacy.Install(ctx); err != nil {
				return err
			}
			failpoint.Here("apply.installed")
			target, err := m.OpenTarget(ctx, legacy.Schema())
			if err != nil {
				return err
			}
			defer func() { _ = target.Close() }()
			if t, ok := target.(store.Preparer); ok {
				if err := t.Prepare(ctx); err != nil {
					return err
				}
			}
			failpoint.Here("apply.prepared")
			config, err := m.Public()
			if err != nil {
				return err
			}
			schema, err := json.Marshal(legacy.Schema())
			if err != nil {
				return err
			}
			standing, created, err := kept.Apply(ctx, state.Applied{
				Migration: m.Name, Environment: m.Environment, Config: config, ConfigHash: m.Hash(),
				Schema: schema, Reversible: m.Phases.Retain.Reversible == nil || *m.Phases.Retain.Reversible,
			})
			if err != nil {
				return err
			}
			failpoint.Here("apply.recorded")
			result := struct {
				Created  bool            `json:"created"`
				Standing phases.Standing `json:"standing"`
			}{created, standing}
			return c.show(result, func() {
				verb := "applied"
				if created {
					verb = "created"
				}
				c.printf("%s %s: %s (epoch %d), configuration %s\n", verb, m.Name, standing.Route, standing.Route.Epoch, standing.ConfigHash[:12])
			})
		},
	}
	cmd.Flags().StringVar(&liftFence, "lift-fence", "", "first lift the fence of this attempt, whose state database is lost; what was written since is in the target alone")
	return cmd
}

// liftOrphan lifts a fence that no migration of the state has raised.
func (c *cli) liftOrphan(ctx context.Context, kept *state.Store, m *migration.Config, attempt string) error {
	if st, err := kept.Standing(ctx, m.Name); err == nil && st.Attempt == attempt {
		return usagef("the fence is that of %s, at %s; try: migrator phase rollback --to grace", m.Name, st.Route)
	}
	legacy, err := m.OpenLegacy(ctx)
	if err != nil {
		return err
	}
	defer legacy.Close()
	_, err = legacy.LiftFence(ctx, attempt, lockTimeout(m))
	return err
}
