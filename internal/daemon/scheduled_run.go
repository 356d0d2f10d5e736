package daemon

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/reconciles"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
)

// schedule makes the runs that the migration file sets times for.
func (d *Daemon) schedule(m *Migration, log *slog.Logger) *Schedule {
	return &Schedule{
		Migration: m.Config.Name, Times: reconciles.New(d.State.Pool(), m.Config.Name), Log: d.Log,
		Exprs: func() map[reconcile.Kind]string {
			now := m.now()
			return map[reconcile.Kind]string{reconcile.SampledKind: now.Reconcile.Schedule, reconcile.FullKind: now.Reconcile.FullSchedule}
		},
		Run: func(ctx context.Context, kind reconcile.Kind) (int64, string, error) {
			return scheduledRun(ctx, d.State, m, kind, log)
		},
	}
}

// scheduledRun makes a run, or resumes one of the kind that was interrupted.
func scheduledRun(ctx context.Context, st *state.Store, m *Migration, kind reconcile.Kind, log *slog.Logger) (int64, string, error) {
	name := m.Config.Name
	status, err := st.Status(ctx, name)
	if err != nil {
		return 0, "", err
	}
	if p := status.Route.Phase; p == phases.Legacy || p == phases.Complete {
		return 0, "", fmt.Errorf("%w in %s", ErrNothingDue, p)
	}
	now, err := openstore.Load(m.File)
	if err != nil {
		return 0, "", err
	}
	if now.Name != name || now.Hash() != status.ConfigHash {
		return 0, "", fmt.Errorf("%s is not the description that is applied to %s; try: migrator apply", m.File, name)
	}
	openstore.LimitLoad(now)
	job, err := app.OpenJob(ctx, st, now)
	if err != nil {
		return 0, "", err
	}
	defer job.CloseStores()
	full := kind == reconcile.FullKind
	o := app.Reconcile{RunOptions: reconcile.RunOptions{Full: full, TwoWay: full, Sample: now.Reconcile.Sample}, Log: log}
	o.OnPause = func(run int64, why string) {
		if why == "" {
			log.Info("the reconcile run goes on", "run", run)
		} else {
			log.Warn("the reconcile run is paused", "run", run, "why", why)
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
