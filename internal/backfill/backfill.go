package backfill

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/repair"
	"github.com/stranglerfig/migrator/internal/sleep"
	"github.com/stranglerfig/migrator/internal/throttle"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// opensMargin is added to the wait after the barrier: clocks are read over a network.
const opensMargin = 250 * time.Millisecond

// Backfill copies the records that legacy has into the target, beside live
// writes, and may be killed and run again at any moment.
//
// A write made while the migration is in legacy is not shadowed; a write beside it
// under shadow-write is, and the older of the two may land last. So once every instance
// has left legacy, a barrier divides all writes: those before it are committed and older
// than its version L0, those after it are newer. A row read after the barrier may be
// applied at L0 if that is newer than the target's version: it can only replace entries
// older than the barrier. A write from before the barrier that has not landed yet is
// older too, but may be the only trace of a delete; so the copy waits until all such
// writes have landed or are refused. Last, entries still older than L0 are left over from
// an earlier time beyond legacy: the sweep repairs each (legacy mostly lacks them).
type Backfill struct {
	Legacy  store.LegacyRecords
	Barrier store.Barrier
	Locker  store.Locker
	OnAhead func(ctx context.Context, seen record.Version) error // see repair.Repairer
	Target  store.TargetRecords
	Ledger  Ledger

	ChunkRows   int           // rows a chunk, the unit of resumption; default 5000
	Batch       int           // rows sent to the target at once; default 500, or 2500 where it takes blocks
	Rate        int           // rows per second at most, by which chunks are cut; 0: no limit
	Workers     int           // chunks that are written at a time, while as many are read; default 2
	NotAfter    time.Duration // how long after its read a row may land: also the wait after the barrier; default 10 s
	LockTimeout time.Duration // how long the barrier waits for open writers; default 10 s
	Patience    time.Duration // how long rows that fail are retried before the run fails; default 1 min
	Expires     bool          // records may expire: one that was written may be gone

	// Captured returns the version of the last barrier that change capture has passed, with all before it in the
	// target; zero: none. It returns an error while capture can't pass one. nil: changes are not captured.
	Captured func(ctx context.Context) (record.Version, error)
	// Throttle makes chunks wait. nil: Rate alone does.
	Throttle *throttle.Throttle

	// Report, if set, is called after every batch with the present state, by one
	// goroutine at a time. Chunks must not be changed.
	Report func(Progress)
}

func (b *Backfill) defaults() Backfill {
	d, batch := *b, 500
	if newBulkCopier(b) != nil {
		batch = 2500
	}
	for _, n := range []struct {
		value    *int
		standard int
	}{{&d.ChunkRows, 5000}, {&d.Batch, batch}, {&d.Workers, 2}} {
		if *n.value <= 0 {
			*n.value = n.standard
		}
	}
	for _, n := range []struct {
		value    *time.Duration
		standard time.Duration
	}{{&d.NotAfter, 10 * time.Second}, {&d.LockTimeout, 10 * time.Second}, {&d.Patience, time.Minute}} {
		if *n.value <= 0 {
			*n.value = n.standard
		}
	}
	if d.Rate > 0 {
		d.Batch = max(1, min(d.Batch, d.Rate/2))
		// A chunk that is written after its not-after must be read twice: a chunk that has been
		// read waits for the one being written, and shares the rate with the others.
		d.ChunkRows = max(1, min(d.ChunkRows, int(float64(d.Rate)*d.NotAfter.Seconds()/float64(4*d.Workers))))
	}
	return d
}

