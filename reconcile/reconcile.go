package reconcile

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/repair"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// Reconciler compares the two stores of one migration, beside live writes.
//
// A difference seen once proves nothing: the application may just be writing. A
// suspect is read again, the target first and then legacy. So legacy's state is
// at least as new as the target's, and where they differ the target has a write
// still to get. That write may reach it for NotAfter, and no longer. A difference
// is therefore confirmed when the target's entry is the very same one, and still
// differs, NotAfter after a look at which it did. Legacy may change as often as
// it likes meanwhile: only a target that gets none of it for that long is wrong.
// A key whose entry changes at every look is read in quick succession at the end,
// to catch both stores in one state; if that fails it is counted as unsettled,
// never as a difference.
type Reconciler struct {
	Legacy  store.LegacyRecords
	Locker  store.Locker // needed to repair, to know entries that are ahead of legacy or of a later era; nil: neither
	Target  store.TargetRecords
	Ledger  Ledger
	Jobs    Jobs // shares the work; nil: this process does it alone, and what is interrupted is lost
	Compare *record.Comparer
	Options
}

// Run makes one run, or goes on with one. It returns the run as it was saved, and
// the findings kept. A run that ctx or an error ends is saved as stopped, and the
// error returned; differences are no error. ErrRunning refuses a second run beside
// another.
func (rc *Reconciler) Run(ctx context.Context, o RunOptions) (Run, []Finding, error) {
	if o.Repair && rc.Locker == nil {
		return Run{}, nil, errors.New("a repair needs a legacy store that reads rows under their lock")
	}
	if o.Plan != nil && (o.Repair || rc.Locker == nil) {
		return Run{}, nil, errors.New("a plan is for a run that does not repair, of a legacy store that reads rows under their lock")
	}
	if o.Sample <= 0 {
		o.Sample = 100
	}
	r, err := rc.start()
	if err != nil {
		return Run{}, nil, err
	}
	var chunks []store.Chunk
	due := Run{ID: o.Resume}
	if o.Resume == 0 {
		var slices int
		if chunks, slices, err = r.cut(ctx, o); err != nil {
			return Run{}, nil, err
		}
		due = Run{
			Full: o.Full, TwoWay: o.TwoWay, Repair: o.Repair, Slices: slices, Forced: o.Force, Status: Running, Began: time.Now().UTC(),
			Expected: expected(chunks) / int64(slices),
		}
	}
	begun, release, err := rc.Ledger.Begin(ctx, due)
	if err != nil {
		return begun, nil, err
	}
	defer release()
	failpoint.Here("reconcile.begun")
	r.run = begun
	if r.run.Classes == nil {
		r.run.Classes = map[Class]int64{}
	}
	if r.plan = o.Plan; r.plan != nil {
		r.jobs = &alone{} // a plan is told here and now: it can't be gone on with
	}
	err = r.all(ctx, chunks)
	r.drop()
	if ended := ctx.Err(); err != nil && ended != nil {
		err = fmt.Errorf("the run was stopped: %w", ended)
	}
	failpoint.Here("reconcile.compared")
	r.run.Status, r.run.Finished = Done, time.Now().UTC()
	switch {
	case errors.Is(err, ErrCancelled):
		r.run.Status, r.run.Error = Cancelled, err.Error()
	case err != nil:
		r.run.Status, r.run.Error = Stopped, err.Error()
	}
	// Not even a cancelled run stays unsaved.
	saving, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if failed := r.save(saving); failed != nil && err == nil {
		err = failed
	}
	failpoint.Here("reconcile.finished")
	r.report()
	return r.run, r.findings, err
}

// work is one run at work.
type work struct {
	*Reconciler
	Options
	judge
	fixer   repair.Fixer
	limiter *rate.Limiter
	fast    *matching // nil: the stores have no fast way
	sums    summing   // of runs by spans
	jobs    Jobs
	terms   Terms
	live    atomic.Int64 // records that unfinished jobs of this process have compared

	seen      *prints // legacy's keys, of a run that looks for extras by their names; nil: not known
	collected []int   // jobs whose suspects are not settled yet
	settled   []int   // jobs whose suspects are, which is not saved yet

	mu        sync.Mutex // the fields below, while chunks are being read
	run       Run
	suspects  map[record.Key]struct{}
	ahead     map[record.Key]struct{} // agree, but the target's version seems to be ahead
	high      record.Version          // legacy has given this version, or a newer one
	confirmed map[uint64]struct{}
	strays    map[uint64]struct{}
	findings  []Finding
	unsaved   []Finding
	kept      map[Class]int
	common    int // findings kept beyond their classes' own room

	plan    func(Planned)
	pending []*held // confirmed, and to be repaired
}

