package loss

import "github.com/stranglerfig/migrator/internal/test/model/search"

func (b *beat) write(s *beatState, i int, out *search.Steps[beatState]) {
	me := s.inst[i]
	step := func(format string, change func(n *beatState, me *beatInstance), args ...int) {
		n := *s
		change(&n, &n.inst[i])
		out.Add(n, format, append([]int{i}, args...)...)
	}
	fails := func(_ *beatState, me *beatInstance) { me.pc, me.bit, me.at, me.has, me.doomed = 0, 0, 0, 0, false }
	if me.pc != 0 && me.id != s.id && b.r.has(beatIdentity) && b.r.has(beatIdentityFirst) {
		step("instance %d meets another identity: its write fails", fails)
		return
	}
	acknowledge := func(n *beatState, me *beatInstance, at, has uint8) {
		n.target[0].at, n.target[0].has = at, has
		n.acked |= me.bit
		me.own, me.ownAt, me.ownHas, me.ownNumber, me.ownCounted = true, at, has, 0, false
		if me.doomed {
			n.wrong = 2
		}
		fails(n, me)
	}
	key := s.target[0]
	switch me.pc {
	case 0:
		if s.written >= b.writes || s.ret != 0 || me.knows {
			return
		}
		if s.verdict != sound && (b.r.has(beatRefuses) || b.grace) {
			return
		}
		if me.id != s.id && b.r.has(beatIdentity) && b.r.has(beatIdentityFirst) {
			return
		}
		step("instance %d begins write %d", func(n *beatState, me *beatInstance) {
			n.written++
			me.pc, me.bit, me.doomed = 1, 1<<s.written, s.verdict != sound
			if b.grace {
				n.legacyPos++
				n.legacy |= me.bit
				me.at, me.has = n.legacyPos, n.legacy
			}
		}, int(s.written))
	case 1:
		if b.grace {
			if me.at > key.at {
				step("instance %d writes version %d to the target, acknowledged", func(n *beatState, me *beatInstance) {
					acknowledge(n, me, me.at, me.has)
				}, int(me.at))
			} else {
				step("instance %d finds a newer version in the target: settled, acknowledged", func(n *beatState, me *beatInstance) {
					n.acked |= me.bit
					fails(n, me)
				})
			}
			return
		}
		if key.at == 0 {
			step("instance %d finds nothing: ErrTargetLost", fails)
			return
		}
		step("instance %d reads version %d", func(_ *beatState, me *beatInstance) { me.pc, me.at, me.has = 2, key.at, key.has }, int(key.at))
	case 2:
		if key.at == me.at {
			step("instance %d swaps in version %d, acknowledged", func(n *beatState, me *beatInstance) {
				acknowledge(n, me, me.at+1, me.has|me.bit)
			}, int(me.at)+1)
		} else {
			step("instance %d finds another version", func(_ *beatState, me *beatInstance) { me.pc, me.at, me.has = 1, 0, 0 })
		}
	}
}

// look is an instance's renewal and the look at the canaries after it.
func (b *beat) look(s *beatState, i int, out *search.Steps[beatState]) {
	me := s.inst[i]
	step := func(format string, change func(n *beatState, me *beatInstance), args ...int) {
		n := *s
		change(&n, &n.inst[i])
		out.Add(n, format, append([]int{i}, args...)...)
	}
	if s.verdict != sound || s.ret >= 4 {
		return
	}
	renew := func(n *beatState, me *beatInstance) {
		me.number, me.mark = n.confirmed, n.mark
		if me.own && !me.ownCounted {
			me.ownNumber, me.ownCounted = n.number, true
		}
		b.prove(n)
	}
	parts := func(n *beatState, me *beatInstance) {
		bad := false
		for p := range n.target {
			if p == 0 && !b.r.has(beatEveryPart) {
				continue
			}
			bad = bad || broken(n.target[p].canary, me.mark, me.number)
		}
		same := me.id == n.id || !b.r.has(beatIdentity)
		if n.forgot >= 2 && (same || !b.r.has(beatSameLook)) {
			me.looked = true
		}
		switch {
		case bad && b.r.has(beatCommitted):
			b.found(n)
		case bad:
			me.knows = true
		case me.own && me.ownCounted && me.number > me.ownNumber && (same || !b.r.has(beatSameLook)):
			me.own, me.ownAt, me.ownHas, me.ownNumber, me.ownCounted = false, 0, 0, 0, false
		}
		me.look, me.number, me.mark = 0, 0, 0
	}
	switch {
	case me.look == 0 && b.r.has(beatNumberFirst):
		step("instance %d renews its lease: number %d is confirmed", func(n *beatState, me *beatInstance) { renew(n, me); me.look = 1 }, int(s.confirmed))
	case me.look == 0:
		low := min(s.target[0].canary.number, s.target[1].canary.number)
		step("instance %d reads the canaries, %d", func(_ *beatState, me *beatInstance) { me.look, me.number, me.mark = 1, low, s.target[0].canary.mark }, int(low))
	case b.r.has(beatNumberFirst):
		step("instance %d looks at the canaries, against number %d", parts, int(me.number))
	default:
		step("instance %d renews its lease: number %d is confirmed", func(n *beatState, me *beatInstance) {
			if me.number < n.confirmed || me.mark != n.mark {
				b.found(n)
			}
			me.look, me.number, me.mark = 0, 0, 0
		}, int(s.confirmed))
	}
	if me.id != s.id && b.r.has(beatIdentity) {
		b.again(s, i, out)
	}
	if me.own && !b.r.has(beatWindow) {
		step("10 s pass: instance %d forgets what it wrote", func(_ *beatState, me *beatInstance) {
			me.own, me.ownAt, me.ownHas, me.ownNumber, me.ownCounted = false, 0, 0, 0, false
		})
	}
}

// again: an instance that sees another identity reads again what it wrote.
func (b *beat) again(s *beatState, i int, out *search.Steps[beatState]) {
	n := *s
	me := &n.inst[i]
	key := s.target[0]
	me.id = s.id
	what := "instance %d sees another identity, and has written nothing lately"
	if me.own {
		switch {
		case key.at < me.ownAt, key.at == me.ownAt && key.has != me.ownHas && b.r.has(beatContents):
			b.found(&n)
			what = "instance %d sees another identity, reads its key: version %d, it wrote %d: lost"
		case key.at > me.ownAt && !b.grace && b.r.has(beatNewerUnproven):
			me.id = 0 // it can't prove it
			n.unproven = true
			what = "instance %d sees another identity, reads its key: version %d, it wrote %d: unproven"
		default:
			what = "instance %d sees another identity, reads its key: version %d, it wrote %d: proven"
		}
	}
	if n == *s {
		return
	}
	out.Add(n, what, i, int(key.at), int(me.ownAt))
}
