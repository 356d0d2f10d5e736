package loss

import "github.com/stranglerfig/migrator/internal/test/model/search"

// maxRuns bounds how often a controller begins a round.
const maxRuns = 3

// controller makes rounds in retain, and the last one while writes wait. It may die before
// each step, and sleep between any two.
func (g *rounds) controller(s *roundState, i int, out *search.Steps[roundState]) {
	c := s.c[i]
	step := func(format string, change func(n *roundState, c *roundController), args ...int) {
		n := *s
		change(&n, &n.c[i])
		if n.c[i].pc == 0 {
			n.c[i] = roundController{}
		}
		out.Add(n, format, append([]int{i}, args...)...)
	}
	ends := func(_ *roundState, c *roundController) { c.pc = 0 }
	if c.pc != 0 {
		step("controller %d dies", ends)
	}
	switch c.pc {
	case 0:
		g.begin(s, step)
	case 1:
		for k, w := range s.w {
			if c.waits>>k&1 != 0 && !w.late && w.pc != 3 && g.r.has(returnWait) && !c.final {
				return
			}
		}
		step("controller %d has waited", func(_ *roundState, c *roundController) { c.pc, c.waits = 2, 0 })
	case 2:
		step("controller %d reads the target, state %d", func(n *roundState, c *roundController) { c.pc, c.at, c.state = 3, n.at, n.state }, int(s.state))
	case 3:
		if s.phase == inGrace || g.r.has(returnRun) && s.run != c.run {
			step("controller %d is refused by the fence", ends)
			return
		}
		step("controller %d copies state %d to legacy", func(n *roundState, c *roundController) {
			n.legacy, c.pc, c.era, c.incarnation = c.state, 4, n.legacyEra+1, n.incarnation
		}, int(c.state))
	case 4:
		rewrites := c.final && g.r.has(returnLast) || !c.final && !g.r.has(returnEarly)
		switch {
		case !rewrites:
			step("controller %d leaves the target", func(_ *roundState, c *roundController) { c.pc = 5 })
		case s.at != c.at:
			step("controller %d finds the target changed", func(_ *roundState, c *roundController) { c.pc = 2 })
		default:
			step("controller %d writes the target at era %d", func(n *roundState, c *roundController) { n.at, c.pc = version{c.era, 1}, 5 }, int(c.era))
		}
	case 5:
		g.mark(s, c, step)
	}
}

// settled reports whether legacy has a copy of what the entry stands for.
func (g *rounds) settled(s *roundState) bool {
	return g.r.has(returnMarks) && s.copied == s.change && (s.copiedOn == s.incarnation || !g.r.has(returnIncarnation))
}

func (g *rounds) begin(s *roundState, step func(string, func(*roundState, *roundController), ...int)) {
	switch {
	case s.phase == inGrace || s.run > maxRuns:
	case s.listed && !g.settled(s):
		step("controller %d takes run %d, notes change %d", func(n *roundState, c *roundController) {
			n.run++
			c.pc, c.run, c.final, c.change = 1, n.run, n.phase == inReturning, n.change
			for k, w := range n.w {
				if (w.pc == 1 || w.pc == 2) && !w.late {
					c.waits |= 1 << k
				}
			}
		}, int(s.run)+1, int(s.change))
	case s.phase == inReturning:
		step("controller %d finds every entry marked: it lifts the fence at era %d and empties the journal, grace", func(n *roundState, _ *roundController) {
			n.listed, n.change, n.copied, n.copiedOn = false, 0, 0, 0
			n.legacyEra++
			n.phase = inGrace
		}, int(s.legacyEra)+1)
	}
}

func (g *rounds) mark(s *roundState, c roundController, step func(string, func(*roundState, *roundController), ...int)) {
	same := s.listed && (s.change == c.change || !g.r.has(returnChange)) && s.phase != inGrace
	switch {
	case same && g.r.has(returnMarks):
		step("controller %d marks change %d", func(n *roundState, c *roundController) {
			n.copied, n.copiedOn, c.pc = n.change, c.incarnation, 0
		}, int(s.change))
	case same:
		step("controller %d removes the entry, change %d", func(n *roundState, c *roundController) { n.listed, n.change, c.pc = false, 0, 0 }, int(s.change))
	default:
		step("controller %d leaves the entry: it has changed", func(_ *roundState, c *roundController) { c.pc = 0 })
	}
}
