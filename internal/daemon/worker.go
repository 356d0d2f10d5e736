package daemon

import (
	"context"
	"log/slog"
	"net"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/logs"
	"github.com/stranglerfig/migrator/internal/server"
	"github.com/stranglerfig/migrator/metrics"
	"github.com/stranglerfig/migrator/reconcile"
)

// Worker takes jobs of a migration's reconcile runs, on whichever machine a run was started.
type Worker struct {
	Job     *app.Job
	Workers int // jobs at a time
	// Listen opens the listener for health checks and metrics; nil: none is served.
	Listen func(ctx context.Context) (net.Listener, error)
	Log    *slog.Logger // nil: discarded
}

// Worked is a worker's total.
type Worked struct {
	Migration string `json:"migration"`
	Jobs      int64  `json:"jobs"`
	Checked   int64  `json:"checked"`
}

// Run takes jobs until ctx ends, and then returns no error.
func (w *Worker) Run(ctx context.Context) (done Worked, err error) {
	j, log := w.Job, logs.OrDiscard(w.Log)
	if _, err := j.CheckReconcile(ctx, false); err != nil {
		return done, err
	}
	rc, runs, err := j.Reconciler(ctx)
	if err != nil {
		return done, err
	}
	runs.Log = log
	counts := &metrics.Worker{}
	group, working := errgroup.WithContext(ctx)
	if w.Listen != nil {
		if err := w.answer(working, group, counts, log); err != nil {
			return done, err
		}
	}
	current := &currentRun{rc: rc}
	log.Info("waiting for jobs", "migration", j.Config.Name, "workers", w.Workers)
	group.Go(func() error {
		return runs.Serve(working, w.Workers, j.Config.Hash(),
			func(ctx context.Context, run int64, terms reconcile.Terms, job reconcile.Job) (*reconcile.Tally, error) {
				counts.Running.Add(1)
				defer counts.Running.Add(-1)
				worker, isNew, err := current.worker(run, terms)
				if err != nil {
					return nil, err
				}
				if isNew {
					log.Info("joined a run", "run", run)
				}
				t, err := worker.Compare(ctx, job)
				if err != nil && ctx.Err() == nil {
					counts.Failed.Add(1)
				}
				return t, err
			},
			func(run int64, job reconcile.Job, t *reconcile.Tally) {
				counts.Done.Add(1)
				counts.Checked.Add(t.Checked)
				log.Info("job done", "run", run, "job", job.Number, "checked", t.Checked, "suspects", len(t.Suspects))
			})
	})
	if err := group.Wait(); err != nil {
		return done, err
	}
	return Worked{Migration: j.Config.Name, Jobs: counts.Done.Load(), Checked: counts.Checked.Load()}, nil
}

// answer serves health checks and metrics in the group.
func (w *Worker) answer(ctx context.Context, group *errgroup.Group, counts *metrics.Worker, log *slog.Logger) error {
	scraped, err := counts.Handler(w.Job.Config.Name)
	if err != nil {
		return err
	}
	listener, err := w.Listen(ctx)
	if err != nil {
		return err
	}
	api := &server.API{Ping: w.Job.State.Pool().Ping, Role: func() string { return "worker" }, Metrics: scraped, Log: log}
	log.Info("listening", "address", listener.Addr().String())
	group.Go(func() error { return server.Serve(ctx, listener, api.Handler()) })
	return nil
}

// currentRun caches the comparer of one run's jobs: a migration has one run at a time.
type currentRun struct {
	rc *reconcile.Reconciler

	mu    sync.Mutex
	run   int64
	terms reconcile.Terms // change when legacy is split into chunks again
	have  *reconcile.Worker
}

func (c *currentRun) worker(run int64, terms reconcile.Terms) (w *reconcile.Worker, isNew bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.have != nil && run == c.run && terms == c.terms {
		return c.have, false, nil
	}
	if w, err = c.rc.Worker(run, terms); err != nil {
		return nil, false, err
	}
	c.run, c.terms, c.have = run, terms, w
	return w, true, nil
}
