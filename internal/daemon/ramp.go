package daemon

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/phases"
)

// soakGate is the gate that decides whether a step is due.
const soakGate = "soak-time"

// advanceRamp takes a ramp's next step if it is due and its gates are open. If a due step
// is blocked, it logs and announces by what. Two daemons that advance at once, or a daemon
// beside an operator, exclude each other by compare-and-set. That the fleet has settled on
// the last step is a gate too.
//
// e is the snapshot that this tick began with: the gates have been evaluated since.
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
		if !ok || now.Status.Route != at || now.Status.StoredHash != w.stored {
			return
		}
		w.reportDue(ctx, at, next, phases.Closed(phases.Gates(next, s, now)))
		return
	}
	ctl := control.Controller{State: w.State, Migration: w.Migration, Settings: s, Stored: w.stored}
	step, err := ctl.Advance(ctx, control.Advance{To: at.Phase, Cause: phases.CauseSchedule, Reason: "the ramp's next step was due"})
	if blocked := (*control.GatesClosedError)(nil); errors.As(err, &blocked) {
		w.reportDue(ctx, at, next, phases.Closed(blocked.Gates))
		return
	}
	if err != nil {
		if now, ok := w.snapshot(ctx); !ok || now.Status.Route != at {
			return // another controller changed the route first
		}
	}
	w.try("take the ramp's next step", func() error { return err })
	if step.Done {
		w.log.Info("ramp advanced", "from", step.From.String(), "to", step.To.String(), "epoch", step.To.Epoch)
	}
}

// reportDue logs and announces, once in an epoch for each set of gates, that a step is due
// and which gates block it. It stays silent while time alone will open a gate.
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
		w.log.Info("step due", "from", at.String(), "to", next.String(), "waits_for", waits)
	}
	w.announce(ctx, StepDue, topic("due", at.Epoch, waits), announcement{Route: at, To: &next, WaitsFor: names})
}
