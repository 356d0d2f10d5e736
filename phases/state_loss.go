package phases

import (
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
)

// StateLoss is a loss of transactions of the state database, as an instance's route
// proves it: the database was restored from an older backup, or failed over to a
// standby that lacked its last transactions.
type StateLoss struct {
	Instance   string    `json:"instance"`    // the first that reported it
	Route      Route     `json:"route"`       // the highest that any has been on
	Since      time.Time `json:"since"`       // when the loss was first noticed
	LeasesOver time.Time `json:"leases_over"` // when the last lease from before the loss has expired by its instance's own clock
}

// Describe returns the loss as text for an operator.
func (l *StateLoss) Describe(present Route) string {
	return fmt.Sprintf("this database has lost transactions: instance %s has been at epoch %d (%s), the database is at %d (%s) (restored from an older backup?)",
		l.Instance, l.Route.Epoch, l.Route, present.Epoch, present)
}

// StateLossHint is the hint for a state database that has lost transactions.
func StateLossHint() hint.Hint {
	return hint.Hint{Do: hint.Reclaim, Text: "or restore a newer backup of the state database"}
}

func gateStateWhole(e Snapshot) GateResult {
	g := GateResult{Gate: "state-whole", Interlock: true, Verdict: Pass, Detail: "no instance is on a later epoch than the state database"}
	// [loss-blocks]: an interlock: the lost transactions may contain the reason not to advance.
	if l := e.Status.StateLoss; l != nil {
		g.Verdict, g.Detail, g.Hint = Fail, l.Describe(e.Status.Route), StateLossHint()
	}
	return g
}

// Reclaimed is the route from which a migration can continue whose state has lost
// transactions. fenced: legacy refuses writes now, whatever the state records.
//
// Up to grace legacy has every acknowledged write, so the migration never needs to
// resume later than dual-read. It never needs to resume earlier than the state's phase
// either: writes since then are in legacy too. Behind a fence the target may have
// writes that legacy lacks and that the state no longer records, so writes wait while
// the target is scanned for them (Returning). Where the state records a fence that is
// no longer raised, it was lifted after all keys had been replayed (Lifting). In retain
// that is not enough: writes may have gone to the target alone since.
func Reclaimed(present Route, fenced bool) (Route, error) {
	switch {
	case present.Phase == Complete:
		return present, fmt.Errorf("the migration is complete, which is final: there is nothing to reclaim")
	// [reclaim-scan]: whatever the state records, a fence means that the target may have writes of
	// its own.
	case fenced:
		return Route{Phase: Returning}, nil
	// [reclaim-refuses]: legacy takes writes again, and the target may have writes that were never
	// replayed. Nothing that is left distinguishes them.
	case present.Phase == Retain:
		return present, hint.Errorf(hint.Hint{Text: "stop the application and restore a newer backup of the state database"},
			"the state records retain, but legacy takes writes again: each store may have writes that the other lacks, and the transactions that the state lost would distinguish them")
	case present.Phase.Passing():
		return Route{Phase: Lifting}, nil
	// [reclaim-reads]: the verdicts that permitted reads from the target may be among the lost
	// transactions.
	case present.Phase.Position() >= DualRead.Position():
		return Route{Phase: DualRead, Percent: All}, nil
	default:
		return Route{Phase: present.Phase}, nil
	}
}

// Reclaimable returns nil if the migration may go to the reclaimed route: every live
// route must be compatible with it. An instance on a later epoch than the state's can't
// renew its lease, which it took before the loss; once the lease has expired, the
// instance behaves as in dual-read, as any lapsed one does. While legacy is fenced
// nothing is waited for: an instance that reads legacy then is wrong already.
func Reclaimable(to Route, e Snapshot) error {
	if to.Phase.Passing() {
		return nil
	}
	loss := e.Status.StateLoss
	for _, r := range e.Fleet.LiveRoutes {
		unrecorded := r.Epoch > e.Status.Route.Epoch
		alone := r.ReadsTarget() && !r.Behaviour().Fallback
		// [reclaim-leases]: an instance on such a route can't renew its lease, and reads legacy once
		// the lease has expired. One whose route reads the target alone continues to read it: that
		// route stays live ([lapsed-held]).
		if unrecorded && !alone && loss != nil && !e.Now.Before(loss.LeasesOver) {
			continue
		}
		if !Compatible(r, to) {
			return &RouteConflictError{To: to, Live: r}
		}
	}
	return nil
}
