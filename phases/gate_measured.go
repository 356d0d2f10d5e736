package phases

import (
	"fmt"
	"slices"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
)

// Measured is one gate that is measured.
type Measured struct {
	Name string
	Off  string // the reason why it is not evaluated
	Watch
}

// Before lists the measured gates of a step from one phase into another, or within it.
func (g GateSettings) Before(from, to Phase) []Measured {
	var list []Measured
	add := func(name string, w Watch) {
		off := w.Off
		if off == "" {
			off = g.Off
		}
		list = append(list, Measured{Name: name, Off: off, Watch: w})
	}
	compared := from == DualRead && to == Cutover || from == Cutover || from == Grace
	if compared {
		add(GateConsistency, g.Consistency.Watch)
		add(GateShadowWrites, g.ShadowWrites.Watch)
	}
	if from == Cutover || from == Grace {
		add(GateTargetReads, g.TargetReads.Watch)
	}
	if from == DualRead && to == Cutover {
		add(GateAddedLatency, g.AddedLatency.Watch)
		if g.Drill.Within > 0 || g.Drill.Off != "" {
			add(GateDrill, g.Drill.Watch)
		}
		if g.Runbook.Within > 0 || g.Runbook.Off != "" {
			add(GateRunbook, g.Runbook.Watch)
		}
	}
	for _, c := range g.Custom {
		if slices.Contains(c.Before, to) {
			add(c.Name, c.Watch)
		}
	}
	return list
}

// StaleAfter is the age from which an evaluation opens no gate.
func (w Watch) StaleAfter() time.Duration { return max(time.Minute, 3*time.Duration(w.Interval)) }

// gatesMeasured returns the measured gates of a step, from their newest evaluations.
func gatesMeasured(to Route, s Settings, e Snapshot) []GateResult {
	var gates []GateResult
	for _, m := range s.Gates.Before(e.Status.Route.Phase, to.Phase) {
		gates = append(gates, gateMeasured(m, e))
	}
	return gates
}

// All lists all measured gates, those that are off too.
func (g GateSettings) All() (list []Measured) {
	for _, p := range Order {
		for _, m := range g.Ahead(p) {
			if !slices.ContainsFunc(list, func(have Measured) bool { return have.Name == m.Name }) {
				list = append(list, m)
			}
		}
	}
	return list
}

// Result is the gate's result in a snapshot, as status shows it.
func (m Measured) Result(e Snapshot) GateResult { return gateMeasured(m, e) }

// gateMeasured takes its verdict from the newest evaluation, which must be of this
// epoch and configuration and not older than StaleAfter.
func gateMeasured(m Measured, e Snapshot) GateResult {
	g := GateResult{Gate: m.Name, Verdict: NoData, Hint: hint.Hint{Do: hint.AdvanceDryRun, Text: "which evaluates it"}}
	if m.Off != "" {
		g.Verdict, g.Detail, g.Hint = Off, "off: "+m.Off, hint.Hint{}
		return g
	}
	var newest *Evaluation
	for i := range e.Evaluations {
		if one := &e.Evaluations[i]; one.Kind == GateKind && one.Name == m.Name && (newest == nil || one.At.After(newest.At)) {
			newest = one
		}
	}
	switch st := e.Status; {
	case newest == nil:
		g.Detail = "has not been evaluated"
	case newest.Epoch != st.Route.Epoch:
		g.Detail = fmt.Sprintf("has not been evaluated in this epoch; the newest evaluation is of epoch %d", newest.Epoch)
	case newest.ConfigHash != st.ConfigHash:
		g.Detail = "has not been evaluated under this configuration"
	case e.Now.Sub(newest.At) > m.StaleAfter():
		g.Detail = fmt.Sprintf("was last evaluated %s ago: %s then (%s)", Duration(e.Now.Sub(newest.At).Round(time.Second)), newest.Verdict, newest.Detail)
	default:
		g.Verdict, g.Detail, g.Due, g.Hint = newest.Verdict, newest.Detail, newest.Due, newest.Hint
		g.Never = newest.Hint.Do == hint.Override
		if g.Verdict == Pass {
			g.Hint = hint.Hint{}
		}
	}
	return g
}

// Overridable returns why the gate can't be overridden in this snapshot; "": it can. What measures
// operations may be overridden only where it lacks data, and where a full reconcile has compared every
// record in its place; what it has measured can't be.
func (g GateResult) Overridable(e Snapshot) (why string, h hint.Hint) {
	switch g.Gate {
	case GateConsistency, GateShadowWrites, GateTargetReads, GateAddedLatency:
	default:
		return "", h
	}
	if g.Verdict != NoData && g.Verdict != Inconclusive {
		return "only a gate that lacks data can be", g.Hint
	}
	if r := gateReconcile(e); r.Verdict != Pass {
		return "in the place of what it lacks a full reconcile must be clean: " + r.Detail, r.Hint
	}
	return "", h
}

// gateAcknowledged blocks every advance after an automatic rollback until an operator
// acknowledges that its cause is understood.
func gateAcknowledged(e Snapshot) GateResult {
	g := GateResult{Gate: GateAcknowledged, Interlock: true, Verdict: Pass, Detail: "no automatic rollback waits for an acknowledgment"}
	if l := e.Latch; l != nil {
		g.Verdict = Fail
		g.Detail = fmt.Sprintf("trigger %s rolled back %s: %s", l.Trigger, when(l.At), l.Reason)
		g.Hint = hint.Hint{Do: hint.Acknowledge, Text: "once its cause is repaired"}
	}
	return g
}

// Ahead lists the measured gates between a phase and the next one. Those of a step
// within the phase come first.
func (g GateSettings) Ahead(from Phase) []Measured {
	list := g.Before(from, from)
	if at := from.Position(); at >= 0 && at+1 < len(Order) {
		for _, m := range g.Before(from, Order[at+1]) {
			if !slices.ContainsFunc(list, func(have Measured) bool { return have.Name == m.Name }) {
				list = append(list, m)
			}
		}
	}
	return list
}

// Armed is one trigger.
type Armed struct {
	Name string
	Off  string // the reason why it is not evaluated
	Trial
}

// All lists the triggers, the custom ones of the migration file last.
func (t TriggerSettings) All() []Armed {
	var list []Armed
	add := func(name string, trial Trial) {
		off := trial.Off
		if off == "" {
			off = t.Off
		}
		list = append(list, Armed{Name: name, Off: off, Trial: trial})
	}
	add(TriggerMismatches, t.Mismatches.Trial)
	add(TriggerErrors, t.Errors.Trial)
	add(TriggerLatency, t.Latency.Trial)
	add(TriggerLostWrites, t.LostWrites.Trial)
	for _, c := range t.Custom {
		add(c.Name, c.Trial)
	}
	return list
}

// TriggersAct reports whether a firing trigger rolls back in this phase: reads come
// from the target, and legacy has every acknowledged write.
func (p Phase) TriggersAct() bool { return p == Cutover || p == Grace }
