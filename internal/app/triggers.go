package app

import (
	"context"
	"slices"
	"time"

	"github.com/stranglerfig/migrator/internal/judge"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
)

// Triggers has the triggers of a migration, and the newest automatic rollback.
type Triggers struct {
	Acts     bool               `json:"acts"` // a firing trigger rolls back in the present phase
	Triggers []TriggerView      `json:"triggers"`
	Latch    *phases.Latch      `json:"latch,omitempty"`
	Rollback *AutomaticRollback `json:"rollback,omitempty"` // the newest
}

// TriggerView is one trigger with its newest evaluation.
type TriggerView struct {
	Trigger    string             `json:"trigger"`
	Off        string             `json:"off,omitempty"`
	DryRun     bool               `json:"dry_run"`
	Evaluation *phases.Evaluation `json:"evaluation,omitempty"`
	Since      time.Time          `json:"since,omitzero"` // since when it has the evaluation's verdict
}

// AutomaticRollback has the times of one, by the state database's clock.
type AutomaticRollback struct {
	Trigger   string    `json:"trigger"`
	Fired     time.Time `json:"fired"`
	Committed time.Time `json:"committed"`
	Settled   time.Time `json:"settled,omitzero"` // when all instances had acknowledged it
}

// ReadTriggers reads them from the state, with its time.
func ReadTriggers(ctx context.Context, store *state.Store, name string) (list Triggers, now time.Time, err error) {
	m, err := Applied(ctx, store, name)
	if err != nil {
		return list, now, err
	}
	// Read before the latch, so that the latch of a rollback that is returned is returned too.
	last, err := newestRollback(ctx, store, name)
	if err != nil {
		return list, now, err
	}
	e, err := store.Snapshot(ctx, name)
	if err != nil {
		return list, now, err
	}
	list = Triggers{Acts: e.Status.Route.Phase.TriggersAct(), Latch: e.Latch, Rollback: last}
	list.Triggers, err = ReadTriggerViews(ctx, store, m)
	return list, e.Now, err
}

// ReadTriggerViews reads the newest evaluation of each trigger of a migration.
func ReadTriggerViews(ctx context.Context, store *state.Store, m *migration.Config) ([]TriggerView, error) {
	newest, err := store.Evaluations(ctx, m.Name, state.EvaluationFilter{Kind: phases.TriggerKind, Newest: true})
	if err != nil {
		return nil, err
	}
	since, err := store.VerdictSince(ctx, m.Name, newest)
	if err != nil {
		return nil, err
	}
	views := []TriggerView{}
	for _, t := range m.Triggers.All() {
		v := TriggerView{Trigger: t.Name, Off: t.Off, DryRun: t.DryRun}
		for i := range newest {
			if newest[i].Name == t.Name {
				v.Evaluation, v.Since = &newest[i], since[i]
			}
		}
		views = append(views, v)
	}
	return views, nil
}

// newestRollback returns nil if no trigger has ever rolled back.
func newestRollback(ctx context.Context, store *state.Store, name string) (*AutomaticRollback, error) {
	changes, err := store.Changes(ctx, name)
	if err != nil {
		return nil, err
	}
	var last *AutomaticRollback
	for _, c := range changes {
		if c.Cause == phases.CauseTrigger {
			last = &AutomaticRollback{Committed: c.At, Settled: c.Settled}
		}
	}
	if last == nil {
		return nil, nil
	}
	fired, err := store.Fired(ctx, name)
	if err == nil {
		last.Trigger, last.Fired = fired.Name, fired.At
	}
	return last, err
}

// maxEntries bounds the history that a replay reads its routes from, maxRecorded the
// evaluations of one trigger.
const (
	maxEntries  = 1_000_000
	maxRecorded = 100_000
)

// ReplayTriggers evaluates triggers over the telemetry of a period before now.
func ReplayTriggers(ctx context.Context, store *state.Store, name string, s phases.Settings, before time.Duration) (*judge.Replayed, error) {
	e, err := store.Snapshot(ctx, name)
	if err != nil {
		return nil, err
	}
	r := judge.Replay{Settings: s, Since: e.Now.Add(-before), Until: e.Now, Routes: map[int64]phases.Route{}, Recorded: map[string][]phases.Evaluation{}}
	if r.Buckets, err = store.Observed(ctx, name, r.Since.Add(-judge.TriggersSince)); err != nil {
		return nil, err
	}
	entries, err := store.History(ctx, name, maxEntries)
	if err != nil {
		return nil, err
	}
	for _, one := range entries {
		r.Routes[one.To.Epoch] = one.To
	}
	for _, t := range s.Triggers.Custom {
		asked, err := store.Evaluations(ctx, name, state.EvaluationFilter{Kind: phases.TriggerKind, Name: t.Name, Since: r.Since, Limit: maxRecorded})
		if err != nil {
			return nil, err
		}
		slices.Reverse(asked)
		r.Recorded[t.Name] = asked
	}
	return r.Run(), nil
}
