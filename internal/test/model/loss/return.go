package loss

import "github.com/stranglerfig/migrator/internal/test/model/search"

// The rules of a return in rounds: legacy gets copies while retain goes on, and only the rest
// while writes wait.
const (
	returnMarks Rules = 1 << iota
	returnIncarnation
	returnChange
	returnSequence
	returnWait
	returnRun
	returnEarly
	returnLast
	returnGiveUpEra
	returnGiveUpRun
)

const (
	returnLacks   = "grace: legacy lacks an acknowledged write"
	returnMissing = "the target lacks an acknowledged write"
	returnAhead   = "grace: the target's version is above legacy's next"
	returnDiffer  = "grace, all quiet: the stores differ, nothing journaled"
	returnRefused = "in retain a write is refused for good: the key's era is above the route's"
)

var returnWorld = World{
	Name:  "return",
	About: "A return in rounds: keys are copied to legacy through its fence while retain goes on, and only the rest while writes wait. Legacy may lose its copies. Controllers sleep and die between any two steps.",
	Searches: []Search{
		{Bounds: "one writer, one controller; legacy may lose its copies; given up once", States: 4318, explore: rounds{writers: 1, controllers: 1, back: true, givesUp: true}.explore},
		{Bounds: "two writers, one controller; given up once", States: 75637, explore: rounds{writers: 2, controllers: 1, givesUp: true}.explore},
		{Bounds: "one writer, two controllers", States: 21807, explore: rounds{writers: 1, controllers: 2}.explore},
		{Bounds: "one writer, two controllers; fenced again after the lift", States: 78694, explore: rounds{writers: 1, controllers: 2, again: true}.explore},
		{Bounds: "two writers, two controllers; legacy may lose its copies", States: 937507, Long: true, explore: rounds{writers: 2, controllers: 2, back: true}.explore},
		{Bounds: "two writers, two controllers; given up once", States: 3148510, Long: true, explore: rounds{writers: 2, controllers: 2, givesUp: true}.explore},
	},
	Rules: []Rule{
		{returnMarks, "rounds mark entries of the return journal, they never remove them", returnLacks, 12, 0, "return-marks"},
		{returnIncarnation, "a mark names the incarnation of legacy that has the copy", returnLacks, 12, 0, "replay-legacy"},
		{returnChange, "an entry is marked only at the change that the round noted", returnDiffer, 12, 1, "return-marks"},
		{returnSequence, "change numbers come from one sequence and are never used again", returnLacks, 21, 3, "return-marks"},
		{returnWait, "a round waits out every not-after from before the change that it noted", returnLacks, 11, 0, "return-marks"},
		{returnRun, "a copy's transaction requires the run's number in the fence's row", returnRefused, 10, 1, "replay-run"},
		{returnEarly, "a round writes nothing to the target", returnRefused, 8, 0, "return-marks"},
		{returnLast, "what is copied while writes wait is written to the target at the coming era, over the version read alone", returnDiffer, 11, 0, "return-era"},
		{returnGiveUpEra, "giving up raises legacy's era, which the route of retain carries", returnRefused, 10, 1, "return-given-up"},
		{returnGiveUpRun, "giving up raises the run's number too, in the same transaction", returnRefused, 10, 1, "return-given-up"},
	},
}

type roundWriter struct {
	pc      uint8 // 1 listed, 2 read, 3 done
	only    version
	late    bool // its not-after has passed
	drained bool // its caller got an error
	era     uint8
}

type roundController struct {
	pc          uint8 // 1 noted the change, 2 has waited, 3 has the target, 4 copied, 5 about to mark
	final       bool  // while writes wait
	change      uint8
	waits       uint8 // writers whose not-after must pass, as bits
	at          version
	state       uint8
	run         uint8
	era         uint8 // the coming era, as the copy's transaction gave it
	incarnation uint8
}

type roundState struct {
	phase, routeEra                  uint8
	legacy, legacyEra, incarnation   uint8
	atFence                          uint8 // what legacy had
	run                              uint8
	at                               version
	state                            uint8 // in the target
	listed                           bool
	change, sequence                 uint8
	copied, copiedOn                 uint8 // the change that legacy has a copy of, and on which incarnation
	top, acked                       uint8
	gaveUp, fencedAgain, legacyWrote bool
	refused                          bool
	w                                [2]roundWriter
	c                                [2]roundController
}

type rounds struct {
	r                    Rules
	writers, controllers int
	back, givesUp, again bool
}

func (g *rounds) check(s *roundState) string {
	switch {
	case s.refused:
		return returnRefused
	case s.state < s.acked:
		return returnMissing
	case s.phase != inGrace:
		return ""
	case s.legacy < s.acked:
		return returnLacks
	case s.at.era > s.legacyEra:
		return returnAhead
	case s.legacy == s.state || s.legacyWrote:
		return ""
	}
	for _, w := range s.w {
		if w.pc != 0 && w.pc != 3 && !w.late {
			return ""
		}
	}
	return returnDiffer
}

