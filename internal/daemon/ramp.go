package daemon

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/phases"
)

// soak is the gate that says whether a step is due.
const soakGate = "soak-time"

// advanceRamp takes a ramp's next step if it is due and its gates are open, and else tells
// what a step that is due waits for. Two that climb at once, or one beside a person,
// decide by compare-and-set; a fleet that has not settled on the last step is a gate.
//
// e is what this look began with: the gates have been evaluated since.
func (w *engineRun) advanceRamp(ctx context.Context, e phases.Snapshot) {
	if e.Status.Route.Phase.Passing() {
		return
	}
	at, s := e.Status.Route, w.rules.Settings
	next, err := s.Next(at)
	if err != nil {
		return // complete
	}
	if !s.ByItself(at, next) {
		now, ok := w.snapshot(ctx)
		if !ok || now.Status.Route != at || now.Status.ConfigHash != w.config {
			return
		}
		w.reportDue(ctx, at, next, phases.Closed(phases.Gates(next, s, now)))
		return
	}
	ctl := control.Controller{State: w.State, Migration: w.Migration, Settings: s, Config: w.config}
	step, err := ctl.Advance(ctx, control.Advance{To: at.Phase, Cause: phases.CauseSchedule, Reason: "the ramp's next step was due"})
	if blocked := (*control.GatesClosedError)(nil); errors.As(err, &blocked) {
		w.reportDue(ctx, at, next, phases.Closed(blocked.Gates))
		return
	}
	if err != nil {
		if now, ok := w.snapshot(ctx); !ok || now.Status.Route != at {
			return // somebody else was faster
		}
	}
	w.try("take the ramp's next step", func() error { return err })
	if step.Done {
		w.log.Info("the ramp has climbed", "from", step.From.String(), "to", step.To.String(), "epoch", step.To.Epoch)
	}
}

// reportDue tells once in an epoch, by name, what a step waits for that time alone does not open.
func (w *engineRun) reportDue(ctx context.Context, at, next phases.Route, closed []phases.GateResult) {
	var names []string
	for _, g := range closed {
		if g.Gate == soakGate || g.Gate == phases.GateAcknowledged || !g.Due.IsZero() {
			return
		}
		names = append(names, g.Gate)
	}
	slices.Sort(names)
	waits := strings.Join(names, ", ")
	if len(names) == 0 {
		waits = "a person"
	}
	if w.logOncePerEpoch("due: " + waits) {
		w.log.Info("a step is due", "from", at.String(), "to", next.String(), "waits_for", waits)
	}
	w.announce(ctx, StepDue, topic("due", at.Epoch, waits), announcement{Route: at, To: &next, WaitsFor: names})
}
