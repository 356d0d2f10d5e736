package main

import (
	"context"
	"time"

	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/reconciles"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/reconcile"
)

// listedRun is a row of reconcile list.
type listedRun struct {
	reconcile.Run
	Coverage *reconcile.Coverage `json:"coverage,omitempty"` // of a done run: as it was at its end
}

func (r *listedRun) covered() string {
	if r.Coverage == nil {
		return "-"
	}
	return reconcile.Share(r.Coverage.Checked)
}

// coverageOf is the coverage at the end of a run; nil: it proved nothing.
func coverageOf(ctx context.Context, store *state.Store, name string, run reconcile.Run) (*reconcile.Coverage, error) {
	if run.Status != reconcile.Done {
		return nil, nil
	}
	m, err := appliedSettings(ctx, store, name)
	if err != nil {
		return nil, err
	}
	c, err := reconciles.New(store.Pool(), name).Coverage(ctx, run, window(m))
	return &c, err
}

func coverageNow(ctx context.Context, j *job) (*reconcile.Coverage, error) {
	c, err := reconciles.New(j.state.Pool(), j.m.Name).CoverageNow(ctx, window(j.m))
	return &c, err
}

// window is how far back runs count. A description that was applied by an older
// migrator does not say.
func window(m *migration.Config) time.Duration {
	if m.Reconcile.Window > 0 {
		return time.Duration(m.Reconcile.Window)
	}
	return 30 * 24 * time.Hour
}
