package judge

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/phases"
)

func encode64(raw []byte) []byte { return base64.StdEncoding.AppendEncode(nil, raw) }

func decode64(text []byte) ([]byte, error) { return base64.StdEncoding.AppendDecode(nil, text) }

// lostWrites is the trigger on lost writes: acknowledged writes that are missing in the
// target, or older there.
type lostWrites struct {
	Comparisons tally `json:"comparisons"` // K: those that confirmed a lost write
	Run         int64 `json:"run,omitempty"`
	Found       int64 `json:"found,omitempty"` // lost writes that the reconcile run confirmed
}

func lostWritesOf(b []telemetry.Bucket, e phases.Snapshot) *lostWrites {
	l := &lostWrites{Comparisons: tally{
		N: comparisons(b).N,
		K: int64(telemetry.N(b, telemetry.Series{Operation: telemetry.Comparison, Outcome: telemetry.LostWrite})),
	}}
	if !e.Status.Route.ReadsTarget() {
		return l
	}
	for _, r := range []*phases.ReconcileResult{e.Reconcile, e.FullReconcile, e.FailedReconcile} {
		if r != nil && r.LostWrites > l.Found && r.Epoch == e.Status.Route.Epoch && r.ConfigHash == e.Status.ConfigHash {
			l.Run, l.Found = r.Run, r.LostWrites
		}
	}
	return l
}

func (l *lostWrites) evaluate() result {
	n := l.Comparisons.K + l.Found
	f := result{Verdict: phases.Quiet, Samples: l.Comparisons.N, Value: float64(n), Bound: float64(n), Detail: fmt.Sprintf("none among %d comparisons", l.Comparisons.N)}
	switch {
	case l.Found > 0:
		f.Verdict, f.Detail = phases.Firing, fmt.Sprintf("reconcile run %d confirmed %d lost writes", l.Run, l.Found)
	case n > 0:
		f.Verdict, f.Detail = phases.Firing, fmt.Sprintf("reads confirmed %d lost writes (%d comparisons)", n, l.Comparisons.N)
	case l.Comparisons.N == 0:
		f.Verdict, f.Detail = phases.NoData, "no comparison lately"
	}
	return f
}

// drill is the gate on the age of the newest drill that passed.
type drill struct {
	Now     time.Time `json:"now"`
	Passed  time.Time `json:"passed,omitzero"` // zero: none under this configuration
	Seconds float64   `json:"within"`
	// Faults are the kinds that are asked for, and Rehearsed when a drill with each passed last.
	Faults    []string             `json:"faults,omitempty"`
	Rehearsed map[string]time.Time `json:"rehearsed,omitempty"`
}

func drillOf(e phases.Snapshot, g phases.DrillGate) *drill {
	d := &drill{Now: e.Now, Seconds: time.Duration(g.Within).Seconds(), Faults: g.Faults}
	if one := e.Drill; one != nil && one.ConfigHash == e.Status.ConfigHash {
		d.Passed = one.Passed
		if len(g.Faults) > 0 {
			d.Rehearsed = one.Faults
		}
	}
	return d
}

func (d *drill) evaluate() result {
	f := result{Limit: d.Seconds}
	if d.Passed.IsZero() {
		f.Verdict, f.Detail = phases.NoData, "no drill has passed on this configuration"
		return f
	}
	oldest, what := d.Passed, "a drill passed"
	var none []string
	for _, kind := range d.Faults {
		passed, ok := d.Rehearsed[kind]
		if !ok {
			none = append(none, kind)
		} else if what == "a drill passed" || passed.Before(oldest) {
			oldest, what = passed, "a drill with the fault "+kind+" passed"
		}
	}
	if len(none) > 0 {
		f.Verdict, f.Detail = phases.NoData, "no drill with the fault "+strings.Join(none, ", nor with ")+" has passed on this configuration"
		return f
	}
	age := d.Now.Sub(oldest)
	f.Samples, f.Value, f.Bound = 1, age.Seconds(), age.Seconds()
	f.Verdict, f.Detail = phases.Pass, fmt.Sprintf("%s %s", what, at(oldest))
	if f.Bound > f.Limit {
		f.Verdict = phases.Fail
		f.Detail += fmt.Sprintf(": longer ago than %s", short(seconds(d.Seconds)))
	}
	return f
}

