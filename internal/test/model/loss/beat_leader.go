package loss

import "github.com/stranglerfig/migrator/internal/test/model/search"

// found is what who sees the loss commits.
func (b *beat) found(s *beatState) {
	if s.forgot < 2 {
		s.wrong = 1
	}
	s.gone, s.unclean = true, true
}

// broken reports whether a mark shows that its part has lost something.
func broken(m mark, incarnation, low uint8) bool {
	return m.incarnation != incarnation || m.number < low
}

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
	switch l.pc {
	case 0:
		if s.gone {
			if !broken(s.target[0].mark, s.incarnation, s.confirmed) && !broken(s.target[1].mark, s.incarnation, s.confirmed) {
				step("leader %d finds the target with its marks again", func(n *beatState, _ *beatLeader) {
					n.gone = false
					n.unclean = b.r.has(beatStaysUnclean)
				})
			}
			return
		}
		if s.number >= b.numbers {
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
	case 1, 2:
		b.raise(s, i, int(l.pc)-1, step)
	case 5, 6:
		at := int(l.pc) - 5
		step("leader %d writes %d into the mark of part %d", func(n *beatState, l *beatLeader) { b.set(n, l, at) }, int(l.number), at)
	case 4:
		if b.r.has(beatNeverAgain) {
			step("leader %d commits that the target has lost something", func(n *beatState, l *beatLeader) { b.found(n); l.pc = 0 })
			return
		}
		step("leader %d makes the marks again", func(n *beatState, l *beatLeader) {
			n.incarnation++
			for p := range n.target {
				n.target[p].mark = mark{n.incarnation, l.number}
			}
			l.pc, n.identity = 9, n.id
		})
	default:
		b.compare(s, l, step)
	}
}

type leaderStep func(format string, change func(n *beatState, l *beatLeader), args ...int)

// raise compares one part's mark, and raises it.
func (b *beat) raise(s *beatState, i, at int, step leaderStep) {
	l := s.leaders[i]
	switch {
	case at == 0 && !b.r.has(beatEveryPart):
		step("leader %d has no mark in part 0", func(_ *beatState, l *beatLeader) { l.pc = 2 })
	case broken(s.target[at].mark, s.incarnation, l.low):
		step("leader %d finds the mark of part %d absent or below %d", func(_ *beatState, l *beatLeader) { l.pc = 4 }, at, int(l.low))
	case b.r.has(beatOneStep):
		step("leader %d raises the mark of part %d to %d", func(n *beatState, l *beatLeader) { b.set(n, l, at) }, at, int(l.number))
	default:
		step("leader %d reads the mark of part %d", func(_ *beatState, l *beatLeader) { l.pc = uint8(at) + 5 }, at)
	}
}

func (b *beat) set(n *beatState, l *beatLeader, at int) {
	m := &n.target[at].mark
	if number := max(m.number, l.number); b.r.has(beatNeverLower) {
		m.number = number
	} else {
		m.number = l.number
	}
	m.incarnation = n.incarnation
	l.pc = uint8(at) + 2
}

// compare looks at the target's identity once the marks have the number, and then confirms it.
func (b *beat) compare(s *beatState, l beatLeader, step leaderStep) {
	marks := func(n *beatState, _ *beatLeader) { n.unclean = true }
	records := func(n *beatState, l *beatLeader) {
		if n.identity == l.was {
			n.identity = l.id
		}
	}
	first, then := marks, records
	what, next := "leader %d marks the migration unclean: the target has another identity", "leader %d records the new identity"
	if !b.r.has(beatSeenLast) {
		first, then, what, next = records, marks, next, what
	}
	switch {
	case l.pc == 3 && s.id != s.identity && b.r.has(beatIdentity):
		step("leader %d sees another identity", func(n *beatState, l *beatLeader) { l.pc, l.id, l.was = 7, n.id, n.identity })
	case l.pc == 7:
		step(what, func(n *beatState, l *beatLeader) { first(n, l); l.pc = 8 })
	case l.pc == 8:
		step(next, func(n *beatState, l *beatLeader) { then(n, l); l.pc, l.id, l.was = 9, 0, 0 })
	default:
		step("leader %d confirms number %d, if it is the last one", func(n *beatState, l *beatLeader) {
			if l.number >= n.number || !b.r.has(beatNewest) {
				n.confirmed = max(n.confirmed, l.number)
			}
			n.number = max(n.number, l.number)
			if l.after && n.since == 1 {
				n.since = 2
			}
			l.pc = 0
		}, int(l.number))
	}
}

// forget is the target's loss.
func (b *beat) forget(s *beatState, out *search.Steps[beatState]) {
	if !s.kept && s.forgot == 0 {
		n := *s
		n.copied, n.kept = s.target, true
		out.Add(n, "a replica, or a file, has the target's present")
	}
	if s.forgot == 2 && !s.came && s.failed[0].mark.incarnation != 0 {
		n := *s
		n.came, n.since = true, 0
		n.target, n.failed = s.failed, [2]part{}
		n.id-- // it was not restarted
		if !s.unclean {
			n.forgot = 3 // between two looks it was another server: the second exception
		}
		out.Add(n, "the server that was failed over from is the target again")
	}
	if s.forgot >= 2 {
		return
	}
	lose := func(format string, change func(n *beatState)) {
		n := *s
		n.forgot = 2
		n.id++
		change(&n)
		n.copied = [2]part{}
		out.Add(n, format)
	}
	if s.forgot == 0 {
		lose("the target restarts and has lost nothing", func(n *beatState) { n.forgot, n.copied = 1, s.copied })
	}
	lose("the target restarts empty", func(n *beatState) { n.target = [2]part{} })
	lose("part 0 of the target restarts empty", func(n *beatState) { n.target[0] = part{} })
	if !s.kept {
		return
	}
	lose("the target is failed over to that replica", func(n *beatState) { n.target, n.failed = s.copied, s.target })
	lose("part 0 of the target restarts from that file", func(n *beatState) { n.target[0] = s.copied[0] })
	lose("part 0 of the target is what that file has, under the same identity", func(n *beatState) {
		n.id--
		n.target[0] = s.copied[0]
		if !broken(s.copied[0].mark, s.incarnation, s.confirmed) {
			n.forgot = 3 // no mark shows it: the first exception
		}
	})
}
