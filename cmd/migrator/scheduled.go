package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/stranglerfig/migrator/internal/daemon"
	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/reconciles"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
)

// schedule makes the runs that the description sets times for.
func (c *cli) schedule(store *state.Store, k *kept, log *slog.Logger) *daemon.Schedule {
	return &daemon.Schedule{
		Migration: k.m.Name, Times: reconciles.New(store.Pool(), k.m.Name), Log: c.log,
		Exprs: func() map[reconcile.Kind]string {
			m := k.now()
			return map[reconcile.Kind]string{reconcile.SampledKind: m.Reconcile.Schedule, reconcile.FullKind: m.Reconcile.FullSchedule}
		},
		Run: func(ctx context.Context, kind reconcile.Kind) (int64, string, error) {
			return c.scheduledRun(ctx, store, k, kind, log)
		},
	}
}

// now is the description as it is; as it was at the start, if it can't be read.
func (k *kept) now() *migration.Config {
	if m, err := openstore.Load(k.path); err == nil && m.Name == k.m.Name {
		return m
	}
	return k.m
}

func (c *cli) scheduledRun(ctx context.Context, store *state.Store, k *kept, kind reconcile.Kind, log *slog.Logger) (int64, string, error) {
	standing, err := store.Standing(ctx, k.m.Name)
	if err != nil {
		return 0, "", err
	}
	if p := standing.Route.Phase; p == phases.Legacy || p == phases.Complete {
		return 0, "", fmt.Errorf("%w in %s", daemon.ErrNothingDue, p)
	}
	m, err := openstore.Load(k.path)
	if err != nil {
		return 0, "", err
	}
	if m.Name != k.m.Name || m.Hash() != standing.ConfigHash {
		return 0, "", fmt.Errorf("%s is not the description that is applied to %s; try: migrator apply", k.path, k.m.Name)
	}
	m.LimitLoad()
	t := &tools{job: job{m: m, state: store}, log: log}
	defer t.Close()
	if err := t.openStores(ctx); err != nil {
		return 0, "", err
	}
	r, runs, err := t.reconciler(ctx)
	if err != nil {
		return 0, "", err
	}
	runs.Log = log
	runs.OnPause = func(run int64, why string) {
		if why == "" {
			log.Info("the reconcile run goes on", "run", run)
		} else {
			log.Warn("the reconcile run is paused", "run", run, "why", why)
		}
	}
	full := kind == reconcile.FullKind
	o := reconcile.RunOptions{Full: full, TwoWay: full, Sample: m.Reconcile.Sample}
	if o.Resume, err = interrupted(ctx, &t.job, o, true); err != nil {
		return 0, "", err
	}
	run, _, err := runWatched(ctx, &t.job, r, runs, o, log)
	if err != nil {
		return run.ID, "", err
	}
	return run.ID, summary(m.Name, run), nil
}
