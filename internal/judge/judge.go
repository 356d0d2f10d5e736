// Package judge evaluates a migration's gates and triggers. It reads telemetry and the
// answers of outside sources, and records every evaluation with its inputs, from which
// Reevaluate computes the verdict again.
//
// A gate proves safety, a trigger proves harm. Missing information blocks an advance. It
// never causes a rollback, unless a trigger is configured so (on_blind: rollback).
package judge

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/phases"
)

// State has telemetry and evaluations. state.Store is the one in PostgreSQL.
type State interface {
	// Observed returns telemetry since a time of the state's clock, oldest first. Recent
	// buckets are seconds long, older ones five minutes.
	Observed(ctx context.Context, migration string, since time.Time) ([]telemetry.Bucket, error)
	// Counted is Observed without the latencies, which cost most of the work.
	Counted(ctx context.Context, migration string, since time.Time) ([]telemetry.Bucket, error)
	// Record stores evaluations and returns them with their ids and times.
	Record(ctx context.Context, migration string, all []phases.Evaluation) ([]phases.Evaluation, error)
}

// Source is an outside source of a custom gate or trigger: a query to Prometheus, or a
// command. Read returns soon after ctx is done.
type Source interface {
	Read(ctx context.Context) Reading
}

// Reading is a source's answer. If it has a verdict (NoData, Error, or a command's Pass or
// Fail), that is the answer; otherwise Value is compared with the limit.
type Reading struct {
	Verdict phases.Verdict
	Value   float64
	Detail  string          // for an operator; no secrets
	Inputs  json.RawMessage // the query and the answer
}

// Judge evaluates the gates and triggers of one migration. Settings and sources are those of
// the applied migration file. Its methods may be called concurrently.
type Judge struct {
	State     State
	Migration string
	Settings  phases.Settings
	// Sources of the custom gates and triggers, by name. A gate or trigger without a source
	// is not evaluated: a Judge without the source must not overwrite the evaluation of one
	// that has it.
	GateSources    map[string]Source
	TriggerSources map[string]Source
	// Watched means that Watch runs and is the only one to query the sources; Gates and
	// Triggers use their newest answers. Set it before the first evaluation: a trigger with
	// on_blind: rollback that were evaluated before the first answer would fire.
	Watched bool

	mu            sync.Mutex
	evaluated     map[evaluationKey]time.Time // by the state's clock
	newestAnswers map[sourceKey]*newestAnswer
}

// evaluationKey identifies evaluations that an interval applies to.
type evaluationKey struct {
	kind   phases.Kind
	name   string
	epoch  int64
	config string
}

// Gates evaluates the measured gates ahead of e whose interval has passed since this Judge
// evaluated them, and records the evaluations: the next snapshot has them. It queries
// sources concurrently, and waits for each no longer than its timeout. While Watch runs, it
// does not wait for sources.
func (j *Judge) Gates(ctx context.Context, e phases.Snapshot) ([]phases.Evaluation, error) {
	var due []phases.Measured
	for _, m := range j.Settings.Gates.Ahead(e.Status.Route.Phase) {
		if m.Off == "" && j.sourceReady(phases.GateKind, m.Name) && j.due(phases.GateKind, m.Name, m.Watch, e) {
			due = append(due, m)
		}
	}
	if len(due) == 0 {
		return nil, nil
	}
	snapshot := Snapshot{State: e, Settings: j.Settings}
	wanted := span{counted: e.Status.RouteSince}
	questions := map[string]question{}
	for _, m := range due {
		switch m.Name {
		case phases.GateConsistency:
			wanted.counted = snapshot.GatesSince()
		case phases.GateAddedLatency:
			wanted.timed = e.Status.RouteSince
		}
	}
	for _, c := range j.Settings.Gates.Custom {
		for _, m := range due {
			if m.Name == c.Name {
				questions[c.Name] = question{source: j.GateSources[c.Name], timeout: time.Duration(c.Timeout), interval: time.Duration(c.Interval)}
			}
		}
	}
	if err := j.gather(ctx, &snapshot, wanted, phases.GateKind, questions); err != nil {
		return nil, err
	}
	all := make([]phases.Evaluation, len(due))
	for i, m := range due {
		all[i] = snapshot.Gate(m)
	}
	return j.record(ctx, all)
}

