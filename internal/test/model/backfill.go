package model

// onLegacy reports whether an instance may still write legacy alone.
func (g *gen) onLegacy(s *State) bool {
	for i := range s.inst {
		n := &s.inst[i]
		if n.lease == leaseEnded {
			continue
		}
		for e := n.acked; e <= s.epoch; e++ {
			if s.routes[e] == Legacy {
				return true
			}
		}
	}
	return false
}

func (g *gen) backfill(s *State) {
	b := &s.back
	step := func(what string, change func(n *State, b *backfill)) {
		n := *s
		change(&n, &n.back)
		g.add("the backfill "+what, 0, n)
	}
	again := s.copied != 0
	barrier := g.r.BackfillBarrier && !again || g.r.BackfillReentry && again
	stay := uint8(0)
	for e := range s.epoch + 1 {
		if s.routes[e] == Legacy {
			stay = e + 1
		}
	}
	if b.stage == 0 || b.stage == 6 || b.begun+1 <= stay {
		if (s.route() == ShadowWrite || s.route() == DualRead) && (!barrier || !g.onLegacy(s)) && s.copied <= stay && !s.repair.sweep {
			n := *s
			if g.detach(&n, &n.back.msg) {
				n.back = backfill{stage: 1, begun: s.epoch}
				if !barrier {
					if n.back.stage, n.back.line = 3, s.nowVersion(s.era); again {
						n.back.line = version{1, lsnBase} // the first run's
					}
				}
				g.add("a backfill begins", 0, n)
			}
		}
		return
	}
	switch b.stage {
	case 1:
		if s.open == 0 {
			step("takes its barrier", func(n *State, b *backfill) {
				b.stage, b.line, b.waitsOrphan = 2, s.nowVersion(s.era), s.orphan.inFlight
				for j := range s.w {
					if s.w[j].inFlight || s.w[j].stage != unused && s.w[j].stage < missed {
						b.waits |= 1 << j
					}
				}
			})
		}
	case 2:
		for j := range s.w {
			if w := &s.w[j]; b.waits>>j&1 != 0 && (w.inFlight || w.stage < missed) && !w.late {
				return
			}
		}
		if !b.waitsOrphan || !s.orphan.inFlight || s.orphan.late {
			step("has waited for all writes before it", func(_ *State, b *backfill) { b.stage, b.waits, b.waitsOrphan = 3, 0, false })
		}
	case 3:
		if g.c.deleted(s.seq) {
			step("finds no row", func(_ *State, b *backfill) { b.stage = 5 })
		} else {
			step("reads the row", func(_ *State, b *backfill) {
				b.stage = 4
				b.msg = message{inFlight: true, seq: s.seq, at: b.line, always: !g.r.BackfillNewer || !g.r.Versioned}
			})
		}
	case 4:
		n := *s
		if out := g.land(&n, b.msg); out == overdue {
			n.back.stage, n.back.msg = 3, message{}
			g.add("the backfill is too late and reads again", 0, n)
		} else {
			n.back.stage = 5
			_ = g.detach(&n, &n.back.msg)
			n.back.msg = message{}
			g.add("the backfill's row lands in the target, if it is newer", 0, n)
		}
		if n := *s; g.detach(&n, &n.back.msg) {
			n.back.stage = 3
			g.add("the backfill is killed, and resumed", 0, n)
		}
		if g.c.Late && !b.msg.late {
			step("'s message is past its not-after", func(_ *State, b *backfill) { b.msg.late = true })
		}
	case 5:
		if s.has == live && b.line.newer(s.at) {
			if s.repair.stage == 0 {
				step("sweeps what is older", func(n *State, _ *backfill) {
					if g.detach(n, &n.repair.msg) {
						n.repair = repairer{stage: 1, sweep: true}
					}
				})
			}
		} else if !s.repair.sweep {
			step("finds nothing to sweep", func(n *State, _ *backfill) { n.finish() })
		}
	}
}

func (s *State) finish() { s.copied, s.back.stage = s.back.begun+1, 6 }

// reconcile: a full, two-way run that finds both stores equal clears dirty.
func (g *gen) reconcile(s *State) {
	gone := g.c.deleted(s.seq)
	if !s.dirty || gone != (s.has != live) || !gone && s.seq != s.tseq {
		return
	}
	for j := range s.w {
		if s.waits>>j&1 != 0 && s.w[j].inFlight && !s.w[j].late {
			return
		}
	}
	n := *s
	n.dirty, n.waits = false, 0
	g.add("a full reconcile is clean", 0, n)
}
