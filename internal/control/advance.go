package control

import (
	"cmp"
	"context"
	"errors"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/phases"
)

// Advance is one step forward, as asked for.
type Advance struct {
	To        phases.Phase      // "": the next step, whatever it is
	Percent   phases.Percent    // 0: the ramp's next
	Reason    string            //
	Overrides map[string]string // gate to reason; interlocks can't be overridden
	DryRun    bool              // evaluate, change nothing
	Cause     phases.Cause      // "": phases.CauseAdvance, an operator's
	Read      *phases.Snapshot  // a snapshot of a moment ago; nil: Advance reads one
}

// Step is what an advance did, or would do.
type Step struct {
	From  phases.Route        `json:"from"`
	To    phases.Route        `json:"to"`
	Gates []phases.GateResult `json:"gates"`
	Done  bool                `json:"done"`
}

// Already reports whether the migration was where the advance leads, and nothing was changed.
func (s Step) Already() bool { return !s.Done && s.To != (phases.Route{}) && s.From == s.To }

// errDryRun rolls back a transaction that has decided and must change nothing.
var errDryRun = errors.New("dry run")

// Advance takes the next step if its gates are open; *GatesClosedError if they are not.
// An interrupted fence is resumed first.
//
// The measured gates are evaluated beforehand, because they wait for external sources.
// The decision is made once, inside the transaction that commits it, on rows read
// there: no change can come between the decision and the commit. A dry run executes the
// same code and changes nothing.
func (c *Controller) Advance(ctx context.Context, a Advance) (Step, error) {
	var e phases.Snapshot
	var err error
	if a.Read != nil {
		e = *a.Read
	} else if e, err = c.State.Snapshot(ctx, c.Migration); err != nil {
		return Step{}, err
	}
	from := e.Status.Route
	if there(from, a) && (from.Phase != phases.Grace || e.Status.Attempt == "") {
		return Step{From: from, To: from, Gates: []phases.GateResult{}}, nil
	}
	if c.Judge != nil {
		if _, err := c.Judge.Gates(ctx, e); err != nil {
			return Step{}, err
		}
	}
	if c.Look != nil {
		// [columns-watched]: evidence is as old as the last look.
		if err := c.Look(ctx); err != nil {
			return Step{}, err
		}
	}
	if from.Phase == phases.Lifting || from.Phase == phases.Returning {
		return Step{From: from}, c.Resume(ctx)
	}
	// [no-skip]: only the next step, whatever the caller names.
	to, err := c.chosen(from, a)
	if err != nil {
		return Step{From: from}, err
	}
	step := Step{From: from, To: to}
	decide := func(e phases.Snapshot) (err error) {
		if e.Status.Route != from {
			// [one-decides]: no verdict on a route that the step was not chosen for.
			return nil // the state refuses the step, and its error names the move that came first
		}
		// Settings of another migration file would evaluate other gates than those in force.
		if c.Stored != "" && e.Status.StoredHash != c.Stored {
			return hint.Errorf(hint.Hint{Do: hint.Retry}, "another migration file was applied since this command began")
		}
		if step.Gates, err = c.gates(to, a, e); err == nil && a.DryRun {
			err = errDryRun
		}
		return err
	}
	failpoint.Here("control.advance.decided")
	switch {
	case from.Phase == phases.Fenced, from.Phase == phases.Grace && e.Status.Attempt != "":
		// [fence-attempt]: an attempt in grace may have its fence up: it is passed or undone before
		// any other step.
		c.report("resuming fence attempt %s", e.Status.Attempt)
		err = c.passFence(ctx, &step, e.Status, a)
	case to.Phase == phases.Retain:
		err = c.beginFence(ctx, &step, e.Status, a, decide)
	default:
		if to.Phase == phases.Complete && !a.DryRun {
			// A step that is refused has moved nothing.
			if e, err = c.State.Snapshot(ctx, c.Migration); err != nil {
				return step, err
			}
			if err := decide(e); err != nil {
				return step, err
			}
			// In retain an application may have gone on to give numbers of its own.
			if err := c.advanceNumbers(ctx); err != nil {
				return step, err
			}
		}
		err = c.step(ctx, &step, a, decide)
	}
	if errors.Is(err, errDryRun) {
		err = nil
	}
	return step, err
}