// Run does or resumes the backfill and returns how far it came. It returns
// ErrRunning, ErrNotReady, or an error that wraps ctx's where that has ended;
// whatever it returns, the next Run resumes from there.
func (b *Backfill) Run(ctx context.Context) (Progress, error) {
	p, release, err := b.Ledger.Begin(ctx)
	if err != nil {
		return p, err
	}
	defer release()
	failpoint.Here("replicate.begun")
	r := &run{Backfill: b.defaults(), p: p, sample: map[int][]record.Key{}}
	r.bulk = newBulkCopier(&r.Backfill)
	r.repairer = repair.Repairer{Locker: r.Locker, Target: r.Target, NotAfter: r.NotAfter, OnAhead: r.OnAhead}
	stop, err := r.startThrottle(ctx)
	if err == nil {
		err = r.all(ctx)
		stop()
	}
	resume := hint.Hint{Do: hint.BackfillRun, Text: "to resume it"}
	switch {
	case err == nil:
	case ctx.Err() != nil:
		err = hint.Errorf(resume, "the backfill was stopped after %d of %d chunks: %w", r.p.Done, len(r.p.Chunks), ctx.Err())
	case errors.Is(err, ErrNotReady):
	default:
		if h, ok := hint.Of(err); ok {
			resume = h // the cause's own hint comes first
		}
		err = hint.Errorf(resume, "the backfill stopped after %d of %d chunks: %w", r.p.Done, len(r.p.Chunks), err)
	}
	return r.p, err
}

// run is one call of Run.
type run struct {
	Backfill
	repairer repair.Repairer
	bulk     *bulkCopier // nil: rows go one by one

	mu     sync.Mutex
	p      Progress
	done   map[int]bool         // finished chunks beyond p.Done
	live   counts               // of chunks that are not finished, for Report only
	sample map[int][]record.Key // of some chunks, what readBack has found
}

func (r *run) all(ctx context.Context) error {
	if err := r.passBarrier(ctx); err != nil {
		return err
	}
	// A table that is rewritten this often fails the run.
	for cuts := 0; ; cuts++ {
		if len(r.p.Chunks) == 0 {
			chunks, err := r.Legacy.Chunks(ctx, r.ChunkRows)
			if err != nil {
				return fmt.Errorf("cut legacy into chunks: %w", err)
			}
			clear(r.sample)
			err = r.change(ctx, func(p *Progress) {
				p.Chunks, p.Done = append([]store.Chunk{}, chunks...), 0
				p.Rows, p.Applied, p.Newer = 0, 0, 0
			})
			if err != nil {
				return err
			}
			failpoint.Here("replicate.chunks.saved")
		}
		err := r.copyChunks(ctx)
		// [backfill-moved]: the blocks have other rows now; all is copied again.
		if errors.Is(err, store.ErrMoved) && cuts < 10 && ctx.Err() == nil {
			r.mu.Lock()
			r.p.Chunks = nil
			r.mu.Unlock()
			continue
		}
		if err != nil {
			return err
		}
		break
	}
	if err := r.findLost(ctx); err != nil {
		return err
	}
	// [backfill-sweep]: after every chunk: what is still older than the barrier, legacy mostly
	// lacks.
	if err := r.sweep(ctx); err != nil {
		return err
	}
	if r.p.Swept > 0 {
		if err := r.findLost(ctx); err != nil {
			return err
		}
	}
	if err := r.readSample(ctx); err != nil {
		return err
	}
	failpoint.Here("replicate.swept")
	// [backfill-done]: only after copy and sweep.
	if err := r.change(ctx, func(p *Progress) { p.Finished, p.Throttled = time.Now().UTC(), "" }); err != nil {
		r.mu.Lock()
		r.p.Finished = time.Time{}
		r.mu.Unlock()
		return err
	}
	failpoint.Here("replicate.finished")
	r.report()
	return nil
}

