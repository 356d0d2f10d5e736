package app

import (
	"cmp"
	"context"
	"time"

	"github.com/stranglerfig/migrator/internal/backfill"
	"github.com/stranglerfig/migrator/internal/state/backfills"
)

// Backfill is how a backfill is run.
type Backfill struct {
	Rate    *int // rows per second at most; nil: the migration file's
	Workers int  // chunks at a time; 0: the migration file's
	Again   bool // though one is finished
	// Progress is called as rows are read; total is an estimate. nil: not at all.
	Progress func(rows, total int64)
}

// Backfilled is what a backfill has come to.
type Backfilled struct {
	backfill.Progress
	Before bool          // it was finished before, and nothing was done
	Ago    time.Duration // how long before, by the state database's clock
}

// Backfill copies legacy's records, or resumes an interrupted backfill. One that was
// finished in the present stay beyond legacy is not made again unasked.
func (j *Job) Backfill(ctx context.Context, o Backfill) (done Backfilled, err error) {
	if err := j.ReachTarget(ctx); err != nil {
		return done, err
	}
	runs := backfills.New(j.State.Pool(), j.Config.Name)
	e, err := j.State.Snapshot(ctx, j.Config.Name)
	if err != nil {
		return done, err
	}
	if b := e.Backfill; b != nil && !b.Finished.IsZero() && b.Epoch > e.Status.LegacyEpoch && !o.Again {
		latest, err := runs.Latest(ctx)
		if err != nil {
			return done, err
		}
		return Backfilled{Progress: *latest, Before: true, Ago: e.Now.Sub(b.Finished)}, nil
	}
	s := j.Config.Backfill
	b := backfill.Backfill{
		Legacy: j.Legacy, Barrier: j.Legacy, Locker: j.Legacy, Target: j.Target, Ledger: runs,
		ChunkRows: s.ChunkRows, Rate: s.Rate, Workers: cmp.Or(o.Workers, s.Workers),
		NotAfter: time.Duration(j.Config.Writing.NotAfter), LockTimeout: LockTimeout(j.Config),
	}
	if o.Rate != nil {
		b.Rate = *o.Rate
	}
	if o.Progress != nil {
		b.Report = func(p backfill.Progress) {
			var total int64
			for _, chunk := range p.Chunks {
				total += chunk.Rows
			}
			o.Progress(p.Rows, total)
		}
	}
	done.Progress, err = b.Run(ctx)
	return done, err
}