// Triggers evaluates the triggers whose interval has passed, in every phase, and records the
// evaluations. It waits for sources as Gates does.
func (j *Judge) Triggers(ctx context.Context, e phases.Snapshot) ([]phases.Evaluation, error) {
	var due []phases.Armed
	questions := map[string]question{}
	for _, t := range j.Settings.Triggers.All() {
		if t.Off == "" && j.sourceReady(phases.TriggerKind, t.Name) && j.due(phases.TriggerKind, t.Name, t.Watch, e) {
			due = append(due, t)
		}
	}
	for _, c := range j.Settings.Triggers.Custom {
		for _, t := range due {
			if t.Name == c.Name {
				questions[c.Name] = question{source: j.TriggerSources[c.Name], timeout: time.Duration(c.Timeout), interval: time.Duration(c.Interval)}
			}
		}
	}
	if len(due) == 0 {
		return nil, nil
	}
	snapshot := Snapshot{State: e, Settings: j.Settings}
	lately := func(d time.Duration) time.Time {
		if horizon := e.Now.Add(-d); e.Status.RouteSince.Before(horizon) {
			return horizon
		}
		return e.Status.RouteSince
	}
	wanted := span{counted: lately(TriggersSince)}
	for _, t := range due {
		if t.Name == phases.TriggerLatency {
			wanted.timed = lately(recentWindow)
		}
	}
	if err := j.gather(ctx, &snapshot, wanted, phases.TriggerKind, questions); err != nil {
		return nil, err
	}
	all := make([]phases.Evaluation, len(due))
	for i, t := range due {
		all[i] = snapshot.Trigger(t)
	}
	return j.record(ctx, all)
}

// due reports whether another evaluation is due. Ticks are not exact, so a tenth of the
// interval may be missing.
func (j *Judge) due(kind phases.Kind, name string, w phases.Watch, e phases.Snapshot) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	last, ok := j.evaluated[evaluationKey{kind, name, e.Status.Route.Epoch, e.Status.ConfigHash}]
	return !ok || e.Now.Sub(last) >= time.Duration(w.Interval)*9/10
}

func (j *Judge) record(ctx context.Context, all []phases.Evaluation) ([]phases.Evaluation, error) {
	recorded, err := j.State.Record(ctx, j.Migration, all)
	if err != nil {
		return nil, fmt.Errorf("record the evaluations of %s: %w", j.Migration, err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.evaluated) > 1000 { // of epochs that are over
		j.evaluated = nil
	}
	if j.evaluated == nil {
		j.evaluated = map[evaluationKey]time.Time{}
	}
	for _, e := range all {
		j.evaluated[evaluationKey{e.Kind, e.Name, e.Epoch, e.ConfigHash}] = e.At
	}
	return recorded, nil
}

// span is since when an evaluation needs counts, and latencies; zero: it needs none.
type span struct{ counted, timed time.Time }

// gather reads telemetry and queries the sources, concurrently.
func (j *Judge) gather(ctx context.Context, snapshot *Snapshot, wanted span, kind phases.Kind, questions map[string]question) error {
	var wait sync.WaitGroup
	wait.Go(func() { snapshot.Answers = j.answers(ctx, kind, questions) })
	var err error
	snapshot.Buckets, err = j.State.Counted(ctx, j.Migration, wanted.counted)
	snapshot.Timed = []telemetry.Bucket{}
	if err == nil && !wanted.timed.IsZero() {
		snapshot.Timed, err = j.State.Observed(ctx, j.Migration, wanted.timed)
	}
	wait.Wait()
	if err != nil {
		return fmt.Errorf("read the telemetry of %s: %w", j.Migration, err)
	}
	return nil
}
