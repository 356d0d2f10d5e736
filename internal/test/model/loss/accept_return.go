package loss

import "github.com/stranglerfig/migrator/internal/test/model/search"

func (a *accept) comingEra(s *acceptState) uint8 { return max(s.legacyEra, s.routeEra) + 1 }

func (a *accept) controller(s *acceptState, out *search.Steps[acceptState]) {
	step := func(format string, change func(n *acceptState), args ...int) {
		n := *s
		change(&n)
		out.Add(n, format, args...)
	}
	forget := func(n *acceptState) { n.read, n.rHas, n.rSeq = version{}, nothing, 0 }
	settle := func(n *acceptState, as settledAs) {
		n.settled, n.settles, n.pc = as, n.change, 1
		if as >= accepted && !a.r.has(acceptSettled) {
			n.settled, n.wrong = open, 3
		}
		forget(n)
	}
	isSettled := !s.listed || s.settled != open && s.settles == s.change
	if s.phase == inReturning && !s.past && !s.gaveUp {
		step("the return is given up: retain", func(n *acceptState) {
			n.gaveUp, n.phase, n.pc, n.allowed = true, inRetain, 0, false
			if a.r.has(acceptGiveUpEra) {
				n.legacyEra = a.comingEra(n)
				n.routeEra = n.legacyEra
			}
			if n.settled == aside {
				n.asideOf = 0
			}
			if n.settled >= accepted && a.r.has(acceptVoid) {
				n.settled, n.settles = open, 0
			}
			n.known = n.known && !a.r.has(acceptVoid)
			forget(n)
		})
	}
	switch s.pc {
	case 0:
		a.begin(s, step)
	case 1:
		if isSettled {
			step("every key is settled", func(n *acceptState) { n.pc = 4; n.past = true })
			return
		}
		step("the return reads the target", func(n *acceptState) { n.pc, n.read, n.rHas, n.rSeq = 2, s.at, s.has, s.state })
	case 2:
		switch {
		case s.rHas == nothing && s.legacy != 0 && !a.r.has(acceptStays):
			step("the return deletes legacy's row", func(n *acceptState) { n.legacy, n.wrong = 0, 1 })
		case s.rHas == nothing && s.legacy != 0 && s.allowed:
			step("the return leaves the lost record, as accepted", func(n *acceptState) {
				if !n.known {
					n.wrong = 2
				}
				n.unclean = a.r.has(acceptUnclean)
				settle(n, accepted)
			})
		case s.rHas == nothing && s.legacy != 0: // more is lost than was accepted: it can only be given up
		case s.rHas == nothing && s.lost && s.allowed && a.r.has(acceptUnknown):
			step("the return leaves the unknown record, as accepted", func(n *acceptState) {
				if !n.known {
					n.wrong = 2
				}
				n.unclean = a.r.has(acceptUnclean)
				if a.r.has(acceptLast) {
					settle(n, accepted)
				} else {
					n.pc = 3
				}
			})
		case s.rHas == nothing && s.lost && a.r.has(acceptUnknown): // it can only be given up
		case s.rHas == nothing && !a.r.has(acceptBothLack):
			step("the return finds the key in no store", func(n *acceptState) { settle(n, copied) })
		case s.rHas == nothing:
			step("the return finds the key in no store", func(n *acceptState) { n.pc = 3 })
		case s.refuses && s.rHas == live && s.rSeq != s.legacy:
			step("legacy refuses state %d: it is set aside", func(n *acceptState) {
				n.asideOf = s.rSeq
				if a.r.has(acceptLast) || !a.r.has(acceptAsideTarget) {
					settle(n, aside)
				} else {
					n.pc = 5
				}
			}, int(s.rSeq))
		default:
			step("the return copies state %d to legacy", func(n *acceptState) { n.legacy, n.pc = s.rSeq, 3 }, int(s.rSeq))
		}
	case 3: // the target again, at the coming era
		if s.at != s.read || s.has != s.rHas {
			step("the return finds the target changed", func(n *acceptState) { n.pc = 1; forget(n) })
			return
		}
		step("the return writes the target at era %d", func(n *acceptState) {
			n.at = version{a.comingEra(n), 1}
			if n.has == nothing {
				n.has = tombstone
			}
			settle(n, copied)
		}, int(a.comingEra(s)))
	case 5: // without acceptLast
		step("the return writes legacy's state over what was set aside", func(n *acceptState) { a.overwrite(n); settle(n, aside) })
	case 4:
		a.lift(s, isSettled, step)
	}
}

// overwrite makes the target's entry legacy's state, at the coming era.
func (a *accept) overwrite(n *acceptState) {
	n.at, n.state, n.has = version{a.comingEra(n), 1}, n.legacy, live
	if n.legacy == 0 {
		n.has = tombstone
	}
}

// begin is what happens before returning is committed: lost records are counted.
func (a *accept) begin(s *acceptState, step func(string, func(*acceptState), ...int)) {
	if s.phase == inReturning {
		step("the return is resumed", func(n *acceptState) { n.pc = 1 })
		return
	}
	if s.phase != inRetain {
		return
	}
	commit := func(known bool) func(n *acceptState) {
		return func(n *acceptState) {
			n.phase, n.pc = inReturning, 1
			for i := range n.w {
				if w := &n.w[i]; w.pc == 3 {
					w.drained = true
				} else {
					*w = acceptWriter{}
				}
			}
			n.allowed = known || !a.r.has(acceptNumber)
			n.known = n.known || known
		}
	}
	lost := s.listed && !(s.settled != open && s.settles == s.change) && s.has == nothing &&
		(s.legacy != 0 || s.lost && a.r.has(acceptUnknown))
	if lost {
		step("a person accepts one lost record; returning is committed, writes have drained", commit(true))
	} else {
		step("no record is lost; returning is committed, writes have drained", commit(false))
	}
}

func (a *accept) lift(s *acceptState, isSettled bool, step func(string, func(*acceptState), ...int)) {
	last := !s.written && a.r.has(acceptLast)
	switch {
	case last && s.settled == accepted && s.has == nothing && s.legacy == 0:
		step("the return leaves a tombstone for the unknown record", func(n *acceptState) { a.overwrite(n); n.written = true })
		return
	case last && s.settled == aside && a.r.has(acceptAsideTarget):
		step("the return writes legacy's state over what was set aside", func(n *acceptState) { a.overwrite(n); n.written = true })
		return
	}
	if !isSettled {
		return
	}
	step("the return lifts the fence at era %d, empties the journal, commits grace", func(n *acceptState) {
		n.legacyEra, n.phase, n.pc = a.comingEra(n), inGrace, 9
		n.listed, n.change, n.settled, n.settles = false, 0, open, 0
		n.unclean = n.unclean || n.lost && a.r.has(acceptUnclean) // the beat has found it, see beat.go
	}, int(a.comingEra(s)))
}

func (a accept) explore(r Rules) search.Result {
	a.r = r
	return machine(acceptState{routeEra: 2, legacyEra: 2}, a.next, a.check)
}
