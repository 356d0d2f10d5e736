package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// runner makes one run: it cuts legacy into jobs, and leads what the parts find from
// one to the next.
//
//	comparer -> suspects -> rechecker -> confirmed differences -> repairer
//
// All of them record in the recorder.
type runner struct {
	options Options
	request RunOptions
	jobs    Jobs

	comparer  *comparer
	rechecker *rechecker
	repairer  *repairer
	recorder  *recorder

	run     Run // as it began; its counts since then are the recorder's
	terms   Terms
	chunks  []store.Chunk // of legacy; nil: not cut by this process
	resumed Resumed
}

func (rc *Reconciler) newRunner(o RunOptions) (*runner, error) {
	if o.Repair && rc.Locker == nil {
		return nil, errors.New("a repair needs a legacy store that reads rows under their lock")
	}
	if o.Plan != nil && (o.Repair || rc.Locker == nil) {
		return nil, errors.New("a plan is for a run that does not repair, of a legacy store that reads rows under their lock")
	}
	if o.Sample <= 0 {
		o.Sample = 100
	}
	r := &runner{options: rc.defaults(), request: o, jobs: rc.Jobs}
	if r.jobs == nil || o.Plan != nil { // a plan is given to the caller at once: it can't be resumed
		r.jobs = &localJobs{}
	}
	r.recorder = newRecorder(rc.Ledger, r.options)
	var err error
	if r.comparer, err = rc.newComparer(r.options, r.jobs, r.recorder.compared); err != nil {
		return nil, err
	}
	r.repairer = newRepairer(r.comparer, r.recorder, r.options, rc.OnAhead, o.Plan)
	r.repairer.bypass = rc.Bypass
	r.repairer.sameTarget = rc.sameTarget
	r.rechecker = newRechecker(r.comparer, r.recorder, r.options, r.repairer.confirm)
	r.rechecker.caughtUp = rc.CaughtUp
	r.use(Terms{Rate: r.options.Rate, Lease: r.options.Lease})
	return r, nil
}

// begin takes the run as the ledger has recorded it.
func (r *runner) begin(run Run) {
	r.run = run
	r.comparer.pace.run = run.ID
	r.repairer.repairs = run.Repair
	r.recorder.begin(run)
}

func (r *runner) use(t Terms) {
	r.terms = t
	r.comparer.use(t)
}

// resume takes over what an interrupted run has found. A run that got no jobs begins
// from the start; so does the search for what only the target has.
func (r *runner) resume(ctx context.Context) error {
	was, err := r.jobs.Resumed(ctx, r.run.ID)
	if err != nil {
		return fmt.Errorf("read how far the run got: %w", err)
	}
	if was.Jobs > 0 {
		r.use(was.Terms)
	}
	r.resumed = was
	r.recorder.restore(was)
	r.repairer.restore(was)
	return nil
}

func (r *runner) repairJournal(ctx context.Context) error {
	if !r.run.Repair || r.resumed.Jobs > 0 {
		return nil
	}
	return r.repairer.repairJournal(ctx)
}

// movedTries is how often legacy is cut again because its storage was replaced.
const movedTries = 3

// compareLegacy compares the run's jobs, beside other processes. When legacy's storage
// is replaced meanwhile (a table was rewritten), all of it is cut and compared again;
// what was found stays found.
func (r *runner) compareLegacy(ctx context.Context) error {
	for cuts := 0; ; cuts++ {
		if r.resumed.Jobs == 0 {
			if err := r.enqueue(ctx); err != nil {
				return err
			}
		}
		if r.byKeys() != nil && r.resumed.Finished == 0 {
			r.comparer.legacyKeys = newKeyChecksums(r.terms.Seed)
		}
		err := r.jobs.Work(ctx, r.run.ID, r.options.Workers, r.compareJob, func(j Job, t *Tally) error { return r.collect(ctx, j, t) })
		if !errors.Is(err, store.ErrMoved) || cuts == movedTries || ctx.Err() != nil {
			return err
		}
		r.recorder.recount()
		r.resumed, r.chunks = Resumed{}, nil
	}
}