func (g *rounds) next(s *roundState, out *search.Steps[roundState]) {
	for i := range g.writers {
		g.writer(s, i, out)
	}
	for i := range g.controllers {
		g.controller(s, i, out)
	}
	n := *s
	if g.back && s.incarnation == 0 && s.phase != inGrace && s.legacy > s.atFence {
		n.incarnation, n.legacy = 1, s.atFence
		out.Add(n, "legacy goes back to what it had at the fence")
	}
	n = *s
	switch {
	case s.phase == inRetain:
		n.phase = inReturning
		for i := range n.w {
			if w := &n.w[i]; w.pc == 1 {
				w.pc = 3
			} else {
				w.drained = w.pc == 2
			}
		}
		out.Add(n, "returning is committed, writes have drained")
	case s.phase == inReturning && g.givesUp && !s.gaveUp:
		n.gaveUp, n.phase = true, inRetain
		if g.r.has(returnGiveUpEra) {
			n.legacyEra++
			n.routeEra = n.legacyEra
		}
		if g.r.has(returnGiveUpRun) {
			n.run++
		}
		out.Add(n, "the return is given up: retain, its era is %d", int(n.routeEra))
	case s.phase == inGrace && !s.legacyWrote && s.legacy >= s.acked && !g.again:
		n.legacyWrote = true
		n.top++
		n.legacy, n.state, n.at, n.acked = n.top, n.top, version{n.legacyEra, 9}, n.top
		out.Add(n, "a write at legacy's era %d, both stores have it", int(n.legacyEra))
	case s.phase == inGrace && g.again && !s.fencedAgain && s.legacy == s.state:
		n.fencedAgain, n.phase = true, inRetain
		n.legacyEra++
		n.run++
		n.routeEra, n.atFence = n.legacyEra, n.legacy
		for i := range n.w {
			n.w[i] = roundWriter{}
		}
		out.Add(n, "legacy is fenced again, retain at era %d", int(n.routeEra))
	}
}

func (g *rounds) writer(s *roundState, i int, out *search.Steps[roundState]) {
	w := s.w[i]
	step := func(format string, change func(n *roundState, w *roundWriter), args ...int) {
		n := *s
		change(&n, &n.w[i])
		if n.w[i].pc == 3 {
			n.w[i] = roundWriter{pc: 3}
		}
		out.Add(n, format, append([]int{i}, args...)...)
	}
	if (w.pc == 1 || w.pc == 2) && !w.late {
		step("not-after of writer %d passes", func(_ *roundState, w *roundWriter) { w.late = true })
	}
	switch {
	case w.pc == 0 && s.phase == inRetain:
		step("writer %d lists its key", func(n *roundState, w *roundWriter) {
			if g.r.has(returnSequence) {
				n.sequence++
				n.change = n.sequence
			} else {
				n.change++
			}
			n.listed = true
			*w = roundWriter{pc: 1, era: s.routeEra}
		})
	case w.pc == 1 && s.at.era > w.era:
		step("writer %d finds era %d, its route has %d", func(n *roundState, w *roundWriter) {
			w.pc = 3
			n.refused = s.phase == inRetain && w.era == s.routeEra
		}, int(s.at.era), int(w.era))
	case w.pc == 1:
		step("writer %d reads version %d.%d", func(_ *roundState, w *roundWriter) { w.pc, w.only = 2, s.at }, int(s.at.era), int(s.at.n))
	case w.pc == 2 && !w.late && s.at != w.only:
		if w.drained {
			step("writer %d's late message finds another version", func(_ *roundState, w *roundWriter) { w.pc = 3 })
		} else {
			step("writer %d finds another version", func(_ *roundState, w *roundWriter) { w.pc = 1 })
		}
	case w.pc == 2 && !w.late:
		format := "writer %d swaps in state %d, acknowledged"
		if w.drained {
			format = "writer %d's late message lands, state %d; its caller got an error"
		}
		step(format, func(n *roundState, w *roundWriter) {
			n.top++
			n.state = n.top
			if w.only.era < w.era {
				n.at = version{w.era, 1}
			} else {
				n.at.n++
			}
			if !w.drained {
				n.acked = n.top
			}
			w.pc = 3
		}, int(s.top)+1)
	}
}

func (g rounds) explore(r Rules) search.Result {
	g.r = r
	first := roundState{phase: inRetain, routeEra: 2, legacyEra: 2, at: version{1, 1}}
	for i := g.writers; i < len(first.w); i++ {
		first.w[i].pc = 3
	}
	return machine(first, g.next, g.check)
}