// answer is the gate or trigger on an outside source's answer.
type answer struct {
	Kind        phases.Kind     `json:"kind"`
	Verdict     phases.Verdict  `json:"verdict,omitempty"` // the source's own
	Value       float64         `json:"value,omitempty"`
	Detail      string          `json:"detail,omitempty"`
	Above       *float64        `json:"above,omitempty"`
	Below       *float64        `json:"below,omitempty"`
	OnBlind     string          `json:"on_blind,omitempty"`
	Consecutive int             `json:"consecutive,omitempty"` // consecutive bad evaluations that fire
	Before      int             `json:"before,omitempty"`      // consecutive bad evaluations before this one
	Source      json.RawMessage `json:"source,omitempty"`      // the query and the answer
}

func answerOf(kind phases.Kind, q phases.Question, r Reading) *answer {
	a := &answer{Kind: kind, Verdict: r.Verdict, Value: r.Value, Detail: r.Detail, Above: q.Above, Below: q.Below, Source: r.Inputs}
	if math.IsNaN(a.Value) || math.IsInf(a.Value, 0) {
		a.Value = 0
		if a.Verdict == "" {
			a.Verdict, a.Detail = phases.NoData, fmt.Sprintf("the answer is %v", r.Value)
		}
	}
	if a.Verdict == "" && a.Above == nil && a.Below == nil {
		a.Verdict, a.Detail = phases.Error, "the source's answer is a number, but no limit is set"
	}
	return a
}

// beyond reports whether the number is beyond the limit; exactly at the limit it is not.
func (a *answer) beyond() bool {
	return a.Above != nil && a.Value > *a.Above || a.Below != nil && a.Value < *a.Below
}

// blind reports whether there is no answer.
func (a *answer) blind() bool { return a.Verdict == phases.NoData || a.Verdict == phases.Error }

// bad reports whether the evaluation counts towards a trigger's firing.
func (a *answer) bad() bool {
	switch {
	case a.blind():
		return a.OnBlind == phases.RollbackOnBlind
	case a.Verdict != "":
		return a.Verdict == phases.Fail || a.Verdict == phases.Firing
	default:
		return a.beyond()
	}
}

func (a *answer) evaluate() result {
	f := result{Verdict: a.Verdict, Detail: a.Detail, Value: a.Value, Bound: a.Value, Samples: 1}
	if a.blind() {
		f.Samples = 0
	}
	limit := ""
	switch {
	case a.Above != nil:
		f.Limit, limit = *a.Above, fmt.Sprintf("above %g", *a.Above)
	case a.Below != nil:
		f.Limit, limit = *a.Below, fmt.Sprintf("below %g", *a.Below)
	}
	if a.Verdict == "" {
		f.Detail = fmt.Sprintf("the answer is %g", a.Value)
		if a.Detail != "" {
			f.Detail += " (" + a.Detail + ")"
		}
	}
	if f.Detail == "" {
		f.Detail = "the source's verdict is " + string(a.Verdict)
	}
	if a.Kind == phases.GateKind {
		if a.Verdict == "" {
			f.Detail += ", wanted is " + limit
			if f.Verdict = phases.Fail; a.beyond() {
				f.Verdict = phases.Pass
			}
		}
		return f
	}
	return a.fires(f, limit)
}

// fires turns a gate's result into a trigger's.
func (a *answer) fires(f result, limit string) result {
	if a.Verdict == "" {
		f.Detail += ", fires " + limit
	}
	if !a.bad() {
		if !a.blind() {
			f.Verdict = phases.Quiet
		}
		return f
	}
	if count := a.Before + 1; count < a.Consecutive {
		if !a.blind() {
			f.Verdict = phases.Quiet
		}
		f.Detail += fmt.Sprintf("; %d consecutive evaluations, %d fire", count, a.Consecutive)
		return f
	}
	f.Verdict = phases.Firing
	if a.blind() {
		f.Detail = "no answer, and on_blind is rollback: " + f.Detail
	}
	return f
}
