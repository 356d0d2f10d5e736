package app

import (
	"context"
	"encoding/json"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// ApplyResult is the result of an apply.
type ApplyResult struct {
	Created bool          `json:"created"`
	Status  phases.Status `json:"status"`
}

// Apply prepares both stores, records the migration file and claims the target's keys, in this
// order: after a crash at any point, another Apply completes it.
//
// takeOver takes the target's keys from another migration that has them.
func Apply(ctx context.Context, st *state.Store, m *migration.Config, takeOver bool) (a ApplyResult, err error) {
	legacy, err := m.OpenLegacy(ctx)
	if err != nil {
		return a, err
	}
	defer legacy.Close()
	if err := legacy.Install(ctx); err != nil {
		return a, err
	}
	failpoint.Here("apply.installed")
	target, err := m.OpenTarget(ctx, legacy.Schema())
	if err != nil {
		return a, err
	}
	defer func() { _ = target.Close() }()
	if t, ok := target.(store.Preparer); ok {
		if err := t.Prepare(ctx); err != nil {
			return a, err
		}
	}
	failpoint.Here("apply.prepared")
	config, err := m.Public()
	if err != nil {
		return a, err
	}
	schema, err := json.Marshal(legacy.Schema())
	if err != nil {
		return a, err
	}
	a.Status, a.Created, err = st.Apply(ctx, state.Applied{
		Migration: m.Name, Environment: m.Environment, Config: config, ConfigHash: m.Hash(),
		Schema: schema, Reversible: m.Phases.Retain.Reversible == nil || *m.Phases.Retain.Reversible,
	})
	if err != nil {
		return a, err
	}
	failpoint.Here("apply.recorded")
	if w, ok := legacy.(store.PartWatcher); ok {
		parts, err := w.Parts(ctx)
		if err != nil {
			return a, err
		}
		if err := st.AcceptParts(ctx, m.Name, parts); err != nil {
			return a, err
		}
	}
	// Last: the mark is of a migration that the state has.
	return a, claimTarget(ctx, st, m.Name, target, takeOver)
}

// LiftOrphan lifts a fence that no migration of this state has raised.
func LiftOrphan(ctx context.Context, st *state.Store, m *migration.Config, attempt string) error {
	if st, err := st.Status(ctx, m.Name); err == nil && st.Attempt == attempt {
		return refuseHint(hint.Hint{Do: hint.RollbackToGrace}, "the fence belongs to %s, which is on %s", m.Name, st.Route)
	}
	legacy, err := m.OpenLegacy(ctx)
	if err != nil {
		return err
	}
	defer legacy.Close()
	if _, err = legacy.LiftFence(ctx, attempt, LockTimeout(m)); err == nil {
		failpoint.Here("apply.unfenced")
	}
	return err
}
