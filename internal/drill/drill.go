package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// Switch injects and lifts faults.
type Switch interface {
	InjectFault(ctx context.Context, migration string, f dual.Fault) error
	LiftFault(ctx context.Context, migration, id string) error
	FaultTargets(ctx context.Context, migration, fault string) ([]FaultTarget, error)
}

// State is what a drill reads.
type State interface {
	Snapshot(ctx context.Context, migration string) (phases.Snapshot, error)
	// Observations returns the evaluations of triggers since then, oldest first.
	Observations(ctx context.Context, migration string, since time.Time) ([]phases.Evaluation, error)
	// SettledAt returns when the last instance acknowledged the epoch; zero: not yet.
	SettledAt(ctx context.Context, migration string, epoch int64) (time.Time, error)
}

// Daemons evaluate triggers. A drill kills the leader while the fault is active: another
// daemon has to roll back.
type Daemons interface {
	// Start returns once a daemon leads that Kill can kill, and another is standby.
	Start(ctx context.Context) error
	Kill() (process string, err error)
	Stop()
}

// Load is the traffic of the application's clients during a drill.
type Load interface {
	// Start returns once there is load, which continues until Stop. Stop ends it and waits
	// for operations in flight. It may be called twice.
	Start(ctx context.Context) error
	Stop()
	Totals() Totals
	// Check compares all acknowledged writes with the store that answers reads now. Call it
	// after Stop. phantomFound is the negative control: whether the check reports a write
	// that was never made as lost.
	Check(ctx context.Context) (checked Checked, phantomFound bool, err error)
}

// Recorder is a Load that records totals by the second.
type Recorder interface {
	Series() []Second
	// MarkCorrupted sets the period in which the target returns corrupt values: stale reads
	// in it are caused by the fault.
	MarkCorrupted(from, until time.Time)
}

// loadError is why the load can't be followed; nil: it can.
func (r *rehearsal) loadError() error {
	if load, ok := r.Load.(interface{ Err() error }); ok {
		return load.Err()
	}
	return nil
}

// Planter makes the stores differ, so that a reconcile run has differences to find.
type Planter interface {
	Plant(ctx context.Context) ([]record.Key, error)
	Rewritten(ctx context.Context, keys []record.Key) ([]record.Key, error)
}

// Drill is one rehearsal. All but Load, Daemons and Progress is required.
type Drill struct {
	Report   Report // the fields that are known before
	Triggers phases.TriggerSettings
	State    State
	Switch   Switch
	Load     Load    // nil: there is none, and the drill fails
	Daemons  Daemons // nil: no daemon is started or killed
	Plant    Planter
	// Reconcile makes a full reconcile run, and returns the keys that differed, up to the
	// number of findings that a run keeps.
	Reconcile func(ctx context.Context, repair bool) (Reconciled, []record.Key, error)
	Progress  func(Step) // each step as it begins (Took 0) and as it ends

	Fault    dual.Fault    // its ID and For are given by Run
	Baseline time.Duration // baseline period before the fault, in which no trigger may fire
	Within   time.Duration // how long each of: fault observed, verdict, settled, recovered, may take
	After    time.Duration // how long the load continues after the rollback
}

// rehearsal is a running Drill.
type rehearsal struct {
	*Drill
	r              Report
	before         phases.Snapshot
	offset         time.Duration // of the state database's clock from this one
	rolled         phases.Snapshot
	started        bool      // the daemons
	dirty          bool      // the target may still have changes that the drill made
	corruptedSince time.Time // since when the target returns corrupt values, by this machine's clock; zero: never
}

// Run makes the drill and always returns a report: a drill that could not be completed has
// failed. When it returns, also because ctx ended, the fault is lifted and everything that
// was started has ended.
func (d *Drill) Run(ctx context.Context) Report {
	r := &rehearsal{Drill: d, r: d.Report}
	r.r.Reasons, r.r.Reconciles, r.r.Series, r.r.Marks = []string{}, []Reconciled{}, []Second{}, []Mark{}
	r.r.Began = time.Now().UTC()
	err := r.rehearse(ctx)
	if cut := ctx.Err(); err != nil && cut != nil {
		err = fmt.Errorf("the drill was interrupted: %w", cut)
	}
	if err != nil {
		r.r.Reasons = append(r.r.Reasons, err.Error())
	}
	r.end(context.WithoutCancel(ctx))
	r.r.Finished = r.now()
	r.r.Passed = len(r.r.Reasons) == 0
	return r.r
}

