package drill

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/phases"
)

// baseline waits for a time without a fault. A trigger that fires in it is a false alarm. At
// least one trigger must have had enough samples to be quiet: otherwise their firing later
// proves nothing.
func (r *rehearsal) baseline(ctx context.Context) (string, error) {
	before := r.Load.Totals()
	h := &Healthy{From: r.now(), Triggers: []Observations{}}
	r.r.Healthy = h
	r.mark(h.From, "baseline")
	over := time.NewTimer(r.Baseline)
	defer over.Stop()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for waiting := true; waiting; {
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-over.C:
			waiting = false
		case <-tick.C:
		}
		if e, err := r.snapshot(ctx); err == nil && e.Status.Route.Epoch != r.before.Status.Route.Epoch {
			return "", fmt.Errorf("the route changed to %s without a fault (%s: %s)", e.Status.Route, e.Status.LastCause, e.Status.LastReason)
		}
	}
	h.Until = r.now()
	after := r.Load.Totals()
	h.Reads, h.Writes = after.Reads-before.Reads, after.Writes-before.Writes
	evaluations, err := r.State.Observations(ctx, r.r.Migration, h.From)
	if err != nil {
		return "", err
	}
	return r.evaluateBaseline(h, evaluations)
}

func (r *rehearsal) evaluateBaseline(h *Healthy, evaluations []phases.Evaluation) (string, error) {
	quiet := 0
	acting := r.acting()
	for _, t := range r.Triggers.All() {
		l := Observations{Trigger: t.Name, Acts: slices.Contains(acting, t.Name), Verdicts: map[phases.Verdict]int{}}
		for _, e := range evaluations {
			if e.Name == t.Name {
				l.Verdicts[e.Verdict]++
				l.Last = e.Detail
			}
		}
		h.Triggers = append(h.Triggers, l)
		if l.Verdicts[phases.Firing] > 0 {
			return "", fmt.Errorf("%s fires without a fault: %s", t.Name, l.Last)
		}
		if l.Acts && l.Verdicts[phases.Quiet] > 0 {
			quiet++
		}
	}
	switch {
	case h.Writes == 0 && r.loadError() != nil:
		return "", r.loadError()
	case h.Writes == 0:
		return "", errors.New("no load: no write was acknowledged in the baseline period")
	case quiet == 0:
		return "", fmt.Errorf("no trigger was quiet within %s: no daemon evaluates them, or there is too little load for all of %s", r.Baseline, strings.Join(acting, ", "))
	}
	return fmt.Sprintf("%d reads and %d acknowledged writes, %d triggers quiet, none fires", h.Reads, h.Writes, quiet), nil
}

// liftWithin is how long lifting a fault is tried whose injection has an unknown outcome.
const liftWithin = 10 * time.Second

func (r *rehearsal) inject(ctx context.Context) (string, error) {
	f := &r.Fault
	f.ID = rand.Text()
	f.For = 3*r.Within + r.After // the drill needs it no longer; the fault must end if the drill dies
	r.dirty = f.Kind == dual.FaultCorrupt
	if err := r.Switch.InjectFault(ctx, r.r.Migration, *f); err != nil {
		// The fault may be active all the same: only the reply may be lost.
		lifting, cancel := context.WithTimeout(context.WithoutCancel(ctx), liftWithin)
		defer cancel()
		return "", errors.Join(err, r.Switch.LiftFault(lifting, r.r.Migration, f.ID))
	}
	r.r.Fault = Fault{ID: f.ID, Kind: f.Kind, Share: f.Share, Delay: f.Delay.Seconds(), Reads: f.Reads, Writes: f.Writes, Injected: r.now()}
	r.mark(r.r.Fault.Injected, "fault injected")
	if rec, ok := r.Load.(Recorder); ok && f.Kind == dual.FaultCorrupt {
		r.corruptedSince = time.Now()
		rec.MarkCorrupted(r.corruptedSince, r.corruptedSince.Add(f.For))
	}
	return fmt.Sprintf("%s, %s %% of operations; it ends by itself after %s", f.Kind, f.Share, f.For), nil
}

// meet waits until the fault was injected into an operation of any instance. Its instance reports the first at
// once, so that what is killed next is killed during the fault.
func (r *rehearsal) meet(ctx context.Context) (string, error) {
	f := &r.r.Fault
	ok, err := r.await(ctx, func(ctx context.Context) (bool, error) {
		err := r.faultTargets(ctx)
		return f.Executed > 0, err
	})
	switch {
	case ok:
		r.mark(f.Observed, "fault observed")
		return fmt.Sprintf("%.2f s after it was injected", f.Observed.Sub(f.Injected).Seconds()), nil
	case !over(ctx, err):
		return "", err
	}
	if err := r.unarmed(); err != nil {
		return "", err
	}
	return "", fmt.Errorf("the fault was not observed: it was injected into no operation within %s", r.Within)
}

