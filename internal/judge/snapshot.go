package judge

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/internal/stats"
	"github.com/stranglerfig/migrator/phases"
)

// Snapshot is all that gates and triggers are evaluated from. Evaluating does no I/O, and
// gives the same result for the same Snapshot.
type Snapshot struct {
	State    phases.Snapshot
	Settings phases.Settings
	Buckets  []telemetry.Bucket // oldest first, from GatesSince or TriggersSince on at least
	Timed    []telemetry.Bucket // those with latencies, of the same time or less; nil: Buckets have them
	Answers  map[string]Answer  // of the custom gates, or of the custom triggers, by name
}

// Answer is a source's newest reading.
type Answer struct {
	Reading
	Before int // consecutive bad readings before this one
}

// TriggersSince is the longest period that triggers use.
const TriggersSince = 6 * time.Hour

// GatesSince returns the beginning of the period that gates use: the stay in dual-read, or
// the step.
func (l Snapshot) GatesSince() time.Time {
	since, _ := consistencySpan(l.Settings, l.State.Status)
	return since
}

func (l Snapshot) timed() []telemetry.Bucket {
	if l.Timed == nil {
		return l.Buckets
	}
	return l.Timed
}

// Gate evaluates one measured gate.
func (l Snapshot) Gate(m phases.Measured) phases.Evaluation {
	in, e, g := l.inputs(phases.GateKind, m.Watch), l.State, l.Settings.Gates
	own := ofEpoch(l.Buckets, e.Status)
	var err error
	switch m.Name {
	case phases.GateConsistency:
		in.Consistency, err = consistencyOf(l.Buckets, e, l.Settings)
	case phases.GateShadowWrites:
		in.Failures = failuresOf("writes to the target", own, e, targetWrites, g.ShadowWrites)
	case phases.GateTargetReads:
		in.Failures = failuresOf("reads from the target", own, e, targetReads, g.TargetReads)
	case phases.GateAddedLatency:
		in.Added = addedLatencyOf(ofEpoch(l.timed(), e.Status), g.AddedLatency.P95, e.Status.RouteSince)
	case phases.GateDrill:
		in.Drill = drillOf(e, g.Drill)
	case phases.GateRunbook:
		in.Runbook = verificationOf(e, g.Runbook.Within)
	default:
		at := slices.IndexFunc(g.Custom, func(c phases.CustomGate) bool { return c.Name == m.Name })
		var q phases.Question
		if at >= 0 {
			q = g.Custom[at].Question
		}
		in.Answer = answerOf(phases.GateKind, q, l.answer(m.Name).Reading)
	}
	if err != nil {
		in.Consistency = nil
		in.Answer = answerOf(phases.GateKind, phases.Question{}, Reading{Verdict: phases.Error, Detail: err.Error()})
	}
	if m.Name == phases.GateConsistency && in.Consistency != nil && in.Consistency.Seen == 0 ||
		m.Name == phases.GateTargetReads && in.Failures.All.N == 0 {
		if r := reconciledOf(l.Settings, e); r != nil {
			in = l.inputs(phases.GateKind, phases.Watch{InitialDelay: m.InitialDelay})
			in.Reconciled = r
		}
	}
	in.Failed = l.failedBefore(m.Name)
	return in.evaluation(m.Name, e)
}

// Trigger evaluates one trigger, in any phase.
func (l Snapshot) Trigger(t phases.Armed) phases.Evaluation {
	in, e, s := l.inputs(phases.TriggerKind, t.Watch), l.State, l.Settings.Triggers
	own := ofEpoch(l.Buckets, e.Status)
	interval := time.Duration(t.Interval)
	switch t.Name {
	case phases.TriggerMismatches:
		lengths := []time.Duration{5 * time.Minute, recentWindow, TriggersSince}
		in.Mismatches = &excess{
			What: "comparisons differ", Limit: s.Mismatches.Limit.Ratio(), EvaluationsPerDay: stats.EvaluationsPerDay(interval, len(lengths)),
			Windows: windows(own, e.Now, comparisons, lengths...),
		}
	case phases.TriggerErrors:
		perDay := stats.EvaluationsPerDay(interval, 4)
		in.Errors = &errorRates{
			Reads:  errorRateOf("reads from the target failed", own, e.Now, askedReads, s.Errors.Limit, perDay),
			Writes: errorRateOf("writes to the target failed", own, e.Now, askedWrites, s.Errors.Limit, perDay),
		}
	case phases.TriggerLatency:
		in.Latency = latencyOf(ofEpoch(l.timed(), e.Status), e.Now, s.Latency)
	case phases.TriggerLostWrites:
		in.LostWrites = lostWritesOf(own, e)
	default:
		in.Answer = l.triggerAnswer(t.Name)
	}
	evaluation := in.evaluation(t.Name, e)
	evaluation.DryRun = t.DryRun
	return evaluation
}

func (l Snapshot) triggerAnswer(name string) *answer {
	var c phases.CustomTrigger
	if at := slices.IndexFunc(l.Settings.Triggers.Custom, func(c phases.CustomTrigger) bool { return c.Name == name }); at >= 0 {
		c = l.Settings.Triggers.Custom[at]
	}
	newest := l.answer(name)
	a := answerOf(phases.TriggerKind, c.Question, newest.Reading)
	a.OnBlind, a.Consecutive, a.Before = c.OnBlind, c.Consecutive, newest.Before
	return a
}

func (l Snapshot) answer(name string) Answer {
	if a, ok := l.Answers[name]; ok {
		return a
	}
	return Answer{Reading: Reading{Verdict: phases.NoData, Detail: "its source was not queried"}}
}

func (l Snapshot) inputs(kind phases.Kind, w phases.Watch) inputs {
	in := inputs{Kind: kind, Now: l.State.Now, Least: int64(w.MinSamples)}
	if w.InitialDelay > 0 {
		in.Begins = l.State.Status.RouteSince.Add(time.Duration(w.InitialDelay))
	}
	return in
}

// failedBefore returns the newest failed evaluation of the gate in the period that it uses
// now, unless a later evaluation has cleared it.
func (l Snapshot) failedBefore(name string) *failure {
	st := l.State.Status
	since := st.RouteSince
	if name == phases.GateConsistency {
		since = l.GatesSince()
	}
	var newest *phases.Evaluation
	for i := range l.State.Evaluations {
		if e := &l.State.Evaluations[i]; e.Kind == phases.GateKind && e.Name == name && (newest == nil || e.At.After(newest.At)) {
			newest = e
		}
	}
	if newest == nil || newest.Verdict != phases.Fail || newest.ConfigHash != st.ConfigHash || newest.At.Before(since) {
		return nil
	}
	var was inputs
	if json.Unmarshal(newest.Inputs, &was) == nil && was.Failed != nil && was.evaluator() != nil && was.evaluator().evaluate().Verdict != phases.Fail {
		return was.Failed // that evaluation only repeated it
	}
	return &failure{At: newest.At, Detail: newest.Detail}
}