func (rc *Reconciler) start() (*work, error) {
	r := &work{
		Reconciler: rc, Options: rc.defaults(),
		judge:    judge{compare: rc.Compare, expires: -1, seed: maphash.MakeSeed()},
		suspects: map[record.Key]struct{}{}, ahead: map[record.Key]struct{}{},
		confirmed: map[uint64]struct{}{}, strays: map[uint64]struct{}{}, kept: map[Class]int{},
	}
	if rc.Expires != "" {
		if r.expires = rc.Legacy.Schema().Index(rc.Expires); r.expires < 0 {
			return nil, fmt.Errorf("the field %q, past which records do not exist, is not moved", rc.Expires)
		}
	}
	r.fast, r.jobs, r.terms.Rate = newMatching(rc), rc.Jobs, r.Rate
	r.terms.Lease = r.Lease
	if r.jobs == nil {
		r.jobs = &alone{}
	}
	r.fixer = repair.Fixer{Locker: rc.Locker, Target: rc.Target, NotAfter: r.NotAfter}
	if r.Rate > 0 {
		r.limiter = rate.NewLimiter(rate.Limit(r.Rate), r.Batch)
	}
	return r, nil
}

// all does all of the run's work that is not done yet.
func (r *work) all(ctx context.Context, chunks []store.Chunk) error {
	was, err := r.resume(ctx)
	if err != nil {
		return err
	}
	if r.run.Repair && was.Jobs == 0 {
		if r.run.Journalled, err = r.repairJournal(ctx, journalPasses, r.wait); err != nil {
			return err
		}
	}
	names, _ := r.Target.(store.KeyScanner)
	byName := r.run.TwoWay && r.run.Full && r.fast != nil && names != nil
	for cuts := 0; ; cuts++ {
		if was.Jobs == 0 {
			if chunks == nil {
				if chunks, err = r.cutAgain(ctx); err != nil {
					return err
				}
			}
			r.terms.Names, r.terms.Seed = byName, rand.Uint64()
			r.terms.Spans, r.terms.TwoWay = r.sums.bySpans(chunks), r.run.TwoWay
			if err := r.share(ctx, chunks); err != nil {
				return err
			}
		}
		if byName && was.Finished == 0 {
			r.seen = newPrints(r.terms.Seed)
		}
		err := r.jobs.Work(ctx, r.run.ID, r.Workers, r.compareJob, func(j Job, t *Tally) error { return r.collect(ctx, j, t) })
		if !errors.Is(err, store.ErrMoved) || cuts == 3 || ctx.Err() != nil {
			if err != nil {
				return err
			}
			break
		}
		// What was counted stays found; what was checked is checked again.
		r.run.Checked, r.collected, was, chunks = 0, nil, Resumed{}, nil
	}
	switch {
	case r.terms.Spans:
		err = r.compareVersions(ctx, chunks)
	case byName:
		err = r.compareNames(ctx, names)
	case r.run.TwoWay:
		err = r.compareTarget(ctx)
	}
	if err != nil {
		return err
	}
	return r.finish(ctx)
}

// share cuts the run's jobs from legacy's chunks.
func (r *work) share(ctx context.Context, chunks []store.Chunk) error {
	if err := r.cover(ctx, chunks); err != nil {
		return err
	}
	jobs := jobsOf(slice(chunks, r.run.Slice, r.run.Slices), r.terms.Rate)
	if err := r.jobs.Enqueue(ctx, r.run.ID, r.terms, jobs); err != nil {
		return fmt.Errorf("share the run's jobs: %w", err)
	}
	failpoint.Here("reconcile.shared")
	return nil
}

func (r *work) cutAgain(ctx context.Context) ([]store.Chunk, error) {
	sample := (phases.All + phases.Percent(r.run.Slices) - 1) / phases.Percent(r.run.Slices)
	chunks, _, err := r.cut(ctx, RunOptions{Full: r.run.Full, Sample: sample})
	return chunks, err
}

// resume takes over what a run has found that is gone on with. What it held back
// to repair later has to be found again; so has all, if it got no jobs.
func (r *work) resume(ctx context.Context) (Resumed, error) {
	was, err := r.jobs.Resumed(ctx, r.run.ID)
	if err != nil {
		return was, fmt.Errorf("read how far the run got: %w", err)
	}
	if was.Jobs > 0 {
		r.terms = was.Terms
	}
	r.run.Checked, r.run.Suspects, r.run.Scanned, r.run.Error = was.Checked, was.Suspects, 0, ""
	r.run.Recent, r.run.RecentDifferent, r.run.RecentOnly, r.run.Refused = 0, 0, 0, ""
	r.takeUp(was)
	return was, nil
}

func (r *work) save(ctx context.Context) error {
	if err := r.Ledger.Save(ctx, r.run, r.unsaved, r.settled...); err != nil {
		return fmt.Errorf("save the run: %w", err)
	}
	failpoint.Here("reconcile.saved")
	r.unsaved, r.settled = nil, nil
	return nil
}

func (r *work) report() {
	if r.Report == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	run := r.run
	run.Checked += max(0, r.live.Load())
	run.Classes = make(map[Class]int64, len(r.run.Classes))
	for c, n := range r.run.Classes {
		run.Classes[c] = n
	}
	r.Report(run)
}
