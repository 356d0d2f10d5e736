package loss

import "github.com/stranglerfig/migrator/internal/test/model/search"

// write is a write of retain, or of grace: there it holds its row of legacy's state.
func (b *beat) write(s *beatState, i int, out *search.Steps[beatState]) {
	me := s.inst[i]
	step := func(format string, change func(n *beatState, me *beatInstance), args ...int) {
		n := *s
		change(&n, &n.inst[i])
		out.Add(n, format, append([]int{i}, args...)...)
	}
	ends := func(_ *beatState, me *beatInstance) { me.pc, me.bit, me.at, me.has, me.late = 0, 0, 0, 0, false }
	acknowledged := func(n *beatState, me *beatInstance) {
		n.acked |= me.bit
		if me.late {
			n.wrong = 2
		}
		ends(n, me)
	}
	key := s.target[0]
	switch {
	case me.pc == 0:
		refused := me.knows || s.gone && (b.r.has(beatRefuses) || b.grace)
		if s.written >= b.writes || s.ret != 0 || refused {
			return
		}
		step("instance %d begins write %d", func(n *beatState, me *beatInstance) {
			me.pc, me.bit, me.late = 1, 1<<n.written, s.gone
			n.written++
			if b.grace {
				n.legacyPosition++
				n.legacy |= me.bit
				me.at, me.has = n.legacyPosition, n.legacy
			}
		}, int(s.written))
	case b.grace && me.at > key.at:
		step("instance %d writes version %d to the target, acknowledged", func(n *beatState, me *beatInstance) {
			n.target[0].at, n.target[0].has = me.at, me.has
			acknowledged(n, me)
		}, int(me.at))
	case b.grace:
		step("instance %d finds a newer version in the target: settled, acknowledged", acknowledged)
	case me.pc == 1 && key.at == 0:
		step("instance %d finds nothing: ErrTargetLost", ends)
	case me.pc == 1:
		step("instance %d reads version %d", func(_ *beatState, me *beatInstance) { me.pc, me.at, me.has = 2, key.at, key.has }, int(key.at))
	case key.at == me.at:
		step("instance %d swaps in version %d, acknowledged", func(n *beatState, me *beatInstance) {
			n.target[0].at, n.target[0].has = me.at+1, me.has|me.bit
			acknowledged(n, me)
		}, int(me.at)+1)
	default:
		step("instance %d finds another version", func(_ *beatState, me *beatInstance) { me.pc, me.at, me.has = 1, 0, 0 })
	}
}

// look is an instance's renewal, and the look at the marks after it.
func (b *beat) look(s *beatState, i int, out *search.Steps[beatState]) {
	me := s.inst[i]
	step := func(format string, change func(n *beatState, me *beatInstance), args ...int) {
		n := *s
		change(&n, &n.inst[i])
		out.Add(n, format, append([]int{i}, args...)...)
	}
	if me.knows {
		return
	}
	compares := func(n *beatState, me *beatInstance, bad bool) {
		if me.knows = bad; bad && n.forgot < 2 {
			n.wrong = 1
		}
		me.look, me.number, me.incarnation = 0, 0, 0
	}
	low := mark{s.target[1].mark.incarnation, min(s.target[0].mark.number, s.target[1].mark.number)}
	switch first := b.r.has(beatNumberFirst); {
	case me.look == 0 && first:
		step("instance %d renews its lease: number %d is confirmed", func(n *beatState, me *beatInstance) {
			me.look, me.number, me.incarnation = 1, n.confirmed, n.incarnation
		}, int(s.confirmed))
	case me.look == 0:
		step("instance %d looks at the marks, %d", func(_ *beatState, me *beatInstance) {
			me.look, me.number, me.incarnation = 1, low.number, low.incarnation
		}, int(low.number))
	case first:
		step("instance %d looks at the marks, against number %d", func(n *beatState, me *beatInstance) {
			bad := broken(n.target[1].mark, me.incarnation, me.number)
			if b.r.has(beatEveryPart) {
				bad = bad || broken(n.target[0].mark, me.incarnation, me.number)
			}
			compares(n, me, bad)
		}, int(me.number))
	default:
		step("instance %d renews its lease: number %d is confirmed", func(n *beatState, me *beatInstance) {
			compares(n, me, broken(mark{me.incarnation, me.number}, n.incarnation, n.confirmed))
		}, int(s.confirmed))
	}
}