// passBarrier takes the barrier, unless the run that is resumed has, and waits
// until every write from before it has arrived or is refused.
func (r *run) passBarrier(ctx context.Context) error {
	if r.p.Barrier.IsZero() || r.p.Opens.IsZero() && r.Captured == nil {
		if r.Captured != nil {
			// [capture-order]: what commits between the barrier and a slot that is made later is in neither. A
			// slot that is lost meanwhile voids this run.
			if _, err := r.Captured(ctx); err != nil {
				return fmt.Errorf("%w: %w", ErrNotReady, err)
			}
		}
		// [backfill-barrier]: the ledger's Begin has made sure that no instance may still be on
		// legacy.
		version, err := r.Backfill.Barrier.Barrier(ctx, r.LockTimeout)
		if err != nil {
			return fmt.Errorf("take the barrier: %w", err)
		}
		failpoint.Here("replicate.barrier.taken")
		passed := func(p *Progress) { p.Barrier, p.Opens, p.Chunks, p.Done = version, time.Time{}, nil, 0 }
		if r.Captured == nil {
			r.mu.Lock()
			passed(&r.p)
			r.mu.Unlock()
		} else if err := r.change(ctx, passed); err != nil { // before the wait: a resumed run keeps this barrier
			return err
		}
	}
	if r.p.Opens.IsZero() {
		if err := r.awaitCaptured(ctx); err != nil {
			return err
		}
		now, err := r.Target.Now(ctx)
		if err != nil {
			return fmt.Errorf("read the target's clock: %w", err)
		}
		// [backfill-wait]: counted by the target's clock from after the barrier. Chunks are cut
		// later, so that none is older than the barrier. Saved before a row is read: a resumed run
		// keeps this barrier.
		err = r.change(ctx, func(p *Progress) { p.Opens = now.Add(r.NotAfter + opensMargin).UTC() })
		if err != nil {
			return err
		}
		failpoint.Here("replicate.barrier.saved")
	}
	r.report()
	for {
		now, err := r.Target.Now(ctx)
		if err != nil {
			return fmt.Errorf("read the target's clock: %w", err)
		}
		// [backfill-wait]: a delete from before the barrier that has not landed yet must land
		// before its key is copied and swept.
		left := r.p.Opens.Sub(now)
		if left <= 0 {
			return nil
		}
		if err := sleep.For(ctx, min(left, time.Second)); err != nil {
			return err
		}
	}
}

// capturePoll is how often it is looked whether capture is past the barrier.
const capturePoll = 500 * time.Millisecond

// awaitCaptured waits until change capture is past the barrier, where changes are captured.
//
// [capture-barrier]: what was committed before the barrier, capture may bring long after it. Its last write from
// before ends with its not-after, also that of a process that no longer captures: so the wait for these counts
// from here.
func (r *run) awaitCaptured(ctx context.Context) error {
	if r.Captured == nil {
		return nil
	}
	r.report()
	for {
		passed, err := r.Captured(ctx)
		if err != nil {
			return fmt.Errorf("wait until change capture is past the barrier: %w", err)
		}
		if !r.p.Barrier.NewerThan(passed) {
			return nil
		}
		// The save finds out whether this run is void.
		if err := r.change(ctx, func(*Progress) {}); err != nil {
			return err
		}
		if err := sleep.For(ctx, capturePoll); err != nil {
			return err
		}
	}
}

// startThrottle lets the throttle look at its limits. What it does is part of the progress.
func (r *run) startThrottle(ctx context.Context) (stop func(), err error) {
	t := r.Throttle
	if t == nil {
		t = &throttle.Throttle{Limits: func(context.Context) (throttle.Limits, error) { return throttle.Limits{Rate: r.Rate}, nil }}
		r.Throttle = t
	}
	before := r.p
	t.Report = func(s throttle.Status) {
		err := r.change(ctx, func(p *Progress) {
			if !p.Finished.IsZero() {
				return
			}
			p.Throttled, p.Holds, p.Held = s.Why, before.Holds+s.Holds, before.Held+int64(s.Held/time.Second)
		})
		if err == nil { // else the next save of a chunk fails too, and ends the run
			r.report()
		}
	}
	return t.Start(ctx)
}

// change changes the progress, and saves it.
func (r *run) change(ctx context.Context, what func(*Progress)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	what(&r.p)
	return r.save(ctx)
}

// save stores the progress; not even a cancelled ctx leaves it unsaved.
func (r *run) save(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := r.Ledger.Save(ctx, r.p); err != nil {
		return fmt.Errorf("save the backfill's progress: %w", err)
	}
	return nil
}

func (r *run) report() {
	if r.Report == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.p
	p.Rows, p.Applied, p.Newer = p.Rows+r.live.rows, p.Applied+r.live.applied, p.Newer+r.live.newer
	r.Report(p)
}
