package phases

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/humanize"
)

// Verdict is the result of an evaluation.
type Verdict string

// Verdicts. Pass opens a gate. So does Off: the migration file turns the gate off.
const (
	Pass         Verdict = "pass"
	Off          Verdict = "off"
	Fail         Verdict = "fail"
	Inconclusive Verdict = "inconclusive"
	NoData       Verdict = "no data"
	Error        Verdict = "error"
)

// GateResult is one gate's verdict, with its reason and what would change it.
type GateResult struct {
	Gate       string    `json:"gate"`
	Verdict    Verdict   `json:"verdict"`
	Detail     string    `json:"detail"`
	Hint       hint.Hint `json:"hint,omitzero"`        // what helps, if anything does
	Due        time.Time `json:"due,omitzero"`         // when time alone will open it
	Never      bool      `json:"never,omitempty"`      // it lacks data, and at the traffic so far it can't get enough
	Interlock  bool      `json:"interlock"`            // can't be overridden
	Overridden string    `json:"overridden,omitempty"` // the reason, where the decision maker overrode it
}

// Open reports whether the gate lets the move pass.
func (g GateResult) Open() bool {
	return g.Verdict == Pass || g.Verdict == Off || g.Overridden != "" && !g.Interlock
}

// Gates evaluates every gate between the snapshot's route and a later one.
// Interlocks come first. docs/operating.md lists the gates; each gate's function
// documents its inputs.
func Gates(to Route, s Settings, e Snapshot) []GateResult {
	from := e.Status.Route
	gates := []GateResult{gateStateWhole(e), gateFleet(e), gateRoutes(to, e), gateDescribed(e), gateColumns(to, e)}
	newPhase := to.Phase != from.Phase
	if newPhase && to.Phase.Position() >= DualRead.Position() {
		// [backfill-done]: an interlock before any phase that reads the target.
		gates = append(gates, gateBackfill(e, to.Phase != DualRead))
	}
	if to.Phase.Position() >= DualRead.Position() {
		// [journal-empty]: an interlock before any phase that reads the target.
		gates = append(gates, gateJournal(e, to.Phase != DualRead))
	}
	if to.Phase.Position() >= Cutover.Position() {
		// [unclean-mark]: from cutover on, also along its ramp.
		gates = append(gates, gateDirty(to, e))
	}
	gates = append(gates, gateAcknowledged(e), gatePaused(e), gateSoak(s, e))
	if newPhase && to.Phase.Position() >= Cutover.Position() && to.Phase != Complete {
		gates = append(gates, gateReconcile(e))
	}
	if newPhase && to.Phase.Position() >= DualRead.Position() && to.Phase != Complete {
		gates = append(gates, gateBypass(s, e))
	}
	if s.Capture.On() && to.Phase.Position() >= DualRead.Position() && to.Phase != Complete {
		gates = append(gates, gateCapture(to, e), gateCaptureLag(s.Gates, e))
	}
	gates = append(gates, gatesMeasured(to, s, e)...)
	for _, p := range s.Approval.For {
		if newPhase && p == to.Phase {
			gates = append(gates, gateApproval(to.Phase, slices.Contains(s.Approval.TwoPeople, p), e))
		}
	}
	return gates
}

// Closed returns the gates that block the move.
func Closed(gates []GateResult) []GateResult {
	var closed []GateResult
	for _, g := range gates {
		if !g.Open() {
			closed = append(closed, g)
		}
	}
	return closed
}

func gateFleet(e Snapshot) GateResult {
	g := GateResult{
		Gate: "fleet-settled", Interlock: true, Verdict: Pass,
		Detail: fmt.Sprintf("%s, all on epoch %d", humanize.Counted(e.Fleet.Live, "instance"), e.Status.Route.Epoch),
	}
	switch {
	// [lapsed-blocks]: waiting does not help: only a rejoin or an eviction opens the gate.
	case len(e.Fleet.Lapsed) > 0:
		g.Verdict = Fail
		g.Detail = fmt.Sprintf("%s expired without leaving (%s): %s may still run", humanize.Counted(len(e.Fleet.Lapsed), "lease"), e.Fleet.Lapsed[0],
			humanize.Either(len(e.Fleet.Lapsed), "this instance", "these instances"))
		g.Hint = EvictHint(e.Fleet.Lapsed[0])
	case e.Fleet.Behind > 0:
		g.Verdict = Inconclusive
		g.Detail = fmt.Sprintf("%d of %s %s not acknowledged epoch %d", e.Fleet.Behind, humanize.Counted(e.Fleet.Live, "instance"), humanize.Either(e.Fleet.Behind, "has", "have"), e.Status.Route.Epoch)
		g.Hint = hint.Hint{Do: hint.FleetList}
	}
	return g
}

// EvictHint is the hint for an instance whose lease expired: it may still run.
func EvictHint(instance string) hint.Hint {
	return hint.Hint{Do: hint.FleetEvict, Of: []string{instance}, Text: "once you know that it has stopped"}
}

