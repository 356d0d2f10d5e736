package app

import (
	"context"
	"time"

	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/phases"
)

// Status is a migration's status: the document of the command status and of the daemon's
// /status.
type Status struct {
	Status   phases.Status       `json:"status"`
	Fleet    phases.Fleet        `json:"fleet"`
	Settled  bool                `json:"settled"`
	Rollback phases.Rollback     `json:"rollback"`
	Next     *NextStep           `json:"next,omitempty"`
	Gates    []phases.GateResult `json:"gates,omitempty"` // before the next step
	Snapshot phases.Snapshot     `json:"snapshot"`
}

// NextStep is the next step of an advance, and what it waits for.
type NextStep struct {
	To       phases.Route `json:"to"`
	By       string       `json:"by"`              // who takes it: "schedule" (the daemon) or "person"
	Due      time.Time    `json:"due,omitzero"`    // when the last of the gates that open with time will be open
	WaitsFor []string     `json:"waits_for"`       // the gates that are closed
	Never    []string     `json:"never,omitempty"` // of these, the gates that lack data, and at the traffic so far can't get enough
}

// ReadStatus reads a migration's status from the state.
func ReadStatus(ctx context.Context, store *state.Store, name string) (Status, error) {
	e, err := store.Snapshot(ctx, name)
	if err != nil {
		return Status{}, err
	}
	m, err := Applied(ctx, store, name)
	if err != nil {
		return Status{}, err
	}
	s := Status{
		Status: e.Status, Fleet: e.Fleet, Settled: e.Fleet.Settled(), Snapshot: e,
		Rollback: phases.ClassOf(e.Status),
	}
	if next, err := m.Phases.Next(e.Status.Route); err == nil {
		s.Gates = phases.Gates(next, m.Settings(), e)
		s.Next = stepAhead(next, m.Settings(), e, s.Gates)
	}
	return s, nil
}

func stepAhead(next phases.Route, s phases.Settings, e phases.Snapshot, gates []phases.GateResult) *NextStep {
	n := &NextStep{To: next, By: "person", WaitsFor: []string{}}
	if s.ByItself(e.Status.Route, next) {
		n.By = "schedule"
	}
	for _, g := range phases.Closed(gates) {
		n.WaitsFor = append(n.WaitsFor, g.Gate)
		if g.Never {
			n.Never = append(n.Never, g.Gate)
		}
		if g.Due.After(n.Due) {
			n.Due = g.Due
		}
	}
	return n
}
