package model

import "fmt"

// Violation is a broken promise, by its number in docs/protocol.md.
type Violation struct {
	Promise int
	What    string
}

func (v *Violation) Error() string { return fmt.Sprintf("promise %d: %s", v.Promise, v.What) }

// check checks the promises in a state. In every state every instance makes a read that takes
// no time; longer reads are checked as if they were answered now.
func (g *gen) check(s *State) *Violation {
	if s.slipped {
		return &Violation{3, "the target's version decreased"}
	}
	if v := g.routed(s); v != nil {
		return v
	}
	for i := range s.inst {
		n := &s.inst[i]
		if n.dead {
			continue
		}
		if v := g.read(s, i, s.routes[n.pinned], n.lease != leaseLive, s.acked, "a read"); v != nil {
			return v
		}
		if !n.reading {
			continue
		}
		if v := g.read(s, i, s.routes[n.readEpoch], n.readLapsed || n.lease != leaseLive, n.readFloor, "a read that began later"); v != nil {
			return v
		}
		if v := g.read(s, i, s.routes[n.readEpoch], n.readLapsed || n.lease != leaseLive, s.acked, "a read that began before, but was answered after the acknowledgement,"); v != nil {
			return v
		}
	}
	return nil
}

// routed is promise 1: when nothing is in flight, the store that reads are routed to has what
// was acknowledged.
func (g *gen) routed(s *State) *Violation {
	if g.behind(s) {
		return nil
	}
	for i := range s.w {
		if st := s.w[i].stage; st != unused && st != done && st != rollingBack {
			return nil
		}
	}
	k := s.route()
	if !k.target() && g.older(!g.c.deleted(s.seq), s.seq, s.acked, s.top) {
		return &Violation{1, fmt.Sprintf("%s reads legacy, which has lost state %d: it has %d", k, s.acked, s.seq)}
	}
	if k.target() && g.older(s.has == live, s.tseq, s.acked, s.top) {
		return &Violation{1, fmt.Sprintf("%s reads the target, which has lost state %d: it has %s", k, s.acked, s.shows())}
	}
	return nil
}

func (g *gen) read(s *State, i int, k Kind, lapsed bool, floor uint8, who string) *Violation {
	promise := 2
	if k < DualRead || k > Grace {
		promise = 1
	}
	fallback := k.way().Fallback
	fromTarget := k.target() && !(fallback && lapsed && g.r.LapsedReads)
	fromLegacy := !k.target() || fallback // after an error, or lapsed
	if fromTarget && g.older(s.has == live, s.tseq, floor, s.top) {
		return &Violation{promise, fmt.Sprintf("%s by instance %d on %s gets %s from the target; state %d was acknowledged", who, i, k, s.shows(), floor)}
	}
	if fromLegacy && g.older(!g.c.deleted(s.seq), s.seq, floor, s.top) {
		return &Violation{promise, fmt.Sprintf("%s by instance %d on %s gets state %d from legacy; state %d was acknowledged", who, i, k, s.seq, floor)}
	}
	return nil
}

func (s *State) shows() string {
	if s.has != live {
		return "nothing"
	}
	return fmt.Sprintf("state %d", s.tseq)
}

// older reports whether the answer is none of the states from floor on. Absence is correct if
// any of them is one.
func (g *gen) older(found bool, seq, floor, top uint8) bool {
	if found {
		return seq < floor
	}
	for q := floor; q <= top; q++ {
		if g.c.deleted(q) {
			return false
		}
	}
	return true
}
