package loss

import "github.com/stranglerfig/migrator/internal/test/model/search"

// The rules of raising legacy's era.
const (
	eraLocked Rules = 1 << iota
	eraTimeline
	eraRefused
)

const (
	eraBack    = "the era goes back: every write of legacy is refused by what the target has"
	eraBehind  = "the old primary's state is above the promoted server's era"
	eraStarted = "legacy's era is above the fence's while it stands: what a repair reads beats the writes of retain"
)

var eraWorld = World{
	Name:  "era",
	About: "Who raises legacy's era: beside a fence and its lifting, and on an old primary beside the server that was promoted in its place.",
	Searches: []Search{
		{Bounds: "two that raise it, beside a fence and its lifting", States: 45, explore: raisers{}.explore},
		{Bounds: "a promoted standby and its old primary, three writes", States: 79, explore: primaries{}.explore},
	},
	Rules: []Rule{
		{eraLocked, "the era is read and raised under the lock of the fence's row", eraBack, 4, 0, "raise-locked"},
		{eraTimeline, "it is not raised above a version of a later timeline than the server's", eraBehind, 5, 1, "raise-behind"},
		{eraRefused, "it is not raised while a fence stands", eraStarted, 3, 0, "raise-locked"},
	},
}

// raisers read the era and set it, beside a fence and its lifting, which hold the row's lock.
type raisers struct {
	r Rules
}

type raiserState struct {
	era, highest uint8
	pc, saw      [2]uint8
	fence        uint8 // 1 raised, 2 lifted
	holder       uint8 // of the row's lock, plus one
	above        bool
}

func (g *raisers) check(s *raiserState) string {
	switch {
	case s.era < s.highest:
		return eraBack
	case s.above:
		return eraStarted
	}
	return ""
}

func (g *raisers) next(s *raiserState, out *search.Steps[raiserState]) {
	locked := g.r.has(eraLocked)
	for i := range s.pc {
		n := *s
		switch {
		case s.pc[i] == 0 && s.fence == 1 && g.r.has(eraRefused):
			n.pc[i] = 2
			out.Add(n, "raiser %d is refused: a fence stands", i)
		case s.pc[i] == 0 && (!locked || s.holder == 0):
			n.pc[i], n.saw[i] = 1, s.era
			if locked {
				n.holder = uint8(i) + 1
			}
			out.Add(n, "raiser %d reads era %d", i, int(s.era))
		case s.pc[i] == 1:
			n.pc[i], n.era, n.holder = 2, s.saw[i]+1, 0
			n.highest = max(s.highest, n.era)
			n.above = s.fence == 1 && locked
			out.Add(n, "raiser %d sets era %d", i, int(n.era))
		}
	}
	if s.fence < 2 && s.holder == 0 {
		n := *s
		n.fence++
		n.era++
		n.highest = max(s.highest, n.era)
		out.Add(n, [...]string{"the fence sets era %d", "its lifting sets era %d"}[s.fence], int(n.era))
	}
}

func (g raisers) explore(r Rules) search.Result {
	g.r = r
	return machine(raiserState{era: 1, highest: 1}, g.next, g.check)
}

// primaries are two: a standby was promoted (timeline 2), and one writer still writes to the
// old primary (timeline 1).
type primaries struct {
	r Rules
}

type timelineVersion struct {
	timeline uint8
	version
}

func (v timelineVersion) newer(w timelineVersion) bool {
	if v.era != w.era || v.timeline == w.timeline {
		return v.version.newer(w.version)
	}
	return v.timeline > w.timeline
}

type primaryState struct {
	era, position, row [2]uint8 // of the promoted server, and of the old primary
	at                 timelineVersion
	state, top         uint8
	pc, seq            [3]uint8
	v                  [3]timelineVersion
	raised             uint8
}

func (g *primaries) check(s *primaryState) string {
	if s.at.timeline == 1 && s.at.era > s.era[0] {
		return eraBehind
	}
	return ""
}

func (g *primaries) next(s *primaryState, out *search.Steps[primaryState]) {
	for i := range s.pc {
		server := i % 2 // writer 1 writes to the old primary
		present := timelineVersion{2 - uint8(server), version{s.era[server], s.position[server]}}
		n := *s
		switch {
		case s.pc[i] == 0:
			n.position[server]++
			n.top++
			n.row[server], n.seq[i], n.pc[i] = n.top, n.top, 1
			present.n++
			n.v[i] = present
			out.Add(n, "writer %d commits state %d on server %d", i, int(n.top), server)
		case s.pc[i] == 2:
		case s.v[i].newer(s.at):
			n.at, n.state, n.pc[i] = s.v[i], s.seq[i], 2
			out.Add(n, "writer %d's message lands at era %d, timeline %d", i, int(n.at.era), int(n.at.timeline))
		case !s.at.newer(present):
			n.pc[i] = 2
			out.Add(n, "writer %d is refused as older, and settled", i)
		case s.at.timeline > present.timeline && g.r.has(eraTimeline):
			n.pc[i] = 2
			out.Add(n, "writer %d meets a later timeline: this server is the one behind, the write fails", i)
		case s.raised < 3:
			n.raised++
			n.era[server] = s.at.era + 1
			present.era = n.era[server]
			n.v[i], n.seq[i] = present, s.row[server]
			out.Add(n, "writer %d meets what is above server %d's present: era %d there", i, server, int(present.era))
		}
	}
}

func (g primaries) explore(r Rules) search.Result {
	g.r = r
	return machine(primaryState{era: [2]uint8{1, 1}, position: [2]uint8{1, 5}, at: timelineVersion{1, version{1, 1}}}, g.next, g.check)
}
