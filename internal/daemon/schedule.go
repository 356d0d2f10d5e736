package daemon

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/schedule"
	"github.com/stranglerfig/migrator/reconcile"
)

// Times records the times at which runs were due.
type Times interface {
	LastScheduled(ctx context.Context, kind reconcile.Kind, expr string) (last reconcile.Scheduled, now time.Time, err error)
	SaveScheduled(ctx context.Context, s reconcile.Scheduled, isNew bool) (mine bool, err error)
}

// Schedule makes reconcile runs at set times. Only the leader runs it. However many times
// were missed without a leader, one run makes up for them. The next leader resumes a run
// that the leader's death interrupted.
type Schedule struct {
	Migration string
	Times     Times
	// Exprs are the cron expressions, by the kind of run, as they are now.
	Exprs func(ctx context.Context) (map[reconcile.Kind]string, error)
	// Run makes a run, or resumes an interrupted one of the kind, and returns its number
	// and its result in one line.
	Run  func(ctx context.Context, kind reconcile.Kind) (run int64, detail string, err error)
	Poll time.Duration // how often times are checked; 0: 2 s
	Log  *slog.Logger  // nil: discarded
}

const schedulePoll = 2 * time.Second

// ErrNothingDue is wrapped by a Run that has nothing to do, with the reason.
var ErrNothingDue = errors.New("there is nothing to reconcile")

// Loop runs until ctx ends, and then returns nil.
func (s *Schedule) Loop(ctx context.Context) error {
	log := s.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	log = log.With("migration", s.Migration)
	tick := time.NewTicker(cmp.Or(s.Poll, schedulePoll))
	defer tick.Stop()
	lastFailure := ""
	for {
		err := s.tick(ctx, log)
		if err != nil && ctx.Err() == nil && err.Error() != lastFailure {
			log.Warn("reading the schedule failed", "error", err, hint.Attr(err))
			lastFailure = err.Error()
		}
		if err == nil {
			lastFailure = ""
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (s *Schedule) tick(ctx context.Context, log *slog.Logger) error {
	exprs, err := s.Exprs(ctx)
	if err != nil {
		return err
	}
	for _, kind := range []reconcile.Kind{reconcile.FullKind, reconcile.SampledKind} {
		expr := exprs[kind]
		if expr == "" {
			continue
		}
		due, err := s.due(ctx, kind, expr)
		if err != nil {
			return err
		}
		if due == nil {
			continue
		}
		log.Info("scheduled reconcile run due", "kind", kind, "due", due.Due, "late", time.Since(due.Due).Round(time.Second))
		run, detail, err := s.Run(ctx, kind)
		if ctx.Err() != nil {
			return nil // the next leader resumes it
		}
		due.Run, due.Detail, due.Outcome = run, detail, reconcile.ScheduleDone
		switch {
		case errors.Is(err, reconcile.ErrRunning), errors.Is(err, ErrNothingDue):
			due.Outcome, due.Detail = reconcile.ScheduleRefused, err.Error()
		case err != nil:
			due.Outcome, due.Detail = reconcile.ScheduleFailed, err.Error()
		}
		level := slog.LevelInfo
		if err != nil {
			level = slog.LevelWarn
		}
		log.Log(ctx, level, "scheduled reconcile run ended", "kind", kind, "outcome", due.Outcome, "run", run, "detail", due.Detail)
		if _, err := s.Times.SaveScheduled(ctx, *due, false); err != nil {
			return err
		}
	}
	return nil
}

// due returns the time at which a run should have begun and has not, recorded as claimed
// by this process; nil if there is none.
func (s *Schedule) due(ctx context.Context, kind reconcile.Kind, expr string) (*reconcile.Scheduled, error) {
	times, err := schedule.Parse(expr)
	if err != nil {
		return nil, err
	}
	last, now, err := s.Times.LastScheduled(ctx, kind, expr)
	switch {
	case err != nil:
		return nil, err
	case last.Due.IsZero():
		last.Due, last.Outcome = now, reconcile.ScheduleSet
		_, err = s.Times.SaveScheduled(ctx, last, true)
		return nil, err
	case last.Outcome == reconcile.ScheduleRunning:
		return &last, nil
	}
	at := times.Next(last.Due)
	if at.IsZero() || at.After(now) {
		return nil, nil
	}
	for next := times.Next(at); !next.IsZero() && !next.After(now); next = times.Next(at) {
		at = next
	}
	due := reconcile.Scheduled{Kind: kind, Expr: expr, Due: at, Outcome: reconcile.ScheduleRunning}
	mine, err := s.Times.SaveScheduled(ctx, due, true)
	if err != nil || !mine {
		return nil, err
	}
	return &due, nil
}
