package phases

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
)

// GateBypass is the gate that no writer bypasses dual.
const GateBypass = "bypass"

// BypassGate compares the changes that legacy counts with those that instances report.
type BypassGate struct {
	Off   string   `yaml:"off,omitempty" json:"off,omitempty" jsonschema_description:"Why it blocks no step: which programs write past the application, and what copies their changes. They are still counted and shown"`
	Limit Share    `yaml:"limit,omitempty" json:"limit,omitempty" jsonschema_description:"Changes beyond the reported ones that are tolerated, as a share of these: attempts that were rolled back and made again, rows that a trigger changes once more (default 10%)"`
	For   Duration `yaml:"for,omitempty" json:"for,omitempty" jsonschema_description:"How long the counters must have been compared, and how long ago the last change that no instance reported must be (default 1d)"`
}

// Tolerated is Limit, or its default.
func (g BypassGate) Tolerated() Share { return cmp.Or(g.Limit, 100_000) }

// Needs is For, or its default.
func (g BypassGate) Needs() time.Duration { return cmp.Or(time.Duration(g.For), 24*time.Hour) }

// Bypass is what legacy's own counters show of writes that no instance has reported.
type Bypass struct {
	Began  time.Time `json:"began"`  // when the comparison began, in this stay beyond legacy
	Looked time.Time `json:"looked"` // when the counters were last read
	Judged Duration  `json:"judged"` // of the time since Began, for how long they could be compared
	// Why is why they could not be compared at the last look; "": they could.
	Why string `json:"why,omitempty"`
	// Least and Most are bounds of the changes that no instance has reported; both 0: there are none.
	Least   int64     `json:"least"`
	Most    int64     `json:"most"`
	First   time.Time `json:"first,omitzero"`    // since when
	Last    time.Time `json:"last,omitzero"`     // when the last of them were found
	Writers []string  `json:"writers,omitempty"` // sessions that wrote the table then: the application's own may be among them
}

// Found reports whether there were changes that no instance has reported.
func (b *Bypass) Found() bool { return b != nil && b.Least > 0 }

// Describe says what was found.
func (b *Bypass) Describe() string {
	text := fmt.Sprintf("%d to %d changes of legacy's table that no instance reported, since %s", b.Least, b.Most, b.First.UTC().Format(time.RFC3339))
	if len(b.Writers) > 0 {
		text += "; sessions that wrote it then: " + strings.Join(b.Writers, ", ")
	}
	return text
}

// lookHint is the remedy where no process looks at legacy's counters.
var lookHint = hint.Hint{Do: hint.ReconcileRun, Text: "which looks at them, as every command does that opens both stores; the daemon does so all the time"}

// BypassHint is the remedy.
func BypassHint() hint.Hint {
	return hint.Hint{Text: "make every program that writes the table use dual, or stop it; then a reconcile that repairs copies what it wrote. If another way copies it, give gates.bypass.off that as its reason"}
}

// Compared reports whether writes of the phase are compared with legacy's counters: legacy takes
// them, and the target is to have them.
func (p Phase) Compared() bool {
	return p == ShadowWrite || p == DualRead || p == Cutover || p == Grace
}

// gateBypass needs a comparison of some duration, without a change that no instance reported for as
// long. Where nothing can be compared, it stays closed.
func gateBypass(settings Settings, e Snapshot) GateResult {
	g := GateResult{Gate: GateBypass, Verdict: NoData}
	b, s := e.Bypass, settings.Gates
	switch off := cmp.Or(s.Bypass.Off, s.Off); {
	case settings.Capture.On():
		// [capture-gated]: whether it does is a gate of its own.
		g.Verdict, g.Detail = Pass, "not needed: what any program writes is for change capture, which has a gate of its own"
		if b.Found() {
			g.Detail += ": " + b.Describe()
		}
		return g
	case off != "":
		g.Verdict, g.Detail = Off, "off: "+off
		if b.Found() {
			g.Detail += " (" + b.Describe() + ")"
		}
		return g
	case b == nil || b.Looked.IsZero():
		g.Detail = "legacy's counters have not been looked at"
		g.Hint = lookHint
		return g
	}
	need := s.Bypass.Needs()
	ago := func(t time.Time) Duration { return Duration(e.Now.Sub(t).Round(time.Second)) }
	switch {
	case b.Found() && e.Now.Sub(b.Last) < need:
		g.Verdict, g.Detail, g.Due, g.Hint = Fail, b.Describe(), b.Last.Add(need), BypassHint()
	case e.Now.Sub(b.Looked) > max(need, time.Minute):
		g.Detail = fmt.Sprintf("legacy's counters were last looked at %s ago", ago(b.Looked))
		g.Hint = lookHint
	case b.Why != "":
		g.Detail = "legacy's changes can't be compared with what instances report: " + b.Why
		g.Hint = hint.Hint{Text: "see that; or give gates.bypass.off a reason"}
	case time.Duration(b.Judged) < need:
		g.Verdict = Inconclusive
		g.Detail = fmt.Sprintf("legacy's changes have been compared for %s, %s needed", Duration(time.Duration(b.Judged).Round(time.Second)), Duration(need))
		g.Due = e.Now.Add(need - time.Duration(b.Judged))
	default:
		g.Verdict = Pass
		g.Detail = fmt.Sprintf("in %s legacy counted no changes beyond those that instances reported", Duration(need))
	}
	return g
}
