package loss

import "github.com/stranglerfig/migrator/internal/test/model/search"

// found is what who sees the loss does.
func (b *beat) found(s *beatState) {
	if s.forgot < 2 {
		s.wrong = 1
	}
	s.verdict = gone
}

// broken reports whether a canary shows that its part has lost something.
func broken(c canary, mark, low uint8) bool { return c.mark != mark || c.number < low }

func (b *beat) leader(s *beatState, i int, out *search.Steps[beatState]) {
	l := s.leaders[i]
	step := func(format string, change func(n *beatState, l *beatLeader), args ...int) {
		n := *s
		change(&n, &n.leaders[i])
		if n.leaders[i].pc == 0 {
			n.leaders[i] = beatLeader{}
		}
		out.Add(n, format, append([]int{i}, args...)...)
	}
	if l.pc != 0 {
		step("leader %d dies, or loses its lock", func(_ *beatState, l *beatLeader) { l.pc = 0 })
	}
	setCanary := func(n *beatState, l *beatLeader, at int) {
		c := &n.target[at].canary
		if b.r.has(beatNeverLower) {
			c.number = max(c.number, l.number)
		} else {
			c.number = l.number
		}
		c.mark = n.mark
		l.pc = uint8(at) + 2
		if at == 0 {
			l.id = n.id
		}
	}
	writes := func(at int) {
		c := s.target[at].canary
		switch {
		case at == 0 && !b.r.has(beatEveryPart):
			step("leader %d has no canary in part 0", func(n *beatState, l *beatLeader) { l.pc, l.id = 2, n.id })
		case broken(c, s.mark, l.low):
			step("leader %d finds the canary of part %d absent or below %d", func(_ *beatState, l *beatLeader) { l.pc = 4 }, at, int(l.low))
		case b.r.has(beatOneStep):
			step("leader %d raises the canary of part %d to %d", func(n *beatState, l *beatLeader) { setCanary(n, l, at) }, at, int(l.number))
		default:
			step("leader %d reads the canary of part %d", func(_ *beatState, l *beatLeader) { l.pc = uint8(at) + 5 }, at)
		}
	}
	switch l.pc {
	case 0:
		if s.number >= b.numbers || s.verdict != sound {
			return
		}
		step("leader %d takes number %d", func(n *beatState, l *beatLeader) {
			*l = beatLeader{pc: 1, number: s.number + 1, low: s.confirmed, after: s.forgot >= 2}
			if b.r.has(beatStateFirst) {
				n.number++
			}
			if n.since == 0 && l.after {
				n.since = 1
			}
			if !b.r.has(beatAllConfirmed) {
				n.confirmed = max(n.confirmed, l.number)
			}
		}, int(s.number)+1)
	case 1:
		writes(0)
	case 2:
		writes(1)
	case 5, 6:
		at := int(l.pc) - 5
		step("leader %d writes %d into the canary of part %d", func(n *beatState, l *beatLeader) { setCanary(n, l, at) }, int(l.number), at)
	case 3:
		step("leader %d confirms number %d", func(n *beatState, l *beatLeader) {
			n.number = max(n.number, l.number)
			if l.number > n.confirmed || !b.r.has(beatAllConfirmed) {
				b.seeIdentity(n, l)
			}
			n.confirmed = max(n.confirmed, l.number)
			if l.after && n.since == 1 {
				n.since = 2
			}
			b.prove(n)
			l.pc = 0
		}, int(l.number))
	case 4:
		if b.r.has(beatCommitted) {
			step("leader %d commits that the target has lost something", func(n *beatState, l *beatLeader) { b.found(n); l.pc = 0 })
			return
		}
		step("leader %d makes the mark again", func(n *beatState, l *beatLeader) {
			n.mark++
			for p := range n.target {
				n.target[p].canary = canary{n.mark, l.number}
			}
			l.pc = 3
		})
	}
}

// seeIdentity is the part of a beat's last transaction that reports the target's identity.
func (b *beat) seeIdentity(n *beatState, l *beatLeader) {
	if l.id != n.identity && b.r.has(beatIdentity) {
		n.identity, n.shown = l.id, l.low
		n.unproven = b.r.has(beatGoneUnproven)
	}
}

// prove ends the doubt once every instance has read again what it wrote. One that is gone
// can't: only a number that was taken after it had gone, and that the canaries still showed
// under the new identity, proves what it wrote.
func (b *beat) prove(n *beatState) {
	for i := range n.inst {
		if in := &n.inst[i]; !in.dead && in.id != n.identity {
			return
		}
	}
	if n.goneAt == 0 || n.shown >= n.goneAt {
		n.unproven = false
	}
}

// forget is the target's loss.
func (b *beat) forget(s *beatState, out *search.Steps[beatState]) {
	if !s.frozen && s.forgot == 0 {
		n := *s
		n.copied, n.frozen = s.target, true
		out.Add(n, "the target's present is kept aside")
	}
	if s.forgot >= 2 {
		return
	}
	lose := func(format string, change func(n *beatState)) {
		n := *s
		n.forgot = 2
		n.id++
		change(&n)
		if s.forgot < 2 {
			for i := range n.inst {
				n.inst[i].looked = false
			}
		}
		n.copied = [2]part{}
		out.Add(n, format)
	}
	if s.forgot == 0 {
		lose("the target restarts and has lost nothing", func(n *beatState) { n.forgot, n.copied = 1, s.copied })
	}
	if b.onlyOld {
		if s.frozen {
			lose("the target restarts and is what was kept aside", func(n *beatState) { n.target = s.copied })
		}
		return
	}
	lose("the target restarts empty", func(n *beatState) { n.target = [2]part{} })
	lose("part 0 of the target restarts empty", func(n *beatState) { n.target[0] = part{} })
	if !s.frozen {
		return
	}
	lose("the target restarts and is what was kept aside", func(n *beatState) { n.target = s.copied })
	lose("part 0 of the target restarts and is what was kept aside", func(n *beatState) { n.target[0] = s.copied[0] })
	if b.sameID {
		lose("part 0 of the target is what was kept aside, under the same identity", func(n *beatState) {
			n.id--
			n.target[0] = s.copied[0]
			if !broken(s.copied[0].canary, s.mark, s.confirmed) {
				n.forgot = 3 // no canary shows it: the stated exception
			}
		})
	}
}