func (r *rehearsal) kill(ctx context.Context) (string, error) {
	if r.Daemons == nil {
		return "none is killed", nil
	}
	if e, err := r.snapshot(ctx); err == nil && e.Status.Route.Epoch != r.before.Status.Route.Epoch {
		return "none is killed: the rollback came first", nil
	}
	who, err := r.Daemons.Kill()
	if err != nil {
		return "", fmt.Errorf("kill the leading daemon: %w", err)
	}
	r.r.Daemon = &Killed{Process: who, At: r.now()}
	r.mark(r.r.Daemon.At, "daemon killed")
	return who, nil
}

// observe waits until every instance has the fault.
func (r *rehearsal) observe(ctx context.Context) (string, error) {
	ok, err := r.await(ctx, func(ctx context.Context) (bool, error) {
		err := r.faultTargets(ctx)
		armed := len(r.r.FaultTargets) > 0
		for _, p := range r.r.FaultTargets {
			armed = armed && p.Armed
		}
		return armed, err
	})
	switch {
	case ok:
		return "active on " + humanize.Counted(len(r.r.FaultTargets), "instance"), nil
	case !over(ctx, err):
		return "", err
	}
	if err := r.unarmed(); err != nil {
		return "", err
	}
	return "", errors.New("the fault was not observed: no instance is live")
}

// unarmed names the instances without the fault; nil: there are none.
func (r *rehearsal) unarmed() error {
	var names []string
	for _, p := range r.r.FaultTargets {
		if !p.Armed {
			names = append(names, p.Instance)
		}
	}
	if names == nil {
		return nil
	}
	return fmt.Errorf("the fault was not observed: %s did not activate it within %s: such an instance was deployed without faults (dual.Config.Faults)", strings.Join(names, ", "), r.Within)
}

// faultTargets reads what the instances report of the fault.
func (r *rehearsal) faultTargets(ctx context.Context) error {
	f := &r.r.Fault
	targets, err := r.Switch.FaultTargets(ctx, r.r.Migration, f.ID)
	if err != nil {
		return err
	}
	r.r.FaultTargets, f.Executed = targets, 0
	for _, p := range targets {
		f.Executed += p.Executed
		// What is read here was before now, whatever two clocks and the way between them say.
		first := p.First.UTC()
		if now := r.now(); first.After(now) {
			first = now
		}
		if !p.First.IsZero() && (f.Observed.IsZero() || first.Before(f.Observed)) {
			f.Observed = first
		}
	}
	return nil
}

// recordExecuted updates how many operations the fault was injected into: the counts that
// were read while it was active are as old as the instances' last renewals.
func (r *rehearsal) recordExecuted(targets []FaultTarget) {
	f := &r.r.Fault
	f.Executed = 0
	for i := range r.r.FaultTargets {
		was := &r.r.FaultTargets[i]
		for _, p := range targets {
			if p.Instance == was.Instance && p.Executed > 0 { // an instance that rejoined has no count
				was.Executed, was.First = max(was.Executed, p.Executed), p.First
			}
		}
		f.Executed += was.Executed
	}
}

// rollback waits for the rollback, and determines its cause.
func (r *rehearsal) rollback(ctx context.Context) (string, error) {
	ok, err := r.await(ctx, func(ctx context.Context) (bool, error) {
		e, err := r.snapshot(ctx)
		if err == nil {
			r.rolled = e
		}
		return err == nil && e.Status.Route.Epoch != r.before.Status.Route.Epoch, err
	})
	if !ok && !over(ctx, err) {
		return "", err
	}
	evaluations, err := r.State.Observations(ctx, r.r.Migration, r.r.Fault.Observed)
	if err != nil {
		return "", err
	}
	if !ok {
		return "", fmt.Errorf("no trigger rolled back within %s: %s", r.Within, r.describeTriggers(evaluations))
	}
	st := r.rolled.Status
	r.mark(st.RouteSince, "rolled back")
	switch {
	case st.LastCause == string(phases.CauseFailure) && r.Fault.Writes:
		r.r.Fired = &Fired{Cause: phases.CauseFailure, At: st.RouteSince, Detail: st.LastReason}
		r.r.Times = &Times{Detect: st.RouteSince.Sub(r.r.Fault.Observed).Seconds()}
		return "a write that the target refused: " + st.LastReason, nil
	case st.LastCause != string(phases.CauseTrigger) || r.rolled.Latch == nil:
		return "", fmt.Errorf("the route changed to %s by %s (%s), not by a trigger", st.Route, st.LastCause, st.LastReason)
	case st.Route.Phase != phases.DualRead:
		return "", fmt.Errorf("the route changed to %s: a rollback leads to dual-read", st.Route)
	}
	return r.explain(evaluations)
}