// step commits a step that one transition makes.
func (c *Controller) step(ctx context.Context, step *Step, a Advance, decide func(phases.Snapshot) error) error {
	// The gates are evaluated inside, on rows read under the migration's lock. An error leaves the
	// state as it was; if the response to the commit is lost, the next command finds the new route.
	status, err := c.State.Transition(ctx, c.Migration, func(e phases.Snapshot) (phases.Move, error) {
		err := decide(e)
		return phases.Move{
			From: step.From, To: step.To, Cause: cmp.Or(a.Cause, phases.CauseAdvance), Reason: a.Reason, Gates: step.Gates,
		}, err
	})
	if err != nil {
		return err
	}
	failpoint.Here("control.advance.moved")
	step.To, step.Done = status.Route, true
	return nil
}

// there reports whether the route is the one that the advance names: it may be repeated.
func there(at phases.Route, a Advance) bool {
	switch {
	case !at.Phase.Ramped():
		return a.To == at.Phase && a.Percent == 0
	case a.Percent > 0:
		return a.Percent == at.Percent && (a.To == "" || a.To == at.Phase)
	}
	return a.To == at.Phase && at.Percent == phases.All
}

// chosen returns the route of the next step, which must be the requested one.
func (c *Controller) chosen(from phases.Route, a Advance) (phases.Route, error) {
	next, err := c.Settings.Next(from)
	if err != nil {
		return next, err
	}
	advance := hint.Hint{Do: hint.Advance}
	if a.To != "" && a.To == from.Phase && a.To.Ramped() {
		next.Phase = a.To
	}
	if a.To != "" && a.To != next.Phase {
		return next, refuse(advance, "the next step from %s is %s: phases can't be skipped", from, next)
	}
	if a.Percent > 0 {
		if !next.Phase.Ramped() {
			return next, refuse(advance, "%s has no percentage", next.Phase)
		}
		next.Percent = a.Percent
	}
	if !phases.Forward(from, next) && next.Phase == from.Phase {
		return next, refuse(hint.Hint{Do: hint.RollbackTo, Of: []string{string(next.Phase), next.Percent.String()}, Text: "to go down"}, "%s is not above %s", next, from)
	}
	return next, nil
}

// gates evaluates the gates and records the overrides; *GatesClosedError if one is closed.
func (c *Controller) gates(to phases.Route, a Advance, e phases.Snapshot) ([]phases.GateResult, error) {
	gates := phases.Gates(to, c.Settings, e)
	known := map[string]bool{}
	for i := range gates {
		known[gates[i].Gate] = true
		reason, ok := a.Overrides[gates[i].Gate]
		switch {
		case !ok || gates[i].Open():
		case gates[i].Interlock:
			// [journal-empty], [backfill-done], [unclean-mark], [loss-blocks]: interlocks are rules
			// of the protocol, so no reason opens one.
			return gates, refuse(hint.Hint{}, "%s is an interlock: it can't be overridden (%s)", gates[i].Gate, gates[i].Detail)
		case !e.Decides:
			return gates, refuse(hint.Hint{Text: "connect to the state database as a member of the role"}, "%s is not a member of the role %s: only its members may override a gate", e.Actor, c.Settings.Approval.Role)
		default:
			if why, h := gates[i].Overridable(e); why != "" {
				return gates, refuse(h, "%s is not overridden: %s (%s)", gates[i].Gate, why, gates[i].Detail)
			}
			gates[i].Overridden = reason
		}
	}
	for name := range a.Overrides {
		if !known[name] {
			return gates, refuse(hint.Hint{Do: hint.Status}, "no gate %q applies to an advance to %s", name, to)
		}
	}
	if len(phases.Closed(gates)) > 0 {
		return gates, &GatesClosedError{From: e.Status.Route, To: to, Gates: gates}
	}
	return gates, nil
}
