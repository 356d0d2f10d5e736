package loss

import "github.com/stranglerfig/migrator/internal/test/model/search"

// The rules of a fence that legacy loses: a standby that lacks it is promoted, with an earlier
// era. The leader raises it again, while a rollback may be under way.
const (
	fenceEra Rules = 1 << iota
	fenceRepairEra
	fenceOver
	fenceUnknown
	fenceCopy
	fenceLift
	fenceLook
)

const (
	fenceBeaten  = "a repair overwrote a write of retain with legacy's row"
	fenceStands  = "a fence stands in grace, and no command lifts it"
	fenceForeign = "the copy overwrote a write that legacy took without its fence, and no mark says so"
	fenceRefused = "grace: legacy's write is refused by what the target has"
	fenceStuck   = "returning is committed, and the copy is refused: writes wait for nothing"
)

var fenceWorld = World{
	Name:  "fence",
	About: "Legacy loses its fence: a standby without it is promoted, with an earlier era. Two leaders raise it again while a rollback is under way.",
	Searches: []Search{
		{Bounds: "one promotion, of a standby with era 0, 1 or 2; two leaders, a rollback, a write that bypasses, a repair", States: 775, explore: fences{}.explore},
	},
	Rules: []Rule{
		{fenceEra | fenceRepairEra, "a fence is raised again at the state's era; a repair reads legacy as of the era before it (either is enough)", fenceBeaten, 5, 0, "fence-restored"},
		{fenceOver | fenceUnknown, "a fence is not raised again once its attempt is over; one whose attempt is over is lifted (either is enough)", fenceStands, 10, 0, "attempt-void"},
		{fenceCopy, "a copy's transaction requires the fence, its row and its triggers", fenceForeign, 5, 0, "fence-watched"},
		{fenceLift, "lifting sets the era above legacy's and the state's", fenceRefused, 7, 0, "lift-era"},
		{fenceLook, "the fence is looked at before returning is committed", fenceStuck, 4, 0, "fence-watched"},
	},
}

type fences struct {
	r Rules
}

type fenceState struct {
	started            bool
	phase              uint8
	fence, over        bool
	era, routeEra      uint8 // legacy's, the state's
	born               uint8 // the promoted server's era
	promoted           bool
	legacy, top        uint8
	bypassed, known    bool // legacy took a write without its fence; the state has it marked
	at                 version
	state              uint8
	leaders            [2]bool // has seen retain and no fence
	pc                 uint8   // of the rollback: 1 returning, 2 copied, 3 rewritten, 4 lifted
	coming             uint8
	wroteAgain, repair bool
	wrong              uint8
}

func (f *fences) check(s *fenceState) string {
	return [...]string{"", fenceBeaten, fenceStands, fenceForeign, fenceRefused, fenceStuck}[s.wrong]
}

func (f *fences) next(s *fenceState, out *search.Steps[fenceState]) {
	if !s.started {
		for era := range uint8(3) {
			n := *s
			n.started, n.born = true, era
			out.Add(n, "a standby has era %d; the fence's is 2", int(era))
		}
		return
	}
	n := *s
	if !s.promoted && s.phase != inGrace {
		n.promoted, n.fence, n.over, n.era = true, false, false, s.born
		out.Add(n, "the standby without the fence is promoted, at era %d", int(n.era))
	}
	if n = *s; s.phase == inRetain && s.top < 3 {
		n.top++
		n.state = n.top
		n.at.n++
		out.Add(n, "a write of retain: state %d", int(n.top))
	}
	if n = *s; s.phase != inGrace && !s.fence && !s.bypassed {
		n.bypassed = true
		out.Add(n, "legacy takes a write that bypasses the application")
	}
	for i := range s.leaders {
		f.leader(s, i, out)
	}
	if n = *s; s.phase == inGrace && s.fence && f.r.has(fenceUnknown) {
		n.fence, n.over = false, true
		n.era++
		out.Add(n, "a leader lifts a fence whose attempt is over, era %d", int(n.era))
	}
	if s.phase == inRetain && !s.repair {
		f.repairs(s, out)
	}
	f.rollback(s, out)
}

func (f *fences) leader(s *fenceState, i int, out *search.Steps[fenceState]) {
	n := *s
	switch {
	case !s.leaders[i] && s.phase == inRetain && !s.fence:
		n.leaders[i] = true
		out.Add(n, "leader %d sees retain and no fence", i)
	case s.leaders[i] && (s.over && f.r.has(fenceOver) || s.fence):
		n.leaders[i] = false
		out.Add(n, "leader %d is refused: the fence stands, or its attempt is over", i)
	case s.leaders[i]:
		n.leaders[i], n.fence, n.known = false, true, s.bypassed
		if f.r.has(fenceEra) {
			n.era = max(s.era, s.routeEra)
		} else {
			n.era++
		}
		if s.phase == inGrace && !f.r.has(fenceUnknown) {
			n.wrong = 2
		}
		out.Add(n, "leader %d raises the fence again at era %d", i, int(n.era))
	}
}

func (f *fences) repairs(s *fenceState, out *search.Steps[fenceState]) {
	n := *s
	n.repair = true
	era := max(s.era, 1) - 1
	if f.r.has(fenceRepairEra) {
		era = min(era, s.routeEra-1)
	}
	if v := (version{era, 100}); s.at.era <= era && v.newer(s.at) && s.legacy < s.state {
		n.wrong = 1
	}
	out.Add(n, "a repair reads legacy as of era %d; the target has era %d", int(era), int(s.at.era))
}

func (f *fences) rollback(s *fenceState, out *search.Steps[fenceState]) {
	n := *s
	coming := s.era + 1
	if f.r.has(fenceLift) {
		coming = max(s.era, s.routeEra) + 1
	}
	switch s.pc {
	case 0:
		if s.phase == inRetain && (s.fence || !f.r.has(fenceLook)) && !s.known {
			n.pc, n.phase = 1, inReturning
			out.Add(n, "the rollback commits returning")
		}
	case 1:
		if f.r.has(fenceCopy) && !s.fence {
			n.pc, n.phase = 0, inRetain
			if !f.r.has(fenceLook) {
				n.wrong = 5
			}
			out.Add(n, "the copy is refused: back to retain")
			return
		}
		if s.bypassed && !s.known {
			n.wrong = 3
		}
		n.legacy, n.pc, n.coming = s.state, 2, coming
		out.Add(n, "the rollback copies state %d to legacy", int(s.state))
	case 2:
		n.pc = 3
		if v := (version{s.coming, 1}); v.newer(s.at) {
			n.at = v
		}
		out.Add(n, "the rollback writes the target at era %d", int(s.coming))
	case 3:
		n.pc, n.fence, n.over, n.phase = 4, false, true, inGrace
		n.era = coming
		out.Add(n, "the rollback lifts the fence at era %d, grace", int(n.era))
	case 4:
		if s.wroteAgain || s.fence {
			return
		}
		n.wroteAgain = true
		if v := (version{s.era, 50}); v.newer(s.at) {
			n.top++
			n.at, n.state, n.legacy = v, n.top, n.top
		} else {
			n.wrong = 4
		}
		out.Add(n, "a write of grace at legacy's era %d", int(s.era))
	}
}

func (f fences) explore(r Rules) search.Result {
	f.r = r
	return machine(fenceState{fence: true, era: 2, routeEra: 2, at: version{2, 1}, state: 1, top: 1}, f.next, f.check)
}
