package model

import "github.com/stranglerfig/migrator/phases"

// reached returns the epoch that the instance may acknowledge: the oldest one that an
// operation in flight is pinned to.
func (g *gen) reached(s *State, i int) uint8 {
	n := &s.inst[i]
	e := n.pinned
	if n.reading && g.r.DrainReads {
		e = min(e, n.readEpoch)
	}
	for j := range s.w {
		w := &s.w[j]
		if int(w.inst) != i || w.stage == unused || w.stage >= rollingBack {
			continue
		}
		if w.acked && g.r.DrainQueue || !w.acked && g.r.DrainWrites {
			e = min(e, w.epoch)
		}
	}
	return e
}

func (g *gen) instance(s *State, i int) {
	me := &s.inst[i]
	if me.lease == leaseEnded {
		return
	}
	if g.c.Lapse || me.dead {
		g.lease(s, i)
	}
	if me.dead {
		return
	}
	if me.lease == leaseLive {
		for e := me.pinned + 1; e <= s.epoch; e++ { // the response that carried the epoch may be old
			n := *s
			n.inst[i].pinned = e
			g.add("instance %d swaps to "+s.routes[e].String(), i, n)
		}
		if e := g.reached(s, i); e > me.acked {
			n := *s
			n.inst[i].acked = e
			g.add("instance %d acknowledges "+s.routes[e].String(), i, n)
		}
	}
	if g.c.Crash && i == 0 {
		n := *s
		n.inst[i].dead, n.inst[i].reading = true, false
		n.inst[i].readEpoch, n.inst[i].readFloor, n.inst[i].readLapsed = 0, 0, false
		for j := range n.w {
			w := &n.w[j]
			if int(w.inst) == i && w.stage != unused && w.stage != done {
				if w.stage == opened {
					n.open = 0
				}
				w.stage = done
			}
		}
		g.add("instance %d dies", i, n)
	}
	if g.c.LongReads && !me.reading {
		n := *s
		m := &n.inst[i]
		m.reading, m.readEpoch, m.readFloor, m.readLapsed = true, me.pinned, s.acked, me.lease != leaseLive
		g.add("instance %d begins a read on "+s.routes[me.pinned].String(), i, n)
	}
	if me.reading {
		n := *s
		m := &n.inst[i]
		m.reading, m.readEpoch, m.readFloor, m.readLapsed = false, 0, 0, false
		g.add("instance %d ends its read", i, n)
	}
	for j := range int(g.c.Writes) {
		if s.w[j].stage != unused {
			continue
		}
		if k := s.routes[me.pinned]; k.way().Writes != phases.WritesWait {
			n := *s
			n.w[j] = write{stage: begun, inst: uint8(i), epoch: me.pinned, lapsed: me.lease != leaseLive}
			if k == Retain {
				n.w[j].era = s.fenceEra
			}
			g.add("instance %d begins a write on "+k.String(), i, n)
		}
		break
	}
}

func (g *gen) lease(s *State, i int) {
	me := &s.inst[i]
	n := *s
	switch m := &n.inst[i]; me.lease {
	case leaseLive:
		m.lease = leaseOver
		m.readLapsed = m.reading
		for j := range n.w {
			if w := &n.w[j]; int(w.inst) == i && w.stage != unused && w.stage != done {
				w.lapsed = true
			}
		}
		g.add("instance %d: its lease lapses by its own clock", i, n)
	case leaseOver:
		m.lease = leaseLapsed
		g.add("instance %d: its lease lapses by the state's clock", i, n)
	case leaseLapsed:
		if !me.dead {
			break
		}
		m.lease = leaseEnded
		may := false
		for e := me.acked; e <= s.epoch; e++ {
			may = may || s.routes[e] >= ShadowWrite && s.routes[e] <= Grace
		}
		if may && g.r.EvictDirty {
			n.dirty, n.waits = true, 0
			if g.r.DirtyWaits {
				for j := range n.w {
					if n.w[j].inFlight {
						n.waits |= 1 << j
					}
				}
			}
		}
		m.pinned, m.acked = 0, 0
		g.add("instance %d is evicted", i, n)
	}
	if !me.dead && (me.lease == leaseOver || me.lease == leaseLapsed) {
		n := *s
		n.inst[i].lease, n.inst[i].pinned = leaseLive, s.epoch
		g.add("instance %d rejoins on "+s.route().String(), i, n)
	}
}