func gateRoutes(to Route, e Snapshot) GateResult {
	g := GateResult{Gate: "routes-compatible", Interlock: true, Verdict: Pass, Detail: "every live route may run beside " + to.String()}
	through := to
	if to.Phase == Retain && e.Status.Route.Phase == Grace {
		through = Route{Phase: Fenced}
	}
	// [held-routes]: shown here. Transition checks it again, whatever the gates' verdicts.
	if err := Legal(e.Status.Route, through, e.Fleet.LiveRoutes); err != nil {
		g.Verdict, g.Detail = Fail, err.Error()
	}
	return g
}

func gateBackfill(e Snapshot, interlock bool) GateResult {
	g := GateResult{Gate: "backfill-done", Interlock: interlock, Hint: hint.Hint{Do: hint.BackfillRun}}
	switch b := e.Backfill; {
	// [backfill-done], [backfill-reentry]: a backfill older than the last stay in legacy has not
	// copied the writes of that stay.
	case b == nil || b.Epoch <= e.Status.LegacyEpoch:
		g.Verdict, g.Detail = NoData, "no backfill has begun since the migration was last in legacy"
	// [fields-filled]: nor has one of before the columns were changed copied the new ones.
	case b.Epoch < e.Status.FieldsEpoch:
		g.Verdict, g.Detail = NoData, "no backfill has begun since the columns that are moved were changed"
	// [capture-reentry]: nor has one of before the changes that were lost copied these.
	case e.Capture.LostSince(b.Began):
		g.Verdict, g.Detail = NoData, "no backfill has begun since changes of legacy were lost to capture "+when(e.Capture.LostAt)
	case b.Finished.IsZero():
		g.Verdict, g.Detail = Inconclusive, "the backfill is not finished"
	default:
		g.Verdict, g.Detail, g.Hint = Pass, "finished "+when(b.Finished), hint.Hint{}
	}
	return g
}

func gateJournal(e Snapshot, interlock bool) GateResult {
	g := GateResult{Gate: "journal-empty", Interlock: interlock, Verdict: Pass, Detail: "no key is journaled"}
	// [journal-empty]: reads would move to a target that is known to be behind legacy.
	if n := e.Status.JournalKeys; n > 0 {
		g.Verdict, g.Detail = Fail, fmt.Sprintf("%s journaled: the target is behind for %s", humanize.Counted(n, "key")+humanize.Either(n, " is", " are"), humanize.Either(n, "it", "them"))
		g.Hint = hint.Hint{Do: hint.ReconcileRepair}
	}
	return g
}

func gateDirty(to Route, e Snapshot) GateResult {
	g := GateResult{Gate: "no-lost-queue", Interlock: true, Verdict: Pass, Detail: "no instance ended with queued writes, and no journaled key was lost"}
	dirty := e.Status.Dirty
	switch r := e.FullReconcile; {
	case dirty.IsZero():
	// [store-unclean]: no comparison shows what a store lost of the writes since the fence, so a person decides.
	case to.Phase == Complete && e.Status.Unclean != "":
		g.Interlock, g.Verdict = false, NoData
		g.Detail = e.Status.Unclean + "; no reconcile shows what was lost of the writes since the fence, since legacy does not have them"
		g.Hint = hint.Hint{Do: hint.Rollback, Text: "or override this gate, with what was done about the loss as the reason"}
	// [unclean-mark], [unclean-outlasts]: dirty already includes not-after. A run that began before
	// it may have passed a key whose insert had not landed yet.
	case r.Clean() && r.Full && r.TwoWay && r.Began.After(dirty) && r.ConfigHash == e.Status.ConfigHash && e.Status.Unclean == "":
		g.Detail = fmt.Sprintf("a full reconcile (run %d) was clean after the last unclean exit", r.Run)
	default:
		g.Verdict = NoData
		why := e.Status.Unclean
		if why == "" {
			why = "an instance ended without leaving, perhaps with writes queued or in flight, or the state database lost journaled keys"
		}
		g.Detail = why + "; such writes may land until " + dirty.UTC().Format(time.RFC3339) + ", and no full, two-way reconcile under this configuration that began later was clean"
		g.Hint = hint.Hint{Do: hint.ReconcileFull}
		if dirty.After(e.Now) {
			g.Hint.Text = "begun after " + dirty.UTC().Format(time.RFC3339) + ": an earlier one does not count"
		}
	}
	return g
}

func gatePaused(e Snapshot) GateResult {
	g := GateResult{Gate: "not-paused", Verdict: Pass, Detail: "not paused"}
	if e.Status.Paused != "" {
		g.Verdict, g.Detail, g.Hint = Fail, "paused: "+e.Status.Paused, hint.Hint{Do: hint.Resume}
	}
	return g
}

