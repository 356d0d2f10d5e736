package reconcile

import (
	"context"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// Reconciler compares the two stores of one migration, beside live writes.
//
// A difference seen once proves nothing: the application may be writing the record at
// that moment. A key that differs is a suspect, and is read again, the target first and
// then legacy. So legacy's state is at least as new as the target's, and where they
// differ the target has a write still to get. That write may reach it for NotAfter, and
// no longer. A difference is therefore confirmed when NotAfter has passed since a read
// that showed it, and the target's entry is the very same one and still differs. Legacy
// may change as often as it likes meanwhile: only a target that gets none of it for
// that long is wrong. A key whose entry changes at every recheck is read in quick
// succession at the end, to meet both stores in one state; if that fails it is counted
// as unresolved (Run.Unsettled), never as a difference.
type Reconciler struct {
	Legacy  store.LegacyRecords
	Locker  store.Locker // needed to repair, and to detect entries that are ahead of legacy or of a later era; nil: neither
	Target  store.TargetRecords
	Ledger  Ledger
	Jobs    Jobs // shares the work with other processes; nil: this process does all of it, and an interrupted run can't be resumed
	Compare *record.Comparer
	// Bypass says what writes of legacy no instance of the application has made; "": none are known.
	// It is asked where so much differs that nothing is repaired, and may take a minute. nil: no process
	// counts them.
	Bypass func(ctx context.Context) string
	// OnAhead is called before a repair raises legacy's era; see repair.Repairer.
	OnAhead func(ctx context.Context, seen record.Version) error
	// SameTarget is called once the target has been written or compared, before what that proves is
	// recorded: its error, that the target is not the one that it was, records nothing. nil: not
	// called.
	SameTarget func(ctx context.Context) error
	// CaughtUp returns once what brings legacy's changes to the target beside the application's own writes has
	// brought all that legacy had committed when it was called. It is called before suspects are read again. nil:
	// nothing does.
	CaughtUp func(ctx context.Context) error
	Options
}

// Run makes one run, or resumes one. It returns the run as it was saved, and the
// findings kept. A run that ctx or an error ends is saved as stopped, and the error
// returned; differences are no error. ErrRunning refuses a second run beside another.
func (rc *Reconciler) Run(ctx context.Context, o RunOptions) (Run, []Finding, error) {
	r, err := rc.newRunner(o)
	if err != nil {
		return Run{}, nil, err
	}
	due, err := r.due(ctx)
	if err != nil {
		return Run{}, nil, err
	}
	begun, release, err := rc.Ledger.Begin(ctx, due)
	if err != nil {
		return begun, nil, err
	}
	defer release()
	failpoint.Here("reconcile.begun")
	r.begin(begun)
	for _, stage := range []func(context.Context) error{
		r.resume,        // what an interrupted run has found counts
		r.repairJournal, // journaled keys, in a run that repairs
		r.compareLegacy, // each record of legacy with its entry: what differs is a suspect
		r.compareTarget, // what only the target has is a suspect, too
		r.recheck,       // a suspect agrees, or its difference is confirmed
		r.compareRecent, // a denser sample of young records, rechecked likewise
		r.repair,        // confirmed differences, unless too much differs
		rc.sameTarget,   // all of it was one target
	} {
		if err = stage(ctx); err != nil {
			break
		}
	}
	return r.end(ctx, err)
}

// [mark-checked]: a target that was lost since the run began, or the repair, proves nothing.
func (rc *Reconciler) sameTarget(ctx context.Context) error {
	if rc.SameTarget == nil {
		return nil
	}
	return rc.SameTarget(ctx)
}
