package main

import (
	"context"
	"sync"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
)

func newWorker(c *cli) *cobra.Command {
	var workers int
	cmd := &cobra.Command{
		Use:   "worker",
		Short: "Take a share of reconcile runs, on this machine as on others",
		Long: `Waits for reconcile runs of the migration, wherever they were started, and takes
jobs of them: some ten thousand records each. Start as many on as many machines as the
stores bear; the runs' rate is shared among them.

Told to stop, it gives back what it is at. Where it is killed or frozen, its jobs go to
others when it has shown no sign of life for reconcile.lease: each job counts once,
whoever finishes it. It needs the description that is applied, and both stores.`,
		Args:        noArgs,
		Annotations: map[string]string{logLevelOf: "info"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if workers < 0 || workers > 64 {
				return usagef("--workers %d: want 1 to 64", workers)
			}
			j, err := c.openJobWith(cmd.Context(), true, limitLoad)
			if err != nil {
				return err
			}
			defer j.close()
			if workers == 0 {
				workers = j.m.Reconcile.Workers
			}
			return c.worker(cmd.Context(), j, workers)
		},
	}
	cmd.Flags().IntVar(&workers, "workers", 0, "jobs at a time, instead of the description's reconcile.workers")
	return cmd
}

// worked is what a worker says when it is told to stop.
type worked struct {
	Migration string `json:"migration"`
	Jobs      int    `json:"jobs"`
	Checked   int64  `json:"checked"`
}

func (c *cli) worker(ctx context.Context, j *job, workers int) error {
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
	var mu sync.Mutex
	done := worked{Migration: j.m.Name}
	type share struct {
		run   int64
		terms reconcile.Terms // others, once legacy was cut anew
	}
	var at share
	var hands *reconcile.Worker // one run of a migration goes on at a time
	hand := func(run int64, terms reconcile.Terms) (*reconcile.Worker, error) {
		mu.Lock()
		defer mu.Unlock()
		if now := (share{run, terms}); hands == nil || now != at {
			w, err := rc.Worker(run, terms)
			if err != nil {
				return nil, err
			}
			at, hands = now, w
			c.log.Info("taking a share of a run", "run", run)
		}
		return hands, nil
	}
	c.log.Info("waiting for jobs", "migration", j.m.Name, "workers", workers)
	err = kept.Serve(ctx, workers, j.m.Hash(),
		func(ctx context.Context, run int64, terms reconcile.Terms, job reconcile.Job) (*reconcile.Tally, error) {
			w, err := hand(run, terms)
			if err != nil {
				return nil, err
			}
			return w.Compare(ctx, job)
		},
		func(run int64, job reconcile.Job, t *reconcile.Tally) {
			mu.Lock()
			defer mu.Unlock()
			done.Jobs++
			done.Checked += t.Checked
			c.log.Info("job done", "run", run, "job", job.Number, "checked", t.Checked, "suspects", len(t.Suspects))
		})
	if err != nil {
		return err
	}
	return c.show(done, func() {
		c.printf("Stopped after %s jobs of %s records.\n", count(done.Jobs), count(done.Checked))
	})
}
