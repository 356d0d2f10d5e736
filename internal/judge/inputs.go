package judge

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/phases"
)

// evaluator computes a verdict from its own fields alone: they are recorded, and the verdict
// can be computed again.
type evaluator interface{ evaluate() result }

// result is the result of an evaluation.
type result struct {
	Verdict phases.Verdict
	Detail  string
	Hint    hint.Hint
	Due     time.Time
	Samples int64
	Value   float64
	Bound   float64
	Limit   float64
}

// inputs are all that an evaluation's verdict is computed from. Exactly one evaluator is set.
type inputs struct {
	Kind   phases.Kind `json:"kind"`
	Now    time.Time   `json:"now"`
	Begins time.Time   `json:"begins,omitzero"` // no evaluation counts before
	Least  int64       `json:"min_samples,omitempty"`
	Failed *failure    `json:"failed,omitempty"` // earlier Fail of a gate in the same period, not cleared yet

	Consistency *consistency  `json:"consistency,omitempty"`
	Failures    *failures     `json:"failures,omitempty"`
	Added       *addedLatency `json:"added_latency,omitempty"`
	Drill       *drill        `json:"drill,omitempty"`
	Runbook     *verification `json:"runbook,omitempty"`
	Mismatches  *excess       `json:"mismatches,omitempty"`
	Errors      *errorRates   `json:"errors,omitempty"`
	Latency     *latency      `json:"latency,omitempty"`
	LostWrites  *lostWrites   `json:"lost_writes,omitempty"`
	Answer      *answer       `json:"answer,omitempty"`
	Reconciled  *reconciled   `json:"reconciled,omitempty"`
}

// failure is a failed evaluation.
type failure struct {
	At     time.Time `json:"at"`
	Detail string    `json:"detail"`
}

func (in inputs) evaluator() evaluator {
	switch {
	case in.Consistency != nil:
		return in.Consistency
	case in.Failures != nil:
		return in.Failures
	case in.Added != nil:
		return in.Added
	case in.Drill != nil:
		return in.Drill
	case in.Runbook != nil:
		return in.Runbook
	case in.Mismatches != nil:
		return in.Mismatches
	case in.Errors != nil:
		return in.Errors
	case in.Latency != nil:
		return in.Latency
	case in.LostWrites != nil:
		return in.LostWrites
	case in.Answer != nil:
		return in.Answer
	case in.Reconciled != nil:
		return in.Reconciled
	}
	return nil
}

// evaluate computes the result from all inputs.
func (in inputs) evaluate() result {
	f := in.evaluator().evaluate()
	gate := in.Kind == phases.GateKind
	switch few := f.Samples < in.Least; {
	case in.Now.Before(in.Begins):
		f.Detail, f.Hint = "is first evaluated "+at(in.Begins)+"; until now: "+f.Detail, hint.Hint{}
		if f.Verdict, f.Due = phases.Quiet, (time.Time{}); gate {
			f.Verdict, f.Due = phases.Inconclusive, in.Begins
		}
	case few && gate && f.Verdict == phases.Pass:
		f.Verdict, f.Detail = phases.Inconclusive, fmt.Sprintf("%d samples, %d needed: %s", f.Samples, in.Least, f.Detail)
	case few && !gate && (f.Verdict == phases.Quiet || f.Verdict == phases.Firing):
		f.Verdict, f.Detail = phases.NoData, fmt.Sprintf("%d samples, %d needed: %s", f.Samples, in.Least, f.Detail)
	}
	if !in.Now.Before(in.Begins) && in.Failed == nil {
		f = in.lacking(f)
	}
	if in.Failed != nil && f.Verdict != phases.Pass && f.Verdict != phases.Fail {
		f.Verdict = phases.Fail
		f.Detail = fmt.Sprintf("failed %s: %s. Nothing has cleared it since: %s", at(in.Failed.At), in.Failed.Detail, f.Detail)
	}
	return f
}

// evaluation is the record of an evaluation.
func (in inputs) evaluation(name string, e phases.Snapshot) phases.Evaluation {
	raw, err := json.Marshal(in)
	f := in.evaluate()
	f.Hint = hintOf(f.Hint, name)
	if err != nil { // a source's own JSON may be invalid
		f.Verdict, f.Detail = phases.Error, "its inputs can't be recorded: "+err.Error()
	}
	return phases.Evaluation{
		Kind: in.Kind, Name: name, At: in.Now, Epoch: e.Status.Route.Epoch, ConfigHash: e.Status.ConfigHash,
		Verdict: f.Verdict, Detail: f.Detail, Hint: f.Hint, Due: f.Due,
		Samples: f.Samples, Value: f.Value, Bound: f.Bound, Limit: f.Limit, Inputs: raw,
	}
}

// Reevaluate computes an evaluation's verdict again from its recorded inputs.
func Reevaluate(old phases.Evaluation) (phases.Evaluation, error) {
	var in inputs
	if err := json.Unmarshal(old.Inputs, &in); err != nil {
		return old, fmt.Errorf("the inputs of evaluation %d of %s can't be read: %w", old.ID, old.Name, err)
	}
	if in.evaluator() == nil {
		return old, fmt.Errorf("the inputs of evaluation %d of %s are of a kind that this release does not know", old.ID, old.Name)
	}
	f := in.evaluate()
	f.Hint = hintOf(f.Hint, old.Name)
	again := old
	again.Verdict, again.Detail, again.Hint, again.Due = f.Verdict, f.Detail, f.Hint, f.Due
	again.Samples, again.Value, again.Bound, again.Limit = f.Samples, f.Value, f.Bound, f.Limit
	return again, nil
}

// hintOf names the gate in a hint to override it.
func hintOf(h hint.Hint, gate string) hint.Hint {
	if h.Do == hint.Override {
		h.Of = []string{gate}
	}
	return h
}

func at(t time.Time) string { return "at " + t.UTC().Format(time.RFC3339) }

// percent formats a share: 0.0431 %.
func percent(share float64) string { return fmt.Sprintf("%.3g %%", 100*share) }

func short(d time.Duration) string {
	if d < time.Second {
		return d.Round(10 * time.Microsecond).String()
	}
	return phases.Duration(d.Round(time.Second)).String()
}
