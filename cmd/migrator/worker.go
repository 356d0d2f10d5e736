package main

import (
	"context"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/internal/server"
	"github.com/stranglerfig/migrator/metrics"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
)

func newWorker(c *cli) *cobra.Command {
	var workers int
	var at string
	cmd := &cobra.Command{
		Use:   "worker",
		Short: "Take a share of reconcile runs, on this machine as on others",
		Long: `Waits for reconcile runs of the migration, wherever they were started, and takes
jobs of them: some ten thousand records each. Start as many on as many machines as the
stores bear; the runs' rate is shared among them.

Told to stop, it gives back what it is at. Where it is killed or frozen, its jobs go to
others when it has shown no sign of life for reconcile.lease: each job counts once,
whoever finishes it. It needs the description that is applied, and both stores.

With --listen it answers GET /healthz and /metrics (for Prometheus), on loopback unless
--listen-anywhere says otherwise. The setting listen is serve's alone: both may share
a machine.`,
		Args:        noArgs,
		Annotations: map[string]string{logLevelOf: "info"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := inRange(inWorkers("workers", workers)); err != nil {
				return err
			}
			if at != "" {
				if err := c.mayListen(at); err != nil {
					return err
				}
			}
			j, err := c.openJobWith(cmd.Context(), true, limitLoad)
			if err != nil {
				return err
			}
			defer j.close()
			if workers == 0 {
				workers = j.m.Reconcile.Workers
			}
			return c.worker(cmd.Context(), j, workers, at)
		},
	}
	cmd.Flags().IntVar(&workers, "workers", 0, "jobs at a time, 64 at most, instead of the description's reconcile.workers")
	cmd.Flags().StringVar(&at, "listen", "", "where it answers health checks and metrics, on loopback; without, nowhere")
	cmd.Flags().Bool("listen-anywhere", false, "let other machines reach it too")
	return cmd
}

// worked is what a worker says when it is told to stop.
type worked struct {
	Migration string `json:"migration"`
	Jobs      int64  `json:"jobs"`
	Checked   int64  `json:"checked"`
}

func (c *cli) worker(ctx context.Context, j *job, workers int, at string) error {
	standing, err := j.state.Standing(ctx, j.m.Name)
	if err != nil {
		return err
	}
	if standing.Route.Phase == phases.Complete {
		return usagef("%s is complete: legacy no longer follows, there is nothing to compare the target with", j.m.Name)
	}
	rc, kept, err := j.reconciler(ctx)
	if err != nil {
		return err
	}
	kept.Log = c.log
	told := &metrics.Worker{}
	group, working := errgroup.WithContext(ctx)
	if at != "" {
		if err := c.answer(working, group, j, told, at); err != nil {
			return err
		}
	}
	hands := &hands{rc: rc}
	c.log.Info("waiting for jobs", "migration", j.m.Name, "workers", workers)
	group.Go(func() error {
		return kept.Serve(working, workers, j.m.Hash(),
			func(ctx context.Context, run int64, terms reconcile.Terms, job reconcile.Job) (*reconcile.Tally, error) {
				told.Running.Add(1)
				defer told.Running.Add(-1)
				w, isNew, err := hands.of(run, terms)
				if err != nil {
					return nil, err
				}
				if isNew {
					c.log.Info("taking a share of a run", "run", run)
				}
				t, err := w.Compare(ctx, job)
				if err != nil && ctx.Err() == nil {
					told.Failed.Add(1)
				}
				return t, err
			},
			func(run int64, job reconcile.Job, t *reconcile.Tally) {
				told.Done.Add(1)
				told.Checked.Add(t.Checked)
				c.log.Info("job done", "run", run, "job", job.Number, "checked", t.Checked, "suspects", len(t.Suspects))
			})
	})
	if err := group.Wait(); err != nil {
		return err
	}
	done := worked{Migration: j.m.Name, Jobs: told.Done.Load(), Checked: told.Checked.Load()}
	return c.show(done, func() {
		c.printf("Stopped after %s of %s.\n", counted(done.Jobs, "job"), counted(done.Checked, "record"))
	})
}

// answer begins to answer health checks and metrics, in the group.
func (c *cli) answer(ctx context.Context, group *errgroup.Group, j *job, told *metrics.Worker, at string) error {
	scraped, err := told.Handler(j.m.Name)
	if err != nil {
		return err
	}
	listener, err := c.listen(ctx, "worker", at)
	if err != nil {
		return err
	}
	api := &server.API{Ping: j.state.Pool().Ping, Role: func() string { return "worker" }, Metrics: scraped, Log: c.log}
	c.log.Info("listening", "address", listener.Addr().String())
	group.Go(func() error { return server.Serve(ctx, listener, api.Handler()) })
	return nil
}

// hands are a worker's for the run that goes on: of a migration there is one at a time.
type hands struct {
	rc *reconcile.Reconciler

	mu    sync.Mutex
	run   int64
	terms reconcile.Terms // others, once legacy was cut anew
	have  *reconcile.Worker
}

func (h *hands) of(run int64, terms reconcile.Terms) (w *reconcile.Worker, isNew bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.have != nil && run == h.run && terms == h.terms {
		return h.have, false, nil
	}
	if w, err = h.rc.Worker(run, terms); err != nil {
		return nil, false, err
	}
	h.run, h.terms, h.have = run, terms, w
	return w, true, nil
}
