package daemon

import (
	"time"

	"github.com/stranglerfig/migrator/phases"
)

// betweenStores tells that a command is moving authority from one store to the other, or was.
func betweenStores(st phases.Status) bool {
	return st.Route.Phase.Passing() || st.Route.Phase == phases.Grace && st.Attempt != ""
}

// passing is what is known of a move of authority that has not come to its end.
type authorityMove struct {
	epoch     int64
	attempt   string
	remaining int64     // keys still to be replayed
	since     time.Time // of the last sign of life, by the state database's clock
}

// seen returns the passing as the evidence has it, given what was known before.
// A new epoch is a sign of life, and so is a replay that goes on. Where the
// beginning does not tell whether somebody is still at it (a replay takes as long
// as it takes; when a fence's attempt was noted in grace is not known), a passing
// seen for the first time counts from now.
func (p authorityMove) observe(e phases.Snapshot) authorityMove {
	st := e.Status
	now := authorityMove{epoch: st.Route.Epoch, attempt: st.Attempt, remaining: st.ReturnKeys, since: e.Now}
	switch {
	case p.epoch == now.epoch && p.attempt == now.attempt && p.remaining == now.remaining:
		return p
	case p.epoch != now.epoch && (st.Route.Phase == phases.Fenced || st.Route.Phase == phases.Lifting) && st.RouteSince.Before(e.Now):
		now.since = st.RouteSince
	}
	return now
}

// overdue tells that whoever began it must have failed: nothing has moved for longer
// than its command may take. A rollback may also wait for the fleet to settle.
func (p authorityMove) overdue(e phases.Snapshot, budget, settle time.Duration) bool {
	if e.Status.Route.Phase == phases.Returning && e.Fleet.Behind > 0 {
		budget += settle
	}
	return e.Now.Sub(p.since) > budget
}
