package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/internal/sources"
	"github.com/stranglerfig/migrator/internal/state/reconciles"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/store"
)

// runWatched makes a run that waits while the description says so.
func runWatched(ctx context.Context, j *job, r *reconcile.Reconciler, kept *reconciles.Runs, o reconcile.RunOptions, log *slog.Logger) (run reconcile.Run, found []reconcile.Finding, err error) {
	stop := j.m.Reconcile.StopOn
	if !stop.Any() {
		return r.Run(ctx, o)
	}
	group, watching := errgroup.WithContext(ctx)
	watching, over := context.WithCancel(watching)
	began := make(chan int64, 1)
	r.Ledger = begins{kept, began}
	group.Go(func() error {
		select {
		case id := <-began:
			stopOn(watching, j, kept, id, log)
		case <-watching.Done():
		}
		return nil
	})
	run, found, err = r.Run(ctx, o)
	over()
	_ = group.Wait()
	return run, found, err
}

// begins tells the number of the run that begins.
type begins struct {
	*reconciles.Runs
	began chan int64
}

func (b begins) Begin(ctx context.Context, run reconcile.Run) (reconcile.Run, func(), error) {
	run, release, err := b.Runs.Begin(ctx, run)
	if err == nil {
		b.began <- run.ID
	}
	return run, release, err
}

// stopOn pauses the run while it must wait, and lets it go on after. An operator's
// pause is left alone. What can't be found out changes nothing, and is told.
func stopOn(ctx context.Context, j *job, kept *reconciles.Runs, run int64, log *slog.Logger) {
	tick := time.NewTicker(time.Duration(j.m.Reconcile.StopOn.Interval))
	defer tick.Stop()
	trouble := ""
	for {
		why, err := mustWait(ctx, j)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && err.Error() != trouble:
			trouble = err.Error()
			log.Warn("whether the reconcile run must wait can't be found out", "error", err)
		case err != nil:
		default:
			trouble = ""
			if why != "" {
				err = kept.Pause(ctx, run, why, true)
			} else {
				err = kept.Continue(ctx, run, true)
			}
			if err != nil && !errors.Is(err, reconciles.ErrNoRun) && ctx.Err() == nil {
				log.Warn("the reconcile run could not be paused or resumed", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// mustWait tells why a run must wait; "": it need not.
func mustWait(ctx context.Context, j *job) (why string, err error) {
	stop, p := j.m.Reconcile.StopOn, j.m.Prometheus
	ask := func(query string) (float64, bool, error) {
		reading := (&sources.Prometheus{
			URL: p.URL, Query: query, TokenFile: p.TokenFile, CAFile: p.CAFile, Username: p.Username, PasswordFile: p.PasswordFile,
		}).Read(ctx)
		switch reading.Verdict {
		case "":
			return reading.Value, true, nil
		case "no data":
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
		l, ok := j.legacy.(store.LagReporter)
		if !ok {
			return "", errors.New("this legacy store does not tell how far its standbys are behind")
		}
		lag, err := l.ReplicationLag(ctx)
		if err != nil {
			return "", err
		}
		if bound := time.Duration(stop.ReplicationLag); lag > bound {
			return fmt.Sprintf("a standby of legacy is %s behind, more than %s", span(lag), span(bound)), nil
		}
	}
	return "", nil
}
