package phases

import (
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
)

// StateLoss is what the state database has forgotten, as an instance remembers it: it
// was restored from an older backup, or failed over to a standby that lacked its
// last transactions.
type StateLoss struct {
	Instance   string    `json:"instance"`    // the first that said so
	Route      Route     `json:"route"`       // the highest that any has been on
	Since      time.Time `json:"since"`       // when the loss was first noticed
	LeasesOver time.Time `json:"leases_over"` // when the last lease from before the loss has run out by its holder's own clock
}

// Describe says it to a person.
func (l *StateLoss) Describe(present Route) string {
	return fmt.Sprintf("this database has lost transactions: instance %s has been at epoch %d (%s), the database is at %d (%s) (restored from an older backup?)",
		l.Instance, l.Route.Epoch, l.Route, present.Epoch, present)
}

// StateLossHint is what helps once the state database has lost transactions.
func StateLossHint() hint.Hint {
	return hint.Hint{Do: hint.Reclaim, Text: "or restore a newer backup of the state database"}
}

func gateStateWhole(e Snapshot) GateResult {
	g := GateResult{Gate: "state-whole", Interlock: true, Verdict: Pass, Detail: "no instance remembers what the state database does not"}
	// [loss-blocks]: an interlock: what was lost may be the reason not to step forward.
	if l := e.Status.StateLoss; l != nil {
		g.Verdict, g.Detail, g.Hint = Fail, l.Describe(e.Status.Route), StateLossHint()
	}
	return g
}

// Reclaimed is the route from which a migration can go on whose state has lost
// transactions. fenced: legacy refuses writes now, whatever the state says.
//
// Up to grace legacy has every acknowledged write, so no later phase than
// dual-read need be believed, and none earlier than the state's: what was since
// is in legacy too. Behind a fence the target may have writes that legacy lacks
// and that the state has forgotten, so writes wait while the target is looked
// through for them (Returning). Where a fence is gone that the state still knows,
// it was lifted after all had been replayed (Lifting) - but in retain writes may
// have gone to the target alone since.
func Reclaimed(present Route, fenced bool) (Route, error) {
	switch {
	case present.Phase == Complete:
		return present, fmt.Errorf("the migration is complete, which is final: there is nothing to reclaim")
	// [reclaim-scan]: whatever the state records, a fence means that the target may have writes of
	// its own.
	case fenced:
		return Route{Phase: Returning}, nil
	// [reclaim-refuses]: legacy takes writes again, and the target may have writes that were never
	// replayed: nothing that is left tells them apart.
	case present.Phase == Retain:
		return present, fmt.Errorf("the state says retain, but legacy takes writes again: each store may have writes that the other lacks, and what the state has forgotten would tell them apart; stop the application and restore a newer backup of the state database")
	case present.Phase.Passing():
		return Route{Phase: Lifting}, nil
	// [reclaim-reads]: the verdicts that reads from the target rested on may be among what was
	// lost.
	case present.Phase.Position() >= DualRead.Position():
		return Route{Phase: DualRead, Percent: All}, nil
	default:
		return Route{Phase: present.Phase}, nil
	}
}

// Reclaimable returns nil if the migration may go to the reclaimed route: every
// route that is held must be compatible with it. An instance that remembers more
// than the state can't renew its lease, which it had before the loss; once that
// is over it behaves as dual-read, as any lapsed one does. While legacy is fenced
// nothing is waited for: whoever reads legacy then is wrong already.
func Reclaimable(to Route, e Snapshot) error {
	if to.Phase.Passing() {
		return nil
	}
	lost := e.Status.StateLoss
	for _, h := range e.Fleet.LiveRoutes {
		forgotten := h.Epoch > e.Status.Route.Epoch
		alone := h.ReadsTarget() && !h.Behaviour().Fallback
		// [reclaim-leases]: a holder of such a route can't renew it, and reads legacy once its
		// lease is over. One whose route reads the target alone goes on reading it: that route
		// stays held ([lapsed-held]).
		if forgotten && !alone && lost != nil && !e.Now.Before(lost.LeasesOver) {
			continue
		}
		if !Compatible(h, to) {
			return &RouteConflictError{To: to, Live: h}
		}
	}
	return nil
}
