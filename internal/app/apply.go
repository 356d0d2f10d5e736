package app

import (
	"context"
	"encoding/json"

	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// ApplyResult is the result of an apply.
type ApplyResult struct {
	Created      bool              `json:"created"`
	Changes      []state.KeyChange `json:"changes"`           // the keys whose values were stored; empty: nothing differed
	Columns      bool              `json:"columns"`           // legacy's columns had changed
	Parts        bool              `json:"parts"`             // the parts of legacy's table had changed, and are accepted
	NewEpoch     bool              `json:"new_epoch"`         // the share of compared reads changed, which is part of the route, or what is moved
	DryRun       bool              `json:"dry_run,omitempty"` // it would be so: nothing was changed
	EvidenceVoid bool              `json:"evidence_void"`     // what was measured and approved before opens no gate any more
	Added        []string          `json:"added,omitempty"`   // columns that are moved from now on, or as another type
	Dropped      []string          `json:"dropped,omitempty"` // columns that were moved until now, or as another type
	Status       phases.Status     `json:"status"`
}

// Nothing reports whether nothing was stored.
func (a *ApplyResult) Nothing() bool {
	return !a.Created && !a.Columns && !a.Parts && !a.EvidenceVoid && len(a.Changes) == 0
}

// Apply prepares both stores, records the migration file and claims the target's keys, in this
// order: after a crash at any point, another Apply completes it.
//
// In a dry run it changes no store, and ends with what the state would store.
//
// takeOver takes the target's keys from another migration that has them. columns are the changes of
// what is moved that are confirmed.
func Apply(ctx context.Context, st *state.Store, m *migration.Config, takeOver bool, columns ColumnFlags) (a ApplyResult, err error) {
	file, err := state.ToApply(m)
	if err != nil {
		return a, err
	}
	// Before anything is prepared in a store: st.Apply looks again, with the row locked.
	if _, err := st.Compare(ctx, file); err != nil {
		return a, err
	}
	known, at, err := columnsBefore(ctx, st, m.Name)
	if err != nil {
		return a, err
	}
	legacy, err := m.OpenLegacy(ctx)
	if err != nil {
		return a, err
	}
	defer legacy.Close()
	now, err := resolveColumns(known, at.Phase, legacy.Schema(), columns)
	if err != nil {
		return a, err
	}
	target, err := m.OpenTarget(ctx, legacy.Schema())
	if err != nil {
		return a, err
	}
	defer func() { _ = target.Close() }()
	now, err = resolveColumns(known, at.Phase, typed(legacy, target), columns)
	if err != nil {
		return a, err
	}
	own := *m
	own.Schema, m = now.schema, &own
	if at.Epoch > 0 {
		a.Added, a.Dropped = now.added, now.dropped
	}
	if !state.IsDryRun(ctx) {
		if err := prepare(ctx, st, m.Name, legacy, target); err != nil {
			return a, err
		}
	}
	// Again: with the columns, which the hashes cover.
	if file, err = state.ToApply(m); err != nil {
		return a, err
	}
	if file.Schema, err = json.Marshal(m.Schema); err != nil {
		return a, err
	}
	var stored state.Stored
	if now.change {
		a.Status, stored, err = st.ChangeFields(ctx, file, at, "columns that are moved: "+now.String())
	} else {
		a.Status, stored, err = st.Apply(ctx, file)
	}
	if err != nil {
		return a, err
	}
	a.Created, a.Changes, a.Columns = stored.Created, stored.Changes, stored.Columns
	a.NewEpoch, a.EvidenceVoid = stored.Epoch, stored.Void
	if state.IsDryRun(ctx) {
		a.Parts, a.DryRun = a.Status.LegacyChanged != "", true
		return a, nil
	}
	failpoint.Here("apply.recorded")
	if w, ok := legacy.(store.PartWatcher); ok {
		// [parts-watched]: what is accepted is noted first, where no daemon has looked since.
		changes, _, err := (&control.Controller{State: st, Migration: m.Name, Legacy: legacy}).WatchParts(ctx)
		if err != nil {
			return a, err
		}
		a.Parts = a.Status.LegacyChanged != "" || changes != ""
		parts, err := w.Parts(ctx)
		if err != nil {
			return a, err
		}
		if err := st.AcceptParts(ctx, m.Name, parts); err != nil {
			return a, err
		}
	}
	if _, _, err := seeColumns(ctx, st, m, legacy, target); err != nil {
		return a, err
	}
	if a.Status, err = st.Status(ctx, m.Name); err != nil {
		return a, err
	}
	// Last: the mark is of a migration that the state has.
	return a, claimTarget(ctx, st, m.Name, target, takeOver)
}

// prepare makes what the migration needs in both stores.
func prepare(ctx context.Context, st *state.Store, name string, legacy store.Legacy, target store.Target) error {
	if err := legacy.Install(ctx); err != nil {
		return err
	}
	failpoint.Here("apply.installed")
	if t, ok := target.(store.Preparer); ok {
		if err := t.Prepare(ctx); err != nil {
			return err
		}
	}
	failpoint.Here("apply.prepared")
	return raiseForgotten(ctx, st, name, legacy)
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
