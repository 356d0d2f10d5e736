package reconcile

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/repair"
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
	Legacy  record.Legacy
	Locker  record.Locker // needed to repair, to know entries that are ahead of legacy or of a later era; nil: neither
	Target  record.Target
	Ledger  Ledger
	Compare *record.Comparer
	Options
}

// Run makes one run. It returns the run as it was saved, and the findings kept.
// A run that ctx or an error ends is saved as stopped, and the error returned;
// differences are no error. ErrRunning refuses a second run beside another.
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
	chunks, slices, err := r.cut(ctx, o)
	if err != nil {
		return Run{}, nil, err
	}
	begun, release, err := rc.Ledger.Begin(ctx, Run{
		Full: o.Full, TwoWay: o.TwoWay, Repair: o.Repair, Slices: slices, Forced: o.Force, Status: Running, Began: time.Now().UTC(),
	})
	if err != nil {
		return begun, nil, err
	}
	defer release()
	failpoint.Here("reconcile.begun")
	r.run = begun
	r.run.Expected = expected(chunks) / int64(slices)
	r.run.Classes = map[Class]int64{}
	r.plan = o.Plan
	err = r.all(ctx, o, chunks)
	r.drop()
	if ended := ctx.Err(); err != nil && ended != nil {
		err = fmt.Errorf("the run was stopped: %w", ended)
	}
	failpoint.Here("reconcile.compared")
	r.run.Status, r.run.Finished = Done, time.Now().UTC()
	if err != nil {
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
	seen    *prints   // legacy's keys, of a run that looks for extras by their names

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
	r.fast = newMatching(rc)
	r.fixer = repair.Fixer{Locker: rc.Locker, Target: rc.Target, NotAfter: r.NotAfter}
	if r.Rate > 0 {
		r.limiter = rate.NewLimiter(rate.Limit(r.Rate), r.Batch)
	}
	return r, nil
}

func (r *work) all(ctx context.Context, o RunOptions, chunks []record.Chunk) error {
	if o.Repair {
		var err error
		if r.run.Journalled, err = r.repairJournal(ctx, journalPasses); err != nil {
			return err
		}
	}
	names, _ := r.Target.(record.NameScanner)
	byName := o.TwoWay && o.Full && r.fast != nil && names != nil
	for cuts := 0; ; cuts++ {
		if byName {
			r.seen = newPrints(r.seed)
		}
		err := r.compareChunks(ctx, chunks)
		if !errors.Is(err, record.ErrMoved) || cuts == 3 || ctx.Err() != nil {
			if err != nil {
				return err
			}
			break
		}
		// What was counted stays found; what was checked is checked again.
		r.run.Checked = 0
		if chunks, _, err = r.cut(ctx, o); err != nil {
			return err
		}
	}
	var err error
	switch {
	case byName:
		err = r.compareNames(ctx, names)
	case o.TwoWay:
		err = r.compareTarget(ctx)
	}
	if err != nil {
		return err
	}
	return r.finish(ctx)
}

func (r *work) save(ctx context.Context) error {
	if err := r.Ledger.Save(ctx, r.run, r.unsaved); err != nil {
		return fmt.Errorf("save the run: %w", err)
	}
	failpoint.Here("reconcile.saved")
	r.unsaved = nil
	return nil
}

func (r *work) report() {
	if r.Report == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	run := r.run
	run.Classes = make(map[Class]int64, len(r.run.Classes))
	for c, n := range r.run.Classes {
		run.Classes[c] = n
	}
	r.Report(run)
}
