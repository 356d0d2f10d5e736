package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/internal/logs"
	"github.com/stranglerfig/migrator/internal/state/reconciles"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/store"
)

// runThrottled makes a run that is paused while a condition of reconcile.stop_on holds.
func runThrottled(ctx context.Context, j *Job, r *reconcile.Reconciler, runs *reconciles.Runs, o Reconcile) (run reconcile.Run, found []reconcile.Finding, err error) {
	if !j.Config.Reconcile.StopOn.Any() {
		return r.Run(ctx, o.RunOptions)
	}
	group, watching := errgroup.WithContext(ctx)
	watching, over := context.WithCancel(watching)
	began := make(chan int64, 1)
	r.Ledger = beginNotifier{runs, began}
	group.Go(func() error {
		select {
		case id := <-began:
			stopOn(watching, j, runs, id, o.Log)
		case <-watching.Done():
		}
		return nil
	})
	run, found, err = r.Run(ctx, o.RunOptions)
	over()
	_ = group.Wait()
	return run, found, err
}

// beginNotifier sends the number of the run that begins.
type beginNotifier struct {
	*reconciles.Runs
	began chan int64
}

func (b beginNotifier) Begin(ctx context.Context, run reconcile.Run) (reconcile.Run, func(), error) {
	run, release, err := b.Runs.Begin(ctx, run)
	if err == nil {
		b.began <- run.ID
	}
	return run, release, err
}

// stopOn pauses the run while it must wait, and resumes it afterwards. It does not end an
// operator's pause. A check that fails is logged and changes nothing.
func stopOn(ctx context.Context, j *Job, runs *reconciles.Runs, run int64, log *slog.Logger) {
	tick := time.NewTicker(time.Duration(j.Config.Reconcile.StopOn.Interval))
	defer tick.Stop()
	var failures logs.Failures
	for {
		why, err := mustWait(ctx, j)
		if ctx.Err() != nil {
			return
		}
		if failures.Note("check", err) == logs.Failed {
			log.Warn("throttle check failed; continuing", "error", err, hint.Attr(err))
		}
		if err == nil {
			if why != "" {
				err = runs.Pause(ctx, run, why, true)
			} else {
				err = runs.Continue(ctx, run, true)
			}
			if err != nil && !errors.Is(err, reconciles.ErrNoRun) && ctx.Err() == nil {
				log.Warn("pausing or resuming the reconcile run failed", "error", err, hint.Attr(err))
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// mustWait returns why a run must wait; "": it need not.
func mustWait(ctx context.Context, j *Job) (why string, err error) {
	stop := j.Config.Reconcile.StopOn
	ask := func(query string) (float64, bool, error) {
		reading := prometheus(j.Config.Prometheus, query).Read(ctx)
		switch reading.Verdict {
		case "":
			return reading.Value, true, nil
		case phases.NoData:
			return 0, false, nil
		}
		return 0, false, errors.New(reading.Detail)
	}
	for _, name := range stop.Alerts {
		firing, found, err := ask(fmt.Sprintf(`max(ALERTS{alertname=%q,alertstate="firing"})`, name))
		if err != nil {
			return "", err
		}
		if found && firing > 0 {
			return "the alert " + name + " is firing", nil
		}
	}
	if stop.PromQL != "" {
		value, found, err := ask(stop.PromQL)
		if err != nil {
			return "", err
		}
		if found && value > *stop.Above {
			return fmt.Sprintf("%s is %g, above %g", stop.PromQL, value, *stop.Above), nil
		}
	}
	if stop.ReplicationLag > 0 {
		l, ok := j.Legacy.(store.LoadReporter)
		if !ok {
			return "", errors.New("this legacy store does not report how far its standbys are behind")
		}
		load, err := l.Load(ctx)
		if err != nil {
			return "", err
		}
		if bound := time.Duration(stop.ReplicationLag); load.StandbyLag > bound {
			return fmt.Sprintf("a standby of legacy is %s behind, more than %s", humanize.Span(load.StandbyLag), humanize.Span(bound)), nil
		}
	}
	return "", nil
}
