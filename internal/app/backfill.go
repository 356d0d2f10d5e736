package app

import (
	"cmp"
	"context"
	"time"

	"github.com/stranglerfig/migrator/internal/backfill"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/backfills"
	"github.com/stranglerfig/migrator/internal/throttle"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/store"
)

// Backfill are the options of a backfill.
type Backfill struct {
	Rate    *int // rows per second at most; nil: the migration file's
	Workers int  // chunks at a time; 0: the migration file's
	Again   bool // even if one has finished in the present stay beyond legacy
	// Patience is how long rows that fail are retried; 0: the backfill's own.
	Patience time.Duration
	// Progress is called as rows are read; total is an estimate. nil: never.
	Progress func(rows, total int64)
	// Throttled is called when the throttle begins to hold the backfill, with the cause, and when it goes on, with "".
	// nil: never.
	Throttled func(why string)
}

// Backfilled is the result of a backfill.
type Backfilled struct {
	backfill.Progress
	Before bool          // one had finished before, and nothing was done
	Ago    time.Duration // how long before, by the state database's clock
	Dry    bool          // it would begin, or be resumed: nothing was done
}

// Backfill copies legacy's records, or resumes an interrupted backfill. It does nothing if
// one has finished since the migration left phase legacy, unless Again is set. A dry run refuses what would be
// refused, and ends before the barrier.
func (j *Job) Backfill(ctx context.Context, o Backfill) (done Backfilled, err error) {
	if err := j.ReachTarget(ctx); err != nil {
		return done, err
	}
	if _, _, err := j.SeeColumns(ctx); err != nil {
		return done, err
	}
	runs := backfills.New(j.State.Pool(), j.Config.Name)
	e, err := j.State.Snapshot(ctx, j.Config.Name)
	if err != nil {
		return done, err
	}
	if b := e.Backfill; b != nil && !b.Finished.IsZero() && b.Epoch >= e.Status.FilledFrom() && !e.Capture.LostSince(b.Began) && !o.Again {
		latest, err := runs.Latest(ctx)
		if err != nil {
			return done, err
		}
		return Backfilled{Progress: *latest, Before: true, Ago: e.Now.Sub(b.Finished)}, nil
	}
	s := j.Config.Backfill
	b := backfill.Backfill{
		Legacy: j.Legacy, Barrier: j.Legacy, Locker: j.Legacy, Target: j.Target, Ledger: runs, OnAhead: j.markAhead, Captured: j.captured(),
		ChunkRows: s.ChunkRows, Rate: s.Rate, Workers: cmp.Or(o.Workers, s.Workers),
		NotAfter: time.Duration(j.Config.Writing.NotAfter), LockTimeout: LockTimeout(j.Config),
		Patience: o.Patience, Expires: j.Config.ExpiryColumn() != "",
	}
	if o.Rate != nil {
		b.Rate = *o.Rate
	}
	b.Throttle = j.Throttle(func(m *migration.Config) int {
		if o.Rate != nil {
			return *o.Rate
		}
		return m.Backfill.Rate
	})
	if o.Progress != nil || o.Throttled != nil {
		held := ""
		b.Report = func(p backfill.Progress) {
			if o.Throttled != nil && p.Throttled != held {
				held = p.Throttled
				o.Throttled(held)
			}
			if o.Progress == nil {
				return
			}
			var total int64
			for _, chunk := range p.Chunks {
				total += chunk.Rows
			}
			o.Progress(p.Rows, total)
		}
	}
	if state.IsDryRun(ctx) {
		p, release, err := runs.Begin(ctx)
		if err != nil {
			return done, err
		}
		release()
		return Backfilled{Progress: p, Dry: true}, nil
	}
	done.Progress, err = b.Run(ctx)
	if err == nil {
		_, err = j.WatchBypass(ctx)
	}
	return done, err
}

// Throttle returns one for a job of the migration, by what is applied at each moment. rate is the key with the
// job's rate.
func (j *Job) Throttle(rate func(*migration.Config) int) *throttle.Throttle {
	legacy, _ := j.Legacy.(store.LoadReporter)
	return &throttle.Throttle{Legacy: legacy, Target: j.Target, Limits: func(ctx context.Context) (throttle.Limits, error) {
		m, err := Applied(ctx, j.State, j.Config.Name)
		if err != nil {
			return throttle.Limits{}, err
		}
		t := m.Throttle
		return throttle.Limits{
			Rate: rate(m), StandbyLag: time.Duration(t.StandbyLag), StandbyBytes: int64(t.StandbyMiB) << 20,
			Sessions: t.Sessions, TargetLatency: time.Duration(t.TargetLatency),
		}, nil
	}}
}

// CaptureRate is the rate of change capture, for Throttle.
func CaptureRate(m *migration.Config) int { return m.Throttle.Changes }
