package model

// States of a controller.
const (
	idle uint8 = iota
	intends
	raises
	commitsFenced
	checksFence
	retains
	undoes
	clearsAttempt
	lifts
	unfences
	commitsGrace
	commitsReturning
	awaitsReturning
	readsBack
	replays
	rewrites
	clears
	unfencesBack
	commitsGraceBack
)

// controller is one command that moves authority. It may die before each step, and it may
// sleep between any two steps while the other controller acts.
func (g *gen) controller(s *State, i int) {
	me := &s.ctl[i]
	step := func(what string, change func(n *State, c *controller)) {
		n := *s
		change(&n, &n.ctl[i])
		if c := &n.ctl[i]; c.pc == idle {
			*c = controller{used: c.used}
		}
		g.add("controller %d "+what, i, n)
	}
	end := func(_ *State, c *controller) { c.pc = idle }
	room := s.epoch < min(g.c.Epochs, maxEpochs-1)
	// same is the comparison of a transition: the route is the one that the decision rested
	// on.
	same := !g.r.OneDecides || me.epoch == s.epoch && me.attempt == s.attempt
	commits := func(to Kind, pc uint8, change func(n *State)) {
		switch {
		case !same:
			step("finds the route moved", end)
		case room && (g.legal(s, to) || !g.r.OneDecides) && !(to == Fenced && s.lapsed()):
			step("commits "+to.String(), func(n *State, c *controller) {
				n.push(to)
				c.pc, c.epoch = pc, n.epoch
				if change != nil {
					change(n)
				}
			})
		}
	}
	switch me.pc {
	case idle:
		g.command(s, i, step)
		return
	case intends:
		if s.epoch != me.epoch || s.attempt != 0 && g.r.OneDecides {
			step("finds another attempt", end)
		} else {
			step("records its attempt", func(n *State, c *controller) { n.attempt, c.attempt, c.pc = uint8(i)+1, uint8(i)+1, raises })
		}
	case raises:
		if s.lifted>>me.attempt&1 != 0 || s.fence != 0 && s.fence != me.attempt {
			step("can't fence", func(_ *State, c *controller) { c.pc = undoes })
		} else if s.open == 0 || !g.r.FenceLock {
			step("fences legacy", func(n *State, c *controller) {
				if n.fence == 0 {
					n.era++
				}
				n.fence, c.pc = c.attempt, commitsFenced
			})
		}
	case commitsFenced:
		if g.r.FencedEpoch {
			commits(Fenced, checksFence, func(n *State) { n.fenceEra = n.era })
		} else if room && !s.journaled {
			step("commits retain", func(n *State, c *controller) { n.push(Retain); n.fenceEra, c.pc = n.era, idle })
		}
	case checksFence:
		if g.behind(s) {
			break
		}
		if s.fence == me.attempt {
			step("sees every live instance on fenced, and its fence", func(_ *State, c *controller) { c.pc = retains })
		}
	case retains:
		if !same || g.behind(s) || s.lapsed() || s.journaled {
			break
		}
		commits(Retain, idle, func(n *State) { n.fenceEra = n.era })
	case undoes:
		switch k := s.route(); {
		case s.attempt != me.attempt:
			step("finds that it is not its fence", end)
		case k == Grace && s.fence != me.attempt:
			step("voids its attempt: its fence is not raised", func(n *State, c *controller) { n.lifted |= 1 << c.attempt; c.pc = clearsAttempt })
		case k == Grace || k == Fenced:
			step("is about to lift", func(n *State, c *controller) { c.pc, c.epoch = lifts, n.epoch })
		case k == Lifting:
			step("is about to lift", func(n *State, c *controller) { c.pc, c.epoch = unfences, n.epoch })
		default:
			step("finds that it is not its fence", end)
		}
	case clearsAttempt:
		step("clears its attempt", func(n *State, c *controller) {
			if n.route() == Grace && n.attempt == c.attempt {
				n.attempt = 0
			}
			c.pc = idle
		})
	case lifts:
		commits(Lifting, unfences, nil)
	case unfences:
		if s.fence != 0 && s.fence != me.attempt {
			step("finds another's fence", end)
		} else if s.open == 0 {
			step("lifts the fence", func(n *State, c *controller) {
				n.lifted |= 1 << c.attempt
				if n.fence != 0 {
					n.fence = 0
					n.era++
				}
				c.pc = commitsGrace
			})
		}
	case commitsGrace:
		commits(Grace, idle, func(n *State) { n.attempt = 0 })
	case commitsReturning:
		commits(Returning, awaitsReturning, nil)
	default:
		g.returning(s, i, step, same)
	}
	if me.pc >= intends && me.pc <= retains && me.attempt != 0 {
		step("gives up and undoes", func(_ *State, c *controller) { c.pc = undoes })
	}
	step("dies", end)
}