// byKeys lists the target's keys for the search for extras; nil: its records are read.
func (r *runner) byKeys() store.KeyScanner {
	if !r.run.TwoWay || !r.run.Full {
		return nil
	}
	return r.comparer.keysOnly()
}

// compareJob compares a job in this process. Its progress is reported until it ends;
// what it compared counts when the job is collected.
func (r *runner) compareJob(ctx context.Context, j Job) (*Tally, error) {
	t := &Tally{}
	defer func() { r.recorder.jobEnded(t.Checked) }()
	if err := r.comparer.compareJob(ctx, j, t); err != nil {
		return nil, err
	}
	return t, nil
}

// collect takes the tally of a finished job, of this process or another.
func (r *runner) collect(ctx context.Context, j Job, t *Tally) error {
	r.recorder.collect(j.Number, t.Checked)
	r.comparer.addLegacyKeys(t.Names)
	return r.suspect(ctx, t.Suspects, t.Ahead)
}

// compareTarget searches the target for what the comparison of legacy can't show:
// records that only the target has, names that no key leads to, and, of a run by
// spans, versions that are ahead.
func (r *runner) compareTarget(ctx context.Context) error {
	emit := func(b targetBatch) error {
		r.recorder.unknownKeys(b.unknown)
		r.recorder.scanned(b.scanned)
		return r.suspect(ctx, b.suspects, b.ahead)
	}
	keys := r.byKeys()
	switch {
	case r.terms.Spans:
		return r.comparer.spans.compareVersions(ctx, r.chunks, r.terms.TwoWay, emit)
	case keys != nil:
		return r.comparer.scanKeys(ctx, keys, emit)
	case r.run.TwoWay:
		return r.comparer.scanTarget(ctx, emit)
	}
	return nil
}

// compareRecent compares the sample of young records, once the slice is rechecked. The
// differences that only this sample shows are counted apart: the claim about the slice
// must not rest on records that were chosen.
func (r *runner) compareRecent(ctx context.Context) error {
	if r.options.Recent.Column == "" || r.run.Full {
		return nil
	}
	slice := r.recorder.current().Differences
	err := r.comparer.compareRecent(ctx, r.options.Recent, func(records int, suspects []record.Key) error {
		r.recorder.young(records, suspects)
		return r.suspect(ctx, suspects, nil)
	})
	if err == nil {
		err = r.recheck(ctx)
	}
	if err != nil {
		return err
	}
	r.recorder.youngOnly(slice)
	return nil
}

// suspect adds suspects, and rechecks all when there are too many to hold.
func (r *runner) suspect(ctx context.Context, suspects, ahead []record.Key) error {
	r.rechecker.add(suspects, ahead)
	r.recorder.report()
	if r.rechecker.full() {
		return r.recheck(ctx)
	}
	return nil
}

// recheck decides all suspects so far, and saves the result. While differences are
// queued for repair, their jobs' suspects stay in the ledger: a resumed run rechecks
// them to find again those that had no room among the kept findings.
func (r *runner) recheck(ctx context.Context) error {
	if err := r.rechecker.recheck(ctx); err != nil {
		return err
	}
	if len(r.repairer.queue) == 0 {
		r.recorder.recheckedJobs()
	}
	return r.recorder.save(ctx)
}

func (r *runner) repair(ctx context.Context) error { return r.repairer.repair(ctx) }

// end saves how the run ended, even if ctx has.
func (r *runner) end(ctx context.Context, err error) (Run, []Finding, error) {
	r.repairer.release()
	if ended := ctx.Err(); err != nil && ended != nil {
		err = fmt.Errorf("the run was stopped: %w", ended)
	}
	failpoint.Here("reconcile.compared")
	switch {
	case err == nil:
		r.recorder.end(Done, "")
	case errors.Is(err, ErrCancelled):
		r.recorder.end(Cancelled, err.Error())
	default:
		r.recorder.end(Stopped, err.Error())
	}
	saving, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if failed := r.recorder.save(saving); failed != nil && err == nil {
		err = failed
	}
	failpoint.Here("reconcile.finished")
	r.recorder.report()
	return r.recorder.current(), r.recorder.findings, err
}
