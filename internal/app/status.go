package app

import (
	"context"
	"time"

	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
)

// Status is a migration's status: the document of the command status and of the daemon's
// /status.
type Status struct {
	Status    phases.Status       `json:"status"`
	Fleet     phases.Fleet        `json:"fleet"`
	Settled   bool                `json:"settled"`
	SettledAt time.Time           `json:"settled_at,omitzero"` // when every instance had acknowledged the epoch; zero: that is not recorded
	Rollback  phases.Rollback     `json:"rollback"`
	Next      *NextStep           `json:"next,omitempty"`
	Gates     []phases.GateResult `json:"gates,omitempty"`   // before the next step
	Jobs      []LongJob           `json:"jobs,omitempty"`    // that are running or interrupted
	Capture   phases.CaptureMode  `json:"capture"`           // who brings legacy's changes to the target; Snapshot.Capture is how far
	Reentry   *ReentryCost        `json:"reentry,omitempty"` // where changes are captured: what it costs to begin again
	Snapshot  phases.Snapshot     `json:"snapshot"`
}

// NextStep is the next step of an advance, and what it waits for.
type NextStep struct {
	To       phases.Route `json:"to"`
	By       string       `json:"by"`              // who takes it: "schedule" (the daemon) or "person"
	Due      time.Time    `json:"due,omitzero"`    // when the last of the gates that open with time will be open
	WaitsFor []string     `json:"waits_for"`       // the gates that are closed
	Since    time.Time    `json:"since,omitzero"`  // since when a gate that is closed now holds the step
	Never    []string     `json:"never,omitempty"` // of these, the gates that lack data, and at the traffic so far can't get enough
}

// ReadStatus reads a migration's status from the state.
func ReadStatus(ctx context.Context, store *state.Store, name string) (Status, error) {
	s, _, err := ReadStatusApplied(ctx, store, name)
	return s, err
}

// ReadStatusApplied is ReadStatus, with the migration file that it was judged by.
func ReadStatusApplied(ctx context.Context, store *state.Store, name string) (Status, *migration.Config, error) {
	e, err := store.Snapshot(ctx, name)
	if err != nil {
		return Status{}, nil, err
	}
	m, err := Applied(ctx, store, name)
	if err != nil {
		return Status{}, nil, err
	}
	s := Status{
		Status: e.Status, Fleet: e.Fleet, Settled: e.Fleet.Settled(), Snapshot: e,
		Rollback: phases.ClassOf(e.Status), Capture: m.Capture.Mode,
	}
	if next, err := m.Phases.Next(e.Status.Route); err == nil {
		s.Gates = phases.Gates(next, m.Settings(), e)
		s.Next = stepAhead(next, m.Settings(), e, s.Gates)
		if s.Next.Since, err = heldSince(ctx, store, e, s.Next.WaitsFor); err != nil {
			return Status{}, nil, err
		}
	}
	epochs, err := store.Epochs(ctx, name, 1)
	if err != nil {
		return Status{}, nil, err
	}
	if len(epochs) == 1 && epochs[0].Route.Epoch == e.Status.Route.Epoch {
		s.SettledAt = epochs[0].Settled
	}
	if s.Reentry, err = readReentryCost(ctx, store, m, e); err != nil {
		return Status{}, nil, err
	}
	s.Jobs, err = LongJobs(ctx, store, e)
	return s, m, err
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

// heldSince returns since when one of the closed gates holds the step: for a measured gate since the first
// evaluation after its last pass; others have held it since the route began, at the longest.
func heldSince(ctx context.Context, store *state.Store, e phases.Snapshot, closed []string) (since time.Time, err error) {
	for _, gate := range closed {
		from, err := store.ClosedSince(ctx, e.Status.Migration, gate, e.Status.RouteSince)
		if err != nil {
			return since, err
		}
		if since.IsZero() || from.Before(since) {
			since = from
		}
	}
	return since, nil
}