// explain records the evaluation that caused the rollback, and computes the times.
func (r *rehearsal) explain(evaluations []phases.Evaluation) (string, error) {
	var first time.Time
	var acted *phases.Evaluation
	for i, e := range evaluations {
		if e.Verdict == phases.Firing && !e.DryRun && first.IsZero() {
			first = e.At
		}
		if e.ID == r.rolled.Latch.Evaluation {
			acted = &evaluations[i]
		}
	}
	if acted == nil {
		return "", fmt.Errorf("%s rolled back before the fault was observed: by evaluation %d", r.rolled.Latch.Trigger, r.rolled.Latch.Evaluation)
	}
	r.r.Fired = &Fired{
		Cause: phases.CauseTrigger, Trigger: acted.Name, Evaluation: acted.ID, At: acted.At.UTC(), Detail: acted.Detail,
		Samples: acted.Samples, Value: acted.Value, Bound: acted.Bound, Limit: acted.Limit, Inputs: acted.Inputs,
	}
	since := r.rolled.Status.RouteSince
	r.r.Times = &Times{
		Detect: first.Sub(r.r.Fault.Observed).Seconds(), Decide: acted.At.Sub(first).Seconds(), Commit: since.Sub(acted.At).Seconds(),
	}
	r.mark(acted.At, acted.Name+" fires")
	return fmt.Sprintf("%s: %s", acted.Name, acted.Detail), nil
}

// describeTriggers lists the newest verdict of each trigger, also of those that are off or
// dry runs.
func (r *rehearsal) describeTriggers(evaluations []phases.Evaluation) string {
	var texts []string
	for _, t := range r.Triggers.All() {
		text := "was not evaluated"
		for _, e := range evaluations {
			if e.Name == t.Name {
				text = fmt.Sprintf("%s (%s)", e.Verdict, e.Detail)
			}
		}
		switch {
		case t.Off != "":
			text = "is off (" + t.Off + ")"
		case t.DryRun:
			text = "is a dry run: " + text
		}
		texts = append(texts, t.Name+" "+text)
	}
	return strings.Join(texts, "; ")
}

func (r *rehearsal) settle(ctx context.Context) (string, error) {
	var at time.Time
	ok, err := r.await(ctx, func(ctx context.Context) (_ bool, err error) {
		at, err = r.State.SettledAt(ctx, r.r.Migration, r.rolled.Status.Route.Epoch)
		return !at.IsZero(), err
	})
	switch {
	case !ok && over(ctx, err):
		return "", fmt.Errorf("the rollback has not settled on all instances after %s", r.Within)
	case !ok:
		return "", err
	}
	if rec, ok := r.Load.(Recorder); ok && !r.corruptedSince.IsZero() {
		rec.MarkCorrupted(r.corruptedSince, time.Now())
	}
	t := r.r.Times
	t.Settle = at.Sub(r.rolled.Status.RouteSince).Seconds()
	t.Total = at.Sub(r.r.Fault.Observed).Seconds()
	t.FromInjection = at.Sub(r.r.Fault.Injected).Seconds()
	r.mark(at, "settled")
	return fmt.Sprintf("%.2f s after the first operation met the fault: detect %.2f, decide %.2f, commit %.2f, settle %.2f; %.2f s after it was injected", t.Total, t.Detect, t.Decide, t.Commit, t.Settle, t.FromInjection), nil
}

func (r *rehearsal) lift(ctx context.Context) (string, error) {
	if err := r.Switch.LiftFault(ctx, r.r.Migration, r.r.Fault.ID); err != nil {
		return "", err
	}
	r.r.Fault.Lifted = r.now()
	r.mark(r.r.Fault.Lifted, "fault lifted")
	ok, err := r.await(ctx, func(ctx context.Context) (bool, error) {
		targets, err := r.Switch.FaultTargets(ctx, r.r.Migration, r.r.Fault.ID)
		if err != nil || slices.ContainsFunc(targets, func(p FaultTarget) bool { return p.Armed }) {
			return false, err
		}
		r.recordExecuted(targets)
		return true, nil
	})
	switch {
	case ok:
	case over(ctx, err):
		return "", fmt.Errorf("the fault is still active on instances %s after it was lifted", r.Within)
	default:
		return "", err
	}
	if met, _, _ := r.r.application(); len(met) == 0 {
		r.fail("no application met the fault: %s", r.r.applicationText())
	}
	return fmt.Sprintf("it was injected into %d operations", r.r.Fault.Executed), nil
}
