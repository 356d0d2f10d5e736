package daemon

import (
	"time"

	"github.com/stranglerfig/migrator/phases"
)

// betweenStores reports whether a command is moving authority from one store to the other,
// or was interrupted while it did.
func betweenStores(st phases.Status) bool {
	return st.Route.Phase.Passing() || st.Route.Phase == phases.Grace && st.Attempt != ""
}

// authorityMove is what is known of a move of authority that has not completed.
type authorityMove struct {
	epoch     int64
	attempt   string
	remaining int64     // keys still to be replayed
	since     time.Time // of the last progress, by the state database's clock
}

// observe returns the move as a snapshot shows it, given what was known before. A new epoch
// is progress, and so is a replay with fewer keys remaining.
//
// In two cases the time of the route does not show whether the command still runs: a replay
// has no bound, and the time at which a fence's attempt was recorded in grace is not known.
// Then a move that is observed for the first time counts from now.
func (p authorityMove) observe(e phases.Snapshot) authorityMove {
	st := e.Status
	now := authorityMove{epoch: st.Route.Epoch, attempt: st.Attempt, remaining: st.ReturnRest, since: e.Now}
	switch {
	case p.epoch == now.epoch && p.attempt == now.attempt && p.remaining == now.remaining:
		return p
	case p.epoch != now.epoch && (st.Route.Phase == phases.Fenced || st.Route.Phase == phases.Lifting) && st.RouteSince.Before(e.Now):
		now.since = st.RouteSince
	}
	return now
}

// overdue reports whether the command that began the move must have failed: there was no
// progress for longer than the command may take. A rollback may also wait for the fleet to
// settle.
func (p authorityMove) overdue(e phases.Snapshot, budget, settle time.Duration) bool {
	if e.Status.Route.Phase == phases.Returning && e.Fleet.Behind > 0 {
		budget += settle
	}
	return e.Now.Sub(p.since) > budget
}