// gateSoak counts from the last change of route: time on another route proves nothing for this
// one. Another share of compared reads is no other route in this: without a ramp it counts from
// when the phase was entered.
func gateSoak(s Settings, e Snapshot) GateResult {
	need, since := s.Soak(e.Status.Route), e.Status.RouteSince
	if e.Status.Route.Phase == Grace {
		since = e.Status.PhaseSince
	}
	due := since.Add(need)
	g := GateResult{Gate: "soak-time", Verdict: Pass, Detail: fmt.Sprintf("%s on %s, %s needed", Duration(e.Now.Sub(since).Round(time.Second)), e.Status.Route, Duration(need))}
	if e.Now.Before(due) {
		g.Verdict, g.Due = Inconclusive, due
	}
	return g
}

// ReconcileWithin is the greatest age of the full run that a step requires. It counts from
// the run's beginning, since the records that it read first are as old as that.
const ReconcileWithin = 7 * 24 * time.Hour

// gateReconcile requires a clean, full, two-way run that began on the present route,
// within ReconcileWithin, under the present configuration. Differences that a run found
// are cleared only by such a run that began after it, however many samples were clean since.
func gateReconcile(e Snapshot) GateResult {
	g := GateResult{Gate: "reconcile-clean", Hint: hint.Hint{Do: hint.ReconcileFull}}
	full := e.FullReconcile
	found := func(r *ReconcileResult) bool {
		return r != nil && r.Differences > 0 && (full == nil || !full.Clean() || !full.Began.After(r.Began))
	}
	failed := e.FailedReconcile
	for _, r := range []*ReconcileResult{e.Reconcile, full} {
		if found(r) && (failed == nil || failed.Began.Before(r.Began)) {
			failed = r
		}
	}
	switch {
	case found(failed):
		g.Verdict = Fail
		g.Detail = fmt.Sprintf("run %d found %d differences %s; only a later, clean full run clears that", failed.Run, failed.Differences, when(failed.Finished))
	case full == nil || !full.Full || !full.TwoWay:
		g.Verdict, g.Detail = NoData, "no full, two-way reconcile has finished"
	case full.Epoch != e.Status.Route.Epoch:
		g.Verdict, g.Detail = NoData, fmt.Sprintf("the last full run (%d) began in epoch %d; the route is of epoch %d", full.Run, full.Epoch, e.Status.Route.Epoch)
	case full.ConfigHash != e.Status.ConfigHash:
		g.Verdict, g.Detail = NoData, fmt.Sprintf("the last full run (%d) was made under another configuration", full.Run)
	case full.Undecided > 0 && full.Repaired == 0:
		g.Verdict, g.Detail = NoData, fmt.Sprintf("the last full run (%d) could not judge %s: %s changed at every read", full.Run, humanize.Counted(full.Undecided, "record"), humanize.Either(full.Undecided, "it", "they"))
	case !full.Clean():
		g.Verdict, g.Detail = NoData, fmt.Sprintf("the last full run (%d) repaired %s: only a later one can be clean", full.Run, humanize.Counted(full.Repaired, "key"))
	case e.Now.Sub(full.Began) > ReconcileWithin:
		g.Verdict, g.Detail = NoData, fmt.Sprintf("the last full run (%d) began %s, more than %s ago", full.Run, when(full.Began), Duration(ReconcileWithin))
	default:
		g.Verdict, g.Hint = Pass, hint.Hint{}
		g.Detail = fmt.Sprintf("run %d checked %d records %s and found no difference", full.Run, full.Checked, when(full.Finished))
	}
	return g
}

// gateApproval is an interlock where two people must agree: an approval by the person
// who advances does not count as the second one.
func gateApproval(to Phase, two bool, e Snapshot) GateResult {
	g := GateResult{
		Gate: "approved", Interlock: two, Verdict: NoData, Detail: "no approval of " + string(to) + " in this epoch",
		Hint: hint.Hint{Do: hint.Approve, Of: []string{string(to)}},
	}
	own := false
	expired := map[string]time.Time{} // by who approved
	for _, a := range e.Approvals {
		switch {
		case a.To != to || a.Epoch != e.Status.Route.Epoch || a.ConfigHash != e.Status.ConfigHash:
		case !e.Now.Before(a.Expires):
			expired[a.Actor] = a.Expires
		case !two || a.Actor != e.Actor:
			g.Verdict, g.Detail, g.Hint = Pass, "approved by "+a.Actor, hint.Hint{}
			return g
		default:
			own = true
		}
	}
	var void []string
	if own {
		delete(expired, e.Actor)
		void = append(void, fmt.Sprintf("two people must agree, and the approval of %s by %s does not count for a step that %[2]s takes", to, e.Actor))
		g.Hint = hint.Hint{Do: hint.Advance, Text: "as another person"}
	}
	for _, actor := range slices.Sorted(maps.Keys(expired)) {
		void = append(void, fmt.Sprintf("the approval of %s by %s expired %s", to, actor, when(expired[actor])))
	}
	if len(void) > 0 {
		g.Detail = strings.Join(void, "; ")
	}
	return g
}

func when(t time.Time) string { return "at " + t.UTC().Format(time.RFC3339) }
