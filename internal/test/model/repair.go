package model

// present returns the era of legacy's answers: while fenced, the one before.
func (g *gen) present(s *State) uint8 {
	if s.fence != 0 && g.r.RepairEra {
		return s.era - 1
	}
	return s.era
}

func (s *State) nowVersion(era uint8) version { return version{era, lsnBase + 2*s.top + 1} }

func (g *gen) repairs(s *State) {
	r := &s.repair
	step := func(what string, change func(n *State, r *repairer)) {
		n := *s
		change(&n, &n.repair)
		g.add("the repair "+what, 0, n)
	}
	switch r.stage {
	case 0:
		if s.used < g.c.Repairs {
			n := *s
			if g.detach(&n, &n.repair.msg) {
				n.used++
				n.repair = repairer{stage: 1, journalVersion: s.journalVersion, changes: s.changes}
				g.add("a repair begins", 0, n)
			}
		}
	case 1:
		if g.r.TargetFirst {
			step("reads the target", func(n *State, r *repairer) { g.seeTarget(n, r); r.stage = 2 })
		} else if g.c.deleted(s.seq) {
			step("finds no row in legacy", func(_ *State, r *repairer) { r.stage = 5 })
		} else if s.open == 0 {
			step("reads the target", func(n *State, r *repairer) { g.seeTarget(n, r); r.stage = 2 })
		}
	case 5: // legacy was read first, without a row
		step("reads the target, after legacy", func(n *State, r *repairer) {
			g.seeTarget(n, r)
			g.tombstone(n, r)
		})
	case 2:
		switch {
		case g.c.deleted(s.seq): // a row that is being inserted is neither seen nor awaited
			step("finds no row in legacy", func(n *State, r *repairer) { g.tombstone(n, r) })
		case !g.r.RowLock:
			step("reads the row without its lock", func(n *State, r *repairer) { r.stage, r.seq = 6, s.seq })
		case s.open == 0:
			step("reads the row under its lock", func(n *State, r *repairer) { r.seq = s.seq; g.take(n, r) })
		}
	case 6:
		step("reads legacy's version", func(n *State, r *repairer) { g.take(n, r) })
	case 4:
		g.repairSent(s)
	}
}

func (g *gen) seeTarget(n *State, r *repairer) {
	r.era, r.seenAt, r.seen = g.present(n), n.at, n.has
}

// take is the rule for a row that legacy has.
func (g *gen) take(n *State, r *repairer) {
	v := n.nowVersion(g.present(n))
	if g.r.RepairEra && r.seenAt.era > v.era {
		g.repaired(n, r)
		return
	}
	r.stage = 4
	r.msg = message{inFlight: true, seq: r.seq, at: v, always: !g.r.Versioned}
	if !v.newer(r.seenAt) {
		r.msg.cond, r.msg.only = true, r.seenAt
	}
}

// tombstone is the rule for a row that legacy lacks.
func (g *gen) tombstone(n *State, r *repairer) {
	v := r.seenAt.max(r.journalVersion)
	if g.r.RepairEra && v.era > r.era || r.seen != live && v == r.seenAt || !g.r.Tombstone && r.seen != live {
		g.repaired(n, r)
		return
	}
	r.stage = 4
	r.seq = n.seq
	r.msg = message{inFlight: true, gone: true, seq: n.seq, at: v, cond: true, only: r.seenAt}
}

// repaired clears the journal's key if it has not changed since, and ends the repair.
func (g *gen) repaired(n *State, r *repairer) {
	if n.journaled && n.journalVersion == r.journalVersion && n.changes == r.changes {
		n.journaled, n.journalVersion, n.changes = false, version{}, 0
	}
	if r.sweep {
		n.finish()
	}
	*r = repairer{msg: r.msg}
	_ = g.detach(n, &r.msg) // otherwise it stays with the repairer until the next repair begins
}

func (g *gen) repairSent(s *State) {
	n := *s
	r := &n.repair
	switch g.land(&n, r.msg) {
	case applied:
		if !g.r.Tombstone && r.msg.gone {
			n.at, n.has = version{}, absent
		}
		g.repaired(&n, r)
		g.add("the repair lands in the target", 0, n)
	case old:
		g.repaired(&n, r)
		g.add("the repair finds a later write in the target", 0, n)
	default:
		if r.stage = 1; g.detach(&n, &r.msg) {
			r.msg = message{}
			r.seen, r.seenAt, r.era, r.seq = 0, version{}, 0, 0
			g.add("the repair is refused and retries", 0, n)
		}
	}
	if s.repair.msg.inFlight {
		n := *s
		r := &n.repair
		if g.detach(&n, &r.msg) && !r.sweep {
			*r = repairer{}
			g.add("the repair times out", 0, n)
		}
	}
	if g.c.Late && !s.repair.msg.late {
		n := *s
		n.repair.msg.late = true
		g.add("the repair's message is past its not-after", 0, n)
	}
}
