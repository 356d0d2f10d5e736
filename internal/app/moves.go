package app

import (
	"context"
	"fmt"

	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
)

// Moves is a controller with what its next move was opened with.
type Moves struct {
	*control.Controller
	Config   *migration.Config // that is applied
	Snapshot phases.Snapshot   // as of when the controller was opened
	close    func()
}

// Close closes the stores, if they were opened; the state stays the caller's.
func (m *Moves) Close() { m.close() }

// OpenMoves reads the migration once, and opens both stores where the next move needs
// them. file, which was read from path, is the migration file at hand, perhaps of another
// migration; nil: there is none. A move forward refuses one that is not applied, by a
// *DriftError; a rollback does not wait for that.
func OpenMoves(ctx context.Context, st *state.Store, name string, file *migration.Config, path string, forward bool, report func(string)) (*Moves, error) {
	// [state-server]: a move's history names the change before the move.
	if _, err := st.NoteServer(ctx); err != nil {
		return nil, err
	}
	e, applied, err := st.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	m := &Moves{Snapshot: e, close: func() {}}
	if m.Config, err = openstore.Stored(applied.Config); err != nil {
		return nil, fmt.Errorf("the applied migration file of %s can't be read: %w", name, err)
	}
	if m.Config, err = withColumns(m.Config, applied); err != nil {
		return nil, err
	}
	ours := file != nil && file.Name == name
	if ours {
		if file, err = withColumns(file, applied); err != nil {
			return nil, err
		}
	}
	if ours && forward {
		if err := checkHash(file, path, applied.ConfigHash); err != nil {
			return nil, err
		}
	}
	m.Controller = NewController(st, m.Config, report)
	m.Controller.Stored = e.Status.StoredHash
	reach := migration.Prometheus{}
	if ours {
		reach = file.Prometheus
	}
	m.Judge = NewJudge(st, name, m.Config.Settings(), func() migration.Prometheus { return reach })
	if p := e.Status.Route.Phase; ours && forward && !p.Fenced() && !p.Passing() && p != phases.Complete {
		m.Look = func(ctx context.Context) error { return lookAtColumns(ctx, st, file) }
	}
	if !needsStores(e.Status, forward) {
		return m, nil
	}
	switch {
	case file == nil:
		return nil, &InputError{hint.Errorf(hint.Hint{Do: hint.SetMigrationFile},
			"from %s on, a move touches both stores, whose URLs are in the migration file", e.Status.Route)}
	case !ours:
		return nil, refuse("%s describes %s, not %s", path, file.Name, name)
	}
	job, err := OpenJob(ctx, st, file)
	if err != nil {
		return nil, err
	}
	c := job.Controller(m.Config, report)
	c.Stored, c.Judge, c.Look = m.Controller.Stored, m.Judge, m.Look
	m.Controller, m.close = c, job.CloseStores
	// [mark-checked]: not where a fence is only lifted, which does not touch the target.
	if p := e.Status.Route.Phase; forward || p == phases.Retain || p == phases.Returning {
		if err := job.CheckTarget(ctx); err != nil {
			m.Close()
			return nil, err
		}
	}
	lost, err := job.WatchLegacy(ctx)
	if err != nil {
		m.Close()
		return nil, err
	}
	if lost != "" && report != nil {
		report(lost)
	}
	return m, nil
}

// needsStores reports whether a move from the status touches the stores: the fence and the
// rollback through it do.
func needsStores(st phases.Status, forward bool) bool {
	return st.Attempt != "" || st.Route.Phase.Passing() || forward && st.Route.Phase == phases.Grace
}
