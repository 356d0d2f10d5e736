package model

import (
	"time"

	"github.com/stranglerfig/migrator/phases"
)

// behind reports whether a live lease has not acknowledged the present epoch.
func (g *gen) behind(s *State) bool {
	for i := range s.inst {
		if n := &s.inst[i]; n.lease <= leaseOver && n.acked < s.epoch {
			return true
		}
	}
	return false
}

func (s *State) lapsed() bool {
	return s.inst[0].lease == leaseLapsed || s.inst[1].lease == leaseLapsed
}

// liveRoutes returns the routes that live leases may still be on, and those that lapsed leases
// may be on where a lapse changes nothing.
func (g *gen) liveRoutes(s *State) uint16 {
	var set uint16
	lowest := s.epoch + 1
	for i := range s.inst {
		if n := &s.inst[i]; n.lease <= leaseOver {
			lowest = min(lowest, n.acked)
			set |= 1 << s.routes[n.acked]
		}
	}
	for i := range s.inst {
		n := &s.inst[i]
		for e := n.acked; g.r.LapsedLive && n.lease == leaseLapsed && e <= s.epoch; e++ {
			if k := s.routes[e]; k.target() && !k.way().Fallback {
				set |= 1 << k
			}
		}
	}
	if !g.r.LiveRange {
		return set
	}
	for e := lowest; e <= s.epoch; e++ {
		set |= 1 << s.routes[e]
	}
	return set
}

func (g *gen) targetRead(s *State) bool {
	set := uint16(1) << s.route()
	if g.r.LiveRuling {
		set |= g.liveRoutes(s)
	}
	for k := range kinds {
		if set&(1<<k) != 0 && routeOf[k].ReadsTarget() {
			return true
		}
	}
	return false
}

func routesIn(set uint16) (routes []phases.Route) {
	for k := range kinds {
		if set&(1<<k) != 0 {
			routes = append(routes, routeOf[k])
		}
	}
	return routes
}

type legalKey struct {
	from, to Kind
	live     uint16
}

// legal is phases.Legal with a cache.
func (g *gen) legal(s *State, to Kind) bool {
	at := legalKey{s.route(), to, g.liveRoutes(s)}
	ok, known := g.legals[at]
	if !known {
		ok = phases.Legal(routeOf[at.from], routeOf[to], routesIn(at.live)) == nil
		g.legals[at] = ok
	}
	return ok
}

type gateKey struct {
	legalKey
	behind, lapsed, journal, dirty, copied bool
}

// open evaluates phases.Gates; an operator may override all but the interlocks.
func (g *gen) open(s *State, to Kind) bool {
	stay := uint8(0) // the last epoch in legacy, plus one
	for e := range s.epoch + 1 {
		if s.routes[e] == Legacy {
			stay = e + 1
		}
	}
	at := gateKey{legalKey{s.route(), to, g.liveRoutes(s)}, g.behind(s), s.lapsed(), s.journaled, s.dirty, s.copied > stay}
	ok, known := g.gates[at]
	if known {
		return ok
	}
	now := time.Unix(1e9, 0)
	e := phases.Snapshot{Now: now, Status: phases.Status{Route: routeOf[at.from], LegacyEpoch: 1}, Fleet: phases.Fleet{Live: 2, LiveRoutes: routesIn(at.live)}}
	e.Status.Route.Epoch = 5
	if at.behind {
		e.Fleet.Behind = 1
	}
	if at.lapsed {
		e.Fleet.Lapsed = []string{"a"}
	}
	if at.journal {
		e.Status.JournalKeys = 1
	}
	if at.dirty {
		e.Status.Dirty = now
	}
	if at.copied {
		e.Backfill = &phases.BackfillStatus{Epoch: 2, Finished: now}
	}
	ok = true
	for _, gate := range phases.Gates(routeOf[to], phases.Settings{}, e) {
		ok = ok && (!gate.Interlock || gate.Open())
	}
	g.gates[at] = ok
	return ok
}

func (s *State) push(to Kind) {
	s.epoch++
	s.routes[s.epoch] = to
}

// admit is what a transition checks whatever the operator overrides.
func (g *gen) admit(s *State, to Kind) bool {
	return s.epoch+1 < min(g.c.Epochs+1, maxEpochs) && g.legal(s, to) &&
		!(phases.Forward(routeOf[s.route()], routeOf[to]) && s.lapsed()) &&
		!(s.route() == Grace && s.attempt != 0 && !routeOf[to].Phase.Passing())
}

func (g *gen) operator(s *State) {
	for _, to := range g.c.Kinds {
		if to.closed() || s.route().closed() {
			continue // controllers go there
		}
		forward := phases.Forward(routeOf[s.route()], routeOf[to])
		if g.admit(s, to) && (!forward || g.open(s, to)) {
			n := *s
			n.push(to)
			g.add("the operator goes to "+to.String(), 0, n)
		}
		if !g.r.NoSkip && to > s.route()+1 && s.epoch < g.c.Epochs {
			n := *s
			n.push(to)
			g.add("the operator skips to "+to.String(), 0, n)
		}
	}
}
