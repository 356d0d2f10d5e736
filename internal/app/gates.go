package app

import (
	"context"
	"slices"
	"time"

	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/phases"
)

// GateView is a gate before the next step, or before the next phase.
type GateView struct {
	phases.GateResult
	Before     phases.Route       `json:"before"`
	Evaluation *phases.Evaluation `json:"evaluation,omitempty"`
}

// ReadGates reads the gates before the next step, and that step, with the state's time. A migration that is complete has
// none, and no next step: the zero route.
func ReadGates(ctx context.Context, store *state.Store, name string) (views []GateView, next phases.Route, now time.Time, err error) {
	m, err := Applied(ctx, store, name)
	if err != nil {
		return nil, next, now, err
	}
	e, err := store.Snapshot(ctx, name)
	if err != nil || e.Status.Route.Phase == phases.Complete {
		return []GateView{}, next, e.Now, err
	}
	if next, err = m.Phases.Next(e.Status.Route); err != nil {
		return nil, next, now, err
	}
	return GatesAhead(m.Settings(), e, next), next, e.Now, nil
}

// GatesAhead returns the gates before the next step, and on a ramp also those before the
// next phase, each with its newest evaluation.
func GatesAhead(s phases.Settings, e phases.Snapshot, next phases.Route) []GateView {
	views := []GateView{}
	add := func(to phases.Route) {
		for _, g := range phases.Gates(to, s, e) {
			if slices.ContainsFunc(views, func(v GateView) bool { return v.Gate == g.Gate }) {
				continue
			}
			v := GateView{GateResult: g, Before: to}
			for i, one := range e.Evaluations {
				if one.Kind == phases.GateKind && one.Name == g.Gate {
					v.Evaluation = &e.Evaluations[i]
				}
			}
			views = append(views, v)
		}
	}
	add(next)
	if at := e.Status.Route.Phase.Position(); next.Phase == e.Status.Route.Phase && at >= 0 && at+1 < len(phases.Order) {
		end := phases.Route{Phase: e.Status.Route.Phase, Percent: phases.All}
		if to, err := s.Next(end); err == nil {
			add(to)
		}
	}
	return views
}
