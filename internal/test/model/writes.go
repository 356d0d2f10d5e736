package model

import "github.com/stranglerfig/migrator/phases"

func (g *gen) write(s *State, j int) {
	w := &s.w[j]
	if w.stage == unused {
		return
	}
	step := func(what string, change func(n *State, w *write)) {
		n := *s
		change(&n, &n.w[j])
		g.add("write %d "+what, j, n)
	}
	if g.c.Late && !w.late && (w.inFlight || w.stage < missed) {
		step("is past its not-after", func(_ *State, w *write) { w.late = true })
	}
	if w.inFlight {
		g.arrives(s, j)
	}
	switch w.stage {
	case begun:
		if w.era != 0 {
			g.retained(s, j)
			return
		}
		if s.fence != 0 {
			step("is refused by the fence", func(_ *State, w *write) { w.stage = done })
		} else if s.open == 0 {
			step("takes the row's lock", func(n *State, w *write) { w.stage, n.open = opened, uint8(j)+1 })
		}
	case opened:
		step("commits in legacy", func(n *State, w *write) { g.commit(n, w) })
	case listed:
		step("reads the target and sends its change", func(n *State, w *write) {
			v, ok := s.at.next(w.era)
			if !ok {
				w.stage = done // the key belongs to a later era
				return
			}
			w.stage, w.inFlight, w.only, w.at = sent, true, s.at, v
		})
	case sent:
		if w.landed {
			step("is acknowledged: both stores have it", func(n *State, w *write) { n.acknowledge(w); w.stage = done })
		}
		if !g.r.NotAfterFixed && w.late {
			step("is sent again with a new time", func(_ *State, w *write) { w.late = false })
		}
		if w.era != 0 {
			step("gives up: the outcome is not known", func(_ *State, w *write) { w.stage = done })
		} else if g.c.Fail || w.late || !w.inFlight {
			step("times out at the target", func(_ *State, w *write) { w.stage = missed })
		}
	case missed:
		g.miss(s, j)
	case ruled:
		step("is journalled after the decision", func(n *State, w *write) { g.list(n, w); g.resolveMiss(n, w, w.harmless) })
	case rollingBack:
		g.rollBackReads(s, j)
	}
}

func (s *State) acknowledge(w *write) { s.acked = max(s.acked, w.seq); w.acked = true }

func (g *gen) commit(n *State, w *write) {
	n.top++
	n.open, n.seq, w.seq = 0, n.top, n.top
	w.at = version{n.era, lsnBase + 2*n.top}
	switch k := n.routes[w.epoch]; k.way().Writes {
	case phases.WritesLegacy:
		n.acknowledge(w)
		w.stage = done
	case phases.WritesBackground:
		if !w.lapsed {
			n.acknowledge(w)
		}
		w.stage, w.inFlight = sent, true
	default:
		w.stage, w.inFlight = sent, true
	}
}

// arrives: the message reaches the target, early or late, once or again.
func (g *gen) arrives(s *State, j int) {
	n := *s
	w := &n.w[j]
	m := g.messageOf(w)
	if w.era != 0 {
		m.seq, m.gone = s.top+1, g.c.deleted(s.top+1)
	}
	switch g.land(&n, m) {
	case applied:
		if w.era != 0 {
			n.top++
			w.seq = n.top
			w.inFlight = false // the target's version has changed: the same message can't pass twice
		}
		w.landed = true
		g.add("write %d lands in the target", j, n)
	case old:
		if w.stage == sent && !w.landed {
			w.landed = true
			g.add("write %d lands in the target, which has a later one", j, n)
		}
	}
}

// retained begins a write of retain: its key is added to the return journal.
func (g *gen) retained(s *State, j int) {
	n := *s
	w := &n.w[j]
	if s.route() == Retain && s.epoch == w.epoch {
		w.stage, n.returns = listed, true
		g.add("write %d is added to the return journal", j, n)
		return
	}
	w.stage = done
	g.add("write %d finds the route moved", j, n)
}

func (g *gen) list(n *State, w *write) {
	n.journaled = true
	n.journalVersion = n.journalVersion.max(w.at)
	n.changes = min(n.changes+1, 7)
	if !g.r.JournalVersion {
		n.journalVersion = version{}
	}
}

// miss is the journal's transaction: it sees the present route, and the next transition sees
// it.
func (g *gen) miss(s *State, j int) {
	n := *s
	w := &n.w[j]
	if s.route().closed() {
		w.stage = done // an error, unless the write was harmless
		g.add("write %d fails: authority has moved", j, n)
		return
	}
	harmless := !g.targetRead(s)
	if !g.r.JournalSerial {
		w.stage, w.harmless = ruled, harmless
		g.add("write %d asks who reads the target", j, n)
		return
	}
	g.list(&n, w)
	g.resolveMiss(&n, w, harmless)
	g.add("write %d is journalled", j, n)
}

func (g *gen) resolveMiss(n *State, w *write, harmless bool) {
	switch {
	case w.acked, w.lapsed:
		w.stage = done
	case harmless:
		n.acknowledge(w)
		w.stage = done
	default:
		w.stage = rollingBack
	}
}

// rollBackReads: the write itself rolls reads back, and is acknowledged when no instance reads
// the target any more.
func (g *gen) rollBackReads(s *State, j int) {
	n := *s
	w := &n.w[j]
	switch {
	case !g.targetRead(s):
		n.acknowledge(w)
		w.stage = done
		g.add("write %d is acknowledged: no instance reads the target", j, n)
	case !routeOf[s.route()].ReadsTarget():
	case s.route().closed() || s.attempt != 0:
		w.stage = done
		g.add("write %d fails: a fence attempt is open", j, n)
	case g.admit(s, DualRead):
		n.push(DualRead)
		g.add("write %d rolls back to dual-read", j, n)
	}
}
