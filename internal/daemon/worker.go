package daemon

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/logs"
	"github.com/stranglerfig/migrator/internal/server"
	"github.com/stranglerfig/migrator/internal/sleep"
	"github.com/stranglerfig/migrator/metrics"
	"github.com/stranglerfig/migrator/reconcile"
)

// Worker takes jobs of a migration's reconcile runs, on whichever machine a run was started. It
// follows the applied migration file: when another one is applied, it gives its jobs back and
// opens the stores again.
type Worker struct {
	// Open opens the job of the applied migration file, as it is now. Run closes it.
	Open    func(ctx context.Context) (*app.Job, error)
	Workers int // jobs at a time; 0: reconcile.workers of the applied migration file
	// Listen opens the listener for health checks and metrics; nil: none is served.
	Listen func(ctx context.Context) (net.Listener, error)
	Log    *slog.Logger // nil: discarded

	job atomic.Pointer[app.Job]
}

// Worked is a worker's total.
type Worked struct {
	Migration string `json:"migration"`
	Jobs      int64  `json:"jobs"`
	Checked   int64  `json:"checked"`
}

// Run takes jobs until ctx ends, and then returns no error.
func (w *Worker) Run(ctx context.Context) (done Worked, err error) {
	log := logs.OrDiscard(w.Log)
	j, err := w.Open(ctx)
	if err != nil {
		return done, err
	}
	w.job.Store(j)
	defer func() { w.job.Load().Close() }()
	if _, err := j.CheckReconcile(ctx, false); err != nil {
		return done, err
	}
	name := j.Config.Name
	group, working := errgroup.WithContext(ctx)
	counts := &metrics.Worker{}
	if w.Listen != nil {
		if err := w.answer(working, group, name, counts, log); err != nil {
			return done, err
		}
	}
	group.Go(func() error {
		for {
			if err := w.serve(working, w.job.Load(), counts, log); err != nil || working.Err() != nil {
				return err
			}
			log.Info("another migration file was applied")
			if !w.reopen(working, log) {
				return nil
			}
		}
	})
	if err := group.Wait(); err != nil {
		return done, err
	}
	return Worked{Migration: name, Jobs: counts.Done.Load(), Checked: counts.Checked.Load()}, nil
}

// followEvery is how often a worker looks for another applied migration file.
const followEvery = 2 * time.Second

// reopen replaces the job, once that succeeds; until then the worker takes none. false: ctx has
// ended.
func (w *Worker) reopen(ctx context.Context, log *slog.Logger) bool {
	var failures logs.Failures
	for {
		j, err := w.Open(ctx)
		if err == nil {
			w.job.Swap(j).Close()
			return true
		}
		if failures.Note("open", err) == logs.Failed && ctx.Err() == nil {
			log.Warn("opening the stores again failed; no job is taken until then", "error", err, hint.Attr(err))
		}
		if sleep.For(ctx, followEvery) != nil {
			return false
		}
	}
}

// serve works on jobs until ctx ends, or another migration file is applied.
func (w *Worker) serve(ctx context.Context, j *app.Job, counts *metrics.Worker, log *slog.Logger) error {
	st, err := j.State.Status(ctx, j.Config.Name)
	if err != nil {
		return err
	}
	workers := cmp.Or(w.Workers, j.Config.Reconcile.Workers)
	rc, runs, err := j.Reconciler(ctx)
	if err != nil {
		return err
	}
	runs.Log = log
	current := &currentRun{rc: rc}
	serving, stop := context.WithCancel(ctx)
	defer stop()
	group, serving := errgroup.WithContext(serving)
	log.Info("waiting for jobs", "migration", j.Config.Name, "workers", workers)
	group.Go(func() error {
		for sleep.For(serving, followEvery) == nil {
			now, err := j.State.Status(serving, j.Config.Name)
			if err == nil && now.StoredHash != j.Stored { // a state that does not answer is not another file
				stop()
			}
		}
		return nil
	})
	group.Go(func() error {
		defer stop()
		return runs.Serve(serving, workers, st.ConfigHash,
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
	return group.Wait()
}

// answer serves health checks and metrics in the group.
func (w *Worker) answer(ctx context.Context, group *errgroup.Group, name string, counts *metrics.Worker, log *slog.Logger) error {
	scraped, err := counts.Handler(name)
	if err != nil {
		return err
	}
	listener, err := w.Listen(ctx)
	if err != nil {
		return err
	}
	api := &server.API{Ping: func(ctx context.Context) error { return w.job.Load().State.Pool().Ping(ctx) }, Role: func() string { return "worker" }, Metrics: scraped, Log: log}
	log.Info("listening", "address", listener.Addr().String())
	group.Go(func() error { return server.Serve(ctx, listener, api.Handler(), server.Options{}) })
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