// now returns the state database's time, estimated from its offset.
func (r *rehearsal) now() time.Time { return time.Now().Add(r.offset).UTC() }

func (r *rehearsal) mark(at time.Time, what string) {
	r.r.Marks = append(r.r.Marks, Mark{at.UTC(), what})
}

// fail records a reason for which the drill has failed. The drill continues.
func (r *rehearsal) fail(format string, args ...any) {
	r.r.Reasons = append(r.r.Reasons, fmt.Sprintf(format, args...))
}

// step runs one part; its error ends the drill.
func (r *rehearsal) step(name string, do func() (detail string, err error)) error {
	s := Step{Name: name, Began: r.now()}
	if r.Progress != nil {
		r.Progress(s)
	}
	began := time.Now()
	detail, err := do()
	s.Took, s.OK, s.Detail = time.Since(began).Seconds(), err == nil, detail
	if err != nil {
		s.Detail = err.Error()
	}
	r.r.Steps = append(r.r.Steps, s)
	if r.Progress != nil {
		r.Progress(s)
	}
	return err
}

// await polls ask until it returns true, for at most Within.
func (r *rehearsal) await(ctx context.Context, ask func(ctx context.Context) (bool, error)) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, r.Within)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		holds, err := ask(ctx)
		switch {
		case holds && err == nil:
			return true, nil
		case ctx.Err() != nil && err != nil && !errors.Is(err, context.DeadlineExceeded):
			return false, err // the state can't be read, and the time has passed
		}
		select {
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// over reports whether an await ended because Within passed, not because the drill was
// interrupted.
func over(ctx context.Context, err error) bool {
	return errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil
}

func (r *rehearsal) snapshot(ctx context.Context) (phases.Snapshot, error) {
	return r.State.Snapshot(ctx, r.r.Migration)
}

func (r *rehearsal) rehearse(ctx context.Context) error {
	for _, part := range []struct {
		name string
		do   func(ctx context.Context) (string, error)
	}{
		{"check the migration's status", r.checkStatus},
		{"compare the stores before", r.compareBefore},
		{"start daemons", r.startDaemons},
		{"start the load", r.startLoad},
		{"baseline: no trigger may fire", r.baseline},
		{"inject the fault", r.inject},
		{"await the first operation that meets it", r.meet},
		{"kill the leading daemon", r.kill},
		{"observe the fault on every instance", r.observe},
		{"await the rollback", r.rollback},
		{"await its settling on all instances", r.settle},
		{"lift the fault", r.lift},
		{"recover", r.recover},
		{"check the ledger against the store that answers reads", r.check},
		{"plant a difference", r.plant},
		{"find and repair it", r.repair},
		{"compare the stores after", r.compareAfter},
	} {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.step(part.name, func() (string, error) { return part.do(ctx) }); err != nil {
			return err
		}
	}
	return nil
}

// end lifts the fault and stops everything that was started, after a failure too.
func (r *rehearsal) end(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if !r.r.Fault.Injected.IsZero() && r.r.Fault.Lifted.IsZero() {
		if err := r.Switch.LiftFault(ctx, r.r.Migration, r.r.Fault.ID); err != nil {
			r.fail("lifting the fault failed, it ends by itself at %s: %v", r.r.Fault.Injected.Add(r.Fault.For).Format(time.RFC3339), err)
		} else {
			r.r.Fault.Lifted = r.now()
		}
	}
	if r.dirty {
		r.fail("the target may still have changes that the drill made: a full reconcile run with repair is needed")
	}
	if r.Load != nil {
		r.Load.Stop()
		totals := r.Load.Totals()
		r.r.Load = &totals
		if rec, ok := r.Load.(Recorder); ok {
			r.r.Series = append(r.r.Series, rec.Series()...)
			for i := range r.r.Series {
				r.r.Series[i].At = r.r.Series[i].At.Add(r.offset).UTC()
			}
		}
	}
	if r.Daemons != nil && r.started {
		r.Daemons.Stop()
	}
	if e, err := r.snapshot(ctx); err == nil {
		r.r.After = e.Status.Route.String()
	}
	slices.SortFunc(r.r.Marks, func(a, b Mark) int { return a.At.Compare(b.At) })
}

// acting returns the triggers that can roll back.
func (r *rehearsal) acting() (names []string) {
	for _, t := range r.Triggers.All() {
		if t.Off == "" && !t.DryRun {
			names = append(names, t.Name)
		}
	}
	return names
}

// checkStatus refuses a migration on which a drill would prove nothing.
func (r *rehearsal) checkStatus(ctx context.Context) (string, error) {
	e, err := r.snapshot(ctx)
	if err != nil {
		return "", err
	}
	r.before, r.offset = e, time.Until(e.Now)
	r.r.Began, r.r.Before, r.r.Actor = e.Now.UTC(), e.Status.Route.String(), e.Actor
	at := e.Status.Route
	switch {
	case !at.Phase.TriggersAct():
		return "", fmt.Errorf("the migration is on %s: triggers roll back from cutover and grace only", at)
	case e.Fault != nil:
		return "", hint.Errorf(hint.Hint{Do: hint.DrillLift}, "the fault of an earlier drill is in force until %s: %s", e.Fault.Until.UTC().Format(time.RFC3339), e.Fault)
	case !e.Fleet.Settled():
		return "", fmt.Errorf("the fleet is not settled: behind are %s, lapsed: %s", humanize.Counted(e.Fleet.Behind, "instance"), strings.Join(e.Fleet.Lapsed, ", "))
	case e.Latch != nil:
		return "", hint.Errorf(hint.Hint{Do: hint.Acknowledge}, "an automatic rollback is not acknowledged")
	case e.Status.JournalKeys > 0:
		return "", fmt.Errorf("%s journaled: a drill begins with two stores that agree", humanize.Counted(e.Status.JournalKeys, "key")+humanize.Either(e.Status.JournalKeys, " is", " are"))
	case len(r.acting()) == 0:
		return "", errors.New("no trigger can roll back: each is off or a dry run")
	case r.Load == nil:
		return "", errors.New("there is no load: a rollback without traffic proves nothing")
	}
	return fmt.Sprintf("%s, %s, triggers: %s", at, humanize.Counted(e.Fleet.Live, "instance"), strings.Join(r.acting(), ", ")), nil
}

// runReconcile makes one full reconcile run and records it in the report.
func (r *rehearsal) runReconcile(ctx context.Context, when string, repair bool) (Reconciled, []record.Key, error) {
	began := time.Now()
	run, keys, err := r.Reconcile(ctx, repair)
	run.When, run.Seconds = when, time.Since(began).Seconds()
	if err == nil {
		r.r.Reconciles = append(r.r.Reconciles, run)
	}
	return run, keys, err
}

func (r *rehearsal) compareBefore(ctx context.Context) (string, error) {
	run, _, err := r.runReconcile(ctx, "before", false)
	switch {
	case err != nil:
		return "", err
	case run.Differences > 0:
		return "", hint.Errorf(hint.Hint{Do: hint.ReconcileFullRepair}, "the stores differ before the drill: %d differences in reconcile run %d", run.Differences, run.Run)
	case run.Checked == 0:
		return "", errors.New("there are no records to rehearse with")
	}
	return fmt.Sprintf("%d records, no difference", run.Checked), nil
}

func (r *rehearsal) startDaemons(ctx context.Context) (string, error) {
	if r.Daemons == nil {
		return "none is started or killed", nil
	}
	r.started = true
	return "", r.Daemons.Start(ctx)
}

func (r *rehearsal) startLoad(ctx context.Context) (string, error) {
	bounded, cancel := context.WithTimeout(ctx, r.Within)
	defer cancel()
	if err := r.Load.Start(bounded); err != nil {
		return "", fmt.Errorf("start the load: %w", err)
	}
	return r.Load.Totals().Kind, nil
}