// command begins or resumes what the route and the recorded attempt allow.
func (g *gen) command(s *State, i int, step func(string, func(*State, *controller))) {
	at := func(pc uint8) func(*State, *controller) {
		return func(n *State, c *controller) { c.pc, c.epoch, c.attempt = pc, n.epoch, n.attempt }
	}
	switch k := s.route(); {
	case k == Grace && s.attempt == 0 && g.c.Fence && !s.ctl[i].used && g.open(s, Retain):
		step("begins to fence", func(n *State, c *controller) { c.pc, c.epoch, c.used = intends, n.epoch, true })
	case k == Grace && s.attempt != 0:
		step("resumes the attempt", at(raises))
		step("resumes the attempt to undo it", at(undoes))
	case k == Fenced:
		step("resumes the attempt", at(checksFence))
		step("resumes the attempt to undo it", at(undoes))
	case k == Lifting:
		step("resumes the lifting", at(undoes))
	case k == Retain && g.c.Return:
		step("begins the return", at(commitsReturning))
	case k == Returning:
		step("resumes the return", at(awaitsReturning))
	}
}

func (g *gen) returning(s *State, i int, step func(string, func(*State, *controller)), same bool) {
	me := &s.ctl[i]
	switch me.pc {
	case awaitsReturning:
		if g.behind(s) {
			return
		}
		next := unfencesBack
		if s.returns {
			next = readsBack
		}
		step("has waited for every live instance", func(_ *State, c *controller) { c.pc = next })
	case readsBack:
		step("reads the target", func(n *State, c *controller) { c.at, c.seq, c.has, c.pc = n.at, n.tseq, n.has, replays })
	case replays:
		if s.fence == 0 || s.fence != me.attempt {
			step("finds its fence lifted", func(_ *State, c *controller) { c.pc = idle })
		} else if s.open == 0 {
			step("writes the key back to legacy", func(n *State, c *controller) {
				if c.has == live {
					n.seq = c.seq
				} else {
					n.seq = g.lastGone(n)
				}
				c.pc = rewrites
				if !g.r.ReturnEra {
					c.pc = clears
				}
			})
		}
	case rewrites:
		if s.at != me.at {
			step("finds the target changed and reads it again", func(_ *State, c *controller) { c.pc = readsBack })
			return
		}
		step("writes the target again at the new era", func(n *State, c *controller) {
			m := message{at: version{n.era + 1, lsnBase + 2*n.top + 1}, cond: true, only: c.at, seq: c.seq, gone: c.has != live}
			g.land(n, m)
			c.pc = clears
		})
	case clears:
		step("clears the return journal", func(n *State, c *controller) {
			if n.route() != Retain {
				n.returns = false
			}
			c.pc, c.at, c.seq, c.has = unfencesBack, version{}, 0, absent
		})
	case unfencesBack:
		if s.fence != 0 && s.fence != me.attempt {
			step("finds another's fence", func(_ *State, c *controller) { c.pc = idle })
			return
		}
		step("lifts the fence", func(n *State, c *controller) {
			n.lifted |= 1 << c.attempt
			if n.fence != 0 {
				n.fence = 0
				if g.r.ReturnEra {
					n.era++
				}
			}
			c.pc = commitsGraceBack
		})
	case commitsGraceBack:
		switch {
		case !same:
			step("finds the route moved", func(_ *State, c *controller) { c.pc = idle })
		case s.epoch < min(g.c.Epochs, maxEpochs-1) && g.legal(s, Grace):
			step("commits grace", func(n *State, c *controller) { n.push(Grace); n.attempt, c.pc = 0, idle })
		}
	}
}

// lastGone returns the newest state that is absence.
func (g *gen) lastGone(s *State) uint8 {
	for q := s.top; q > 0; q-- {
		if g.c.deleted(q) {
			return q
		}
	}
	return 0
}
