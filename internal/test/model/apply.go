package model

import "github.com/stranglerfig/migrator/internal/test/model/search"

// gen enumerates the steps out of one state.
type gen struct {
	c      Config
	r      Rules
	out    *search.Steps[State]
	legals map[legalKey]bool
	gates  map[gateKey]bool
}

func newGen(c Config, r Rules) *gen {
	return &gen{c: c, r: r, legals: map[legalKey]bool{}, gates: map[gateKey]bool{}}
}

func (g *gen) add(what string, who int, n State) {
	g.normalise(&n)
	g.out.Add(n, what, who)
}

// next lists the steps out of a state.
func (g *gen) next(s *State, out *search.Steps[State]) {
	g.out = out
	g.operator(s)
	for i := range s.inst {
		g.instance(s, i)
	}
	for w := range int(g.c.Writes) {
		g.write(s, w)
	}
	if g.c.Backfill {
		g.backfill(s)
	}
	g.reconcile(s)
	g.repairs(s)
	g.orphanLands(s)
	if g.c.Fence || g.c.Return {
		for i := range s.ctl {
			if i == 0 || g.c.Second {
				g.controller(s, i)
			}
		}
	}
	if g.c.Horizon && s.has == tombstone && !g.anyInFlight(s) {
		n := *s
		n.at, n.has = version{}, absent
		g.add("the tombstone expires in the target", 0, n)
	}
}

// anyInFlight reports whether a message's not-after is still to come: tombstones outlive
// those.
func (g *gen) anyInFlight(s *State) bool {
	for i := range s.w {
		if w := &s.w[i]; (w.inFlight || w.stage > unused && w.stage < missed) && !w.late {
			return true
		}
	}
	for _, m := range []*message{&s.orphan, &s.repair.msg, &s.back.msg} {
		if m.inFlight && !m.late {
			return true
		}
	}
	return false
}

type outcome uint8

const (
	applied outcome = iota
	old
	overdue
	changed
)

// land is the target's script.
func (g *gen) land(s *State, m message) outcome {
	if m.late && g.r.NotAfter {
		return overdue
	}
	if m.cond {
		if s.at != m.only {
			return changed
		}
	} else if !m.always && !m.at.newer(s.at) {
		return old
	}
	// After a tombstone has expired, the same delete may be applied once more; its version
	// must not decrease otherwise.
	if s.high.newer(m.at) && !(m.gone && s.has == absent) {
		s.slipped = true
	}
	s.at, s.tseq, s.has = m.at, m.seq, live
	if m.gone {
		s.has = tombstone
	}
	s.high = s.high.max(m.at)
	return applied
}

// normalise clears what no later step reads, so that states with the same behaviour are equal.
func (g *gen) normalise(s *State) {
	moot := func(m *message) bool {
		return m.late && g.r.NotAfter ||
			!m.always && !m.cond && !g.c.Horizon && !m.at.newer(s.at) ||
			m.cond && s.at != m.only && !g.c.Horizon && !s.slipped
	}
	for i := range s.w {
		w := &s.w[i]
		if w.stage != done {
			continue
		}
		m := g.messageOf(w)
		if w.inFlight && moot(&m) {
			w.inFlight = false
		}
		if !w.inFlight {
			*w = write{stage: done}
		} else {
			w.landed, w.acked, w.lapsed, w.epoch, w.inst = false, false, false, 0, 0
		}
	}
	if s.orphan.inFlight && moot(&s.orphan) {
		s.orphan = message{}
	}
	if s.has != live {
		s.tseq = 0
	}
}

func (g *gen) messageOf(w *write) message {
	m := message{inFlight: w.inFlight, late: w.late, seq: w.seq, at: w.at, always: !g.r.Versioned, gone: g.c.deleted(w.seq)}
	if w.era != 0 {
		m.cond, m.only, m.always = true, w.only, false
	}
	return m
}

// orphanLands: an orphaned message lands at any time before its not-after.
func (g *gen) orphanLands(s *State) {
	if !s.orphan.inFlight {
		return
	}
	n := *s
	if g.land(&n, s.orphan) == applied {
		g.add("an orphaned message lands", 0, n)
	}
	if g.c.Late && !s.orphan.late {
		n := *s
		n.orphan.late = true
		g.add("the not-after of an orphaned message passes", 0, n)
	}
}

// detach keeps a message that may still land when its job continues without it. It returns
// false if there is an orphan already: there is room for one.
func (g *gen) detach(s *State, m *message) bool {
	if !m.inFlight || m.late && g.r.NotAfter || !g.c.Horizon && !m.always && !m.cond && !m.at.newer(s.at) || m.cond && m.only != s.at {
		*m = message{}
		return true
	}
	if s.orphan.inFlight {
		return false
	}
	s.orphan, *m = *m, message{}
	return true
}
