package phases

import "fmt"

// forward lists, for each phase, the phases that a move forward may reach.
//
// [no-skip], [fence-epoch]: there are no other steps. From grace, retain is reached through fenced.
var forward = map[Phase][]Phase{
	Legacy:      {ShadowWrite},
	ShadowWrite: {DualRead},
	DualRead:    {DualRead, Cutover},
	Cutover:     {Cutover, Grace},
	Grace:       {Fenced},
	Fenced:      {Retain},
	Retain:      {Complete},
}

// back lists the phases that a rollback may reach in one move.
var back = map[Phase][]Phase{
	ShadowWrite: {Legacy},
	DualRead:    {ShadowWrite, DualRead},
	Cutover:     {DualRead, Cutover},
	Grace:       {DualRead, Cutover, Lifting}, // Lifting: a fence may be raised though its epoch was never committed
	Fenced:      {Lifting},
	Lifting:     {Grace},
	Retain:      {Returning},
	Returning:   {Grace, Retain}, // Retain: the return is given up
}

// Forward reports whether a move from a to b is an advance. A move to a higher
// percentage of the same phase is one too.
func Forward(a, b Route) bool {
	if a.Phase == b.Phase {
		return b.Percent > a.Percent
	}
	for _, p := range forward[a.Phase] {
		if p == b.Phase {
			return true
		}
	}
	return false
}

// Legal returns nil if the migration may go from its present route to the given one
// while instances may still be on the live routes: those of all epochs from the lowest
// that a live lease has acknowledged up to the present one. The error is for an operator.
func Legal(from, to Route, live []Route) error {
	if !reachable(from, to) {
		return fmt.Errorf("no move leads from %s to %s", from, to)
	}
	for _, r := range live {
		// [held-routes]: one live lease is enough: its instance may be on r for as long as the lease lasts.
		if !Compatible(r, to) {
			return &RouteConflictError{To: to, Live: r}
		}
	}
	return nil
}

func reachable(from, to Route) bool {
	if to.Phase.Ramped() != (to.Percent > 0) || to.Percent > All {
		return false
	}
	if from.Phase == to.Phase {
		return to.Phase.Ramped() && to.Percent != from.Percent
	}
	for _, list := range [][]Phase{forward[from.Phase], back[from.Phase]} {
		for _, p := range list {
			if p == to.Phase {
				return true
			}
		}
	}
	return false
}

// RouteConflictError refuses a move: an instance may still be on a route that must not
// run beside the new one.
type RouteConflictError struct{ To, Live Route }

func (e *RouteConflictError) Error() string {
	return fmt.Sprintf("an instance may still be on %s (epoch %d), which must not run beside %s", e.Live, e.Live.Epoch, e.To)
}

// RollbackPath lists the moves that lead from a route back to the phase, in order.
// Each must be settled before the next. It returns an error where no rollback leads to
// the phase: forward, from complete, or through a fence, which only the fence's own
// protocol passes.
func RollbackPath(from Route, to Phase) ([]Route, error) {
	if from.Phase == Complete {
		return nil, fmt.Errorf("no rollback leads back from complete")
	}
	if from.Phase.Position() < 0 || to.Position() < 0 {
		return nil, fmt.Errorf("no rollback leads from %q to %q: want one of %v", from.Phase, to, Order)
	}
	if to.Passing() || to.Position() >= from.Phase.Position() && !from.Phase.Passing() || to.Position() > Grace.Position() {
		return nil, fmt.Errorf("%s is not behind %s", to, from)
	}
	var path []Route
	at := from.Phase
	for at != to {
		next := previous(at)
		if at == Cutover || at == Grace {
			next = DualRead // one move: they write alike
			if to == Cutover {
				next = Cutover
			}
		}
		step := Route{Phase: next}
		if next.Ramped() {
			step.Percent = All
		}
		path = append(path, step)
		at = next
	}
	return path, nil
}

func previous(p Phase) Phase {
	switch p {
	case Retain:
		return Returning
	case Fenced:
		return Lifting
	case Lifting, Returning:
		return Grace
	default:
		return Order[p.Position()-1]
	}
}

// RollbackTarget is the phase that a rollback without a named phase leads to: dual-read, whose reads
// come from legacy, or grace while authority is moving or has moved. Where reads come from legacy
// already it is the phase itself: a rollback that is repeated goes no further.
func RollbackTarget(from Phase) (Phase, error) {
	if from.Position() < 0 {
		return "", fmt.Errorf("unknown phase %q", from)
	}
	switch from {
	case Complete:
		return "", fmt.Errorf("no rollback leads back from complete")
	case Fenced, Lifting, Retain, Returning:
		return Grace, nil
	case Cutover, Grace:
		return DualRead, nil
	default:
		return from, nil
	}
}
