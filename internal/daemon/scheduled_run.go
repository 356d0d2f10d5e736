package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/reconciles"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
)

// schedule starts reconcile runs at the times of the applied migration file.
func (d *Daemon) schedule(m *Migration, log *slog.Logger) *Schedule {
	return &Schedule{
		Migration: m.Config.Name, Times: reconciles.New(d.State.Pool(), m.Config.Name), Log: d.Log,
		Exprs: func(ctx context.Context) (map[reconcile.Kind]string, error) {
			applied, err := app.Applied(ctx, d.State, m.Config.Name)
			if errors.Is(err, statedb.ErrUnknownMigration) {
				return nil, nil
			}
			if err != nil {
				return nil, err
			}
			return map[reconcile.Kind]string{reconcile.SampledKind: applied.Reconcile.Schedule, reconcile.FullKind: applied.Reconcile.FullSchedule}, nil
		},
		Run: func(ctx context.Context, kind reconcile.Kind) (int64, string, error) {
			return scheduledRun(ctx, d.State, m, kind, log)
		},
	}
}

// scheduledRun makes a run, or resumes an interrupted one of the same kind.
func scheduledRun(ctx context.Context, st *state.Store, m *Migration, kind reconcile.Kind, log *slog.Logger) (int64, string, error) {
	name := m.Config.Name
	status, err := st.Status(ctx, name)
	if err != nil {
		return 0, "", err
	}
	if p := status.Route.Phase; p == phases.Legacy || p == phases.Complete {
		return 0, "", fmt.Errorf("%w in %s", ErrNothingDue, p)
	}
	now, err := app.LoadInForce(ctx, st, m.File, name)
	if err != nil {
		return 0, "", err
	}
	now.LimitLoad()
	job, err := app.OpenJob(ctx, st, now)
	if err != nil {
		return 0, "", err
	}
	defer job.CloseStores()
	// [mark-checked]: what another server has would be compared as the target.
	if err := job.CheckTarget(ctx); err != nil {
		return 0, "", err
	}
	full := kind == reconcile.FullKind
	o := app.Reconcile{RunOptions: reconcile.RunOptions{Full: full, TwoWay: full, Sample: now.Reconcile.Sample}, Log: log}
	o.OnPause = func(run int64, why string) {
		if why == "" {
			log.Info("reconcile run resumed", "run", run)
		} else {
			log.Warn("reconcile run paused", "run", run, "why", why)
		}
	}
	if o.Resume, err = job.Interrupted(ctx, o.RunOptions, true); err != nil {
		return 0, "", err
	}
	run, _, err := job.Reconcile(ctx, o)
	if err != nil {
		return run.ID, "", err
	}
	return run.ID, app.RunSummary(name, run), nil
}
