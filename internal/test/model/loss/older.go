package loss

import "github.com/stranglerfig/migrator/internal/test/model/search"

// The rules of a write that the target refuses as older than what it has. Legacy may have gone
// back: a crash that lost commits, between writes and within them.
const (
	olderSettled Rules = 1 << iota
	olderMemory
	olderAsked
	olderEqual
	olderRaised
	olderMark
)

const (
	olderHidden  = "all quiet: a write made and acknowledged after legacy went back is hidden below an older one in the target"
	olderDiffer  = "all quiet: the target has a state that legacy has lost, and the migration is clean"
	olderEndless = "the era is raised again and again"
)

var olderWorld = World{
	Name:  "older",
	About: "Legacy goes back in its position and its rows, between writes and within them.",
	Searches: []Search{
		{Bounds: "two writers in two processes, other traffic, one crash; no message from before it lands after it", States: 24284, explore: older{writers: 2, positions: 7, settled: true}.explore},
		{Bounds: "two writers, late messages too, and legacy's mark", States: 42896, explore: older{writers: 2, positions: 7, mark: true}.explore},
		{Bounds: "three writers; no message from before the crash lands after it", States: 2170549, Long: true, explore: older{writers: 3, positions: 9, settled: true}.explore},
		{Bounds: "three writers, late messages too, and legacy's mark", States: 4681128, Long: true, explore: older{writers: 3, positions: 9, mark: true}.explore},
	},
	Rules: []Rule{
		{olderSettled, "a write refused as older is settled by legacy's row, read under its lock with its version", olderHidden, 8, 0, "older-settled"},
		{olderMemory, "the version that the process remembers proves nothing", olderHidden, 8, 0, "older-settled"},
		{olderAsked, "a position that legacy is asked for later proves nothing", olderHidden, 8, 0, "older-settled"},
		{olderEqual, "the same version is settled as an older one", olderHidden, 8, 0, "older-settled"},
		{olderRaised, "if the locked row is not newer either, the era is raised, and the migration is unclean", olderHidden, 9, 0, "ahead-era"},
		{olderMark, "a mark of legacy that is gone raises the era, and the migration is unclean", olderDiffer, 4, 1, "legacy-lost"},
	},
}

type older struct {
	r         Rules
	writers   int
	positions uint8
	settled   bool // no message from before the crash lands after it
	mark      bool // the leader looks at legacy's mark
}

type olderWriter struct {
	pc     uint8 // 1 begun, 2 committed, 3 refused as older, 4 done
	state  uint8
	at     version
	refuse version // what the target had
	undone bool    // legacy has lost it
}

type olderState struct {
	position, era, row, top uint8
	flushed, flushedRow     uint8 // what a crash leaves
	crashed                 bool
	before                  uint8 // the highest state from before the crash
	unclean                 bool
	at                      version
	state                   uint8 // in the target
	remembered              [2]version
	w                       [3]olderWriter
	journal                 bool
	acked                   uint8
	raised                  uint8
}

func (o *older) check(s *olderState) string {
	if s.raised > 6 {
		return olderEndless
	}
	for _, w := range s.w {
		if w.pc != 0 && w.pc != 4 {
			return ""
		}
	}
	switch {
	case s.journal || s.unclean || s.state == s.row || o.mark && s.crashed && o.r.has(olderMark):
		return ""
	case s.acked == s.row && s.row > s.before:
		return olderHidden
	case o.mark:
		return olderDiffer
	}
	return ""
}

// raise is the raising of the era above what the target has.
func (o *older) raise(n *olderState, above version) {
	n.era = max(n.era, above.era) + 1
	n.raised++
	n.unclean = true
}

func (o *older) next(s *olderState, out *search.Steps[olderState]) {
	for i := range o.writers {
		o.writer(s, i, out)
	}
	if s.journal {
		o.repair(s, out)
	}
	if s.position < o.positions {
		n := *s
		n.position++
		out.Add(n, "other traffic moves legacy to %d", int(n.position))
	}
	if n := *s; s.crashed {
		if o.mark && !s.unclean && o.r.has(olderMark) {
			o.raise(&n, s.at)
			out.Add(n, "the leader finds legacy's mark gone: era %d, unclean", int(n.era))
		}
		return
	}
	if n := *s; s.flushed != s.position || s.flushedRow != s.row {
		n.flushed, n.flushedRow = s.position, s.row
		out.Add(n, "what legacy has is on its disk, up to %d", int(s.position))
	}
	if s.position > s.flushed {
		o.crash(s, out)
	}
}

func (o *older) crash(s *olderState, out *search.Steps[olderState]) {
	n := *s
	n.crashed, n.before = true, s.top
	n.position, n.row = s.flushed, s.flushedRow
	n.acked = min(n.acked, n.row)
	for i := range n.w {
		if w := &n.w[i]; w.pc == 2 || w.pc == 3 {
			w.undone = w.state > n.row
		}
	}
	out.Add(n, "legacy crashes and goes back to %d, the row to state %d", int(n.position), int(n.row))
}

func (o *older) writer(s *olderState, i int, out *search.Steps[olderState]) {
	w := s.w[i]
	n := *s
	me := &n.w[i]
	remembered := &n.remembered[i%2]
	done := func(format string, args ...int) {
		*me = olderWriter{pc: 4}
		out.Add(n, format, append([]int{i}, args...)...)
	}
	acknowledged := func() {
		if !w.undone {
			n.acked = max(n.acked, w.state)
		}
	}
	switch w.pc {
	case 0:
		me.pc = 1
		out.Add(n, "writer %d begins", i)
	case 1:
		if s.position >= o.positions {
			return
		}
		n.position++
		n.top++
		n.row = n.top
		me.pc, me.state, me.at = 2, n.top, version{s.era, n.position}
		if me.at.newer(*remembered) {
			*remembered = me.at
		}
		out.Add(n, "writer %d commits state %d at %d.%d", i, int(n.top), int(s.era), int(n.position))
	case 2:
		switch {
		case o.settled && w.undone:
			done("writer %d's message is lost")
		case w.at.newer(s.at):
			n.at, n.state = w.at, w.state
			acknowledged()
			done("writer %d's message lands: acknowledged")
		default:
			me.pc, me.refuse = 3, s.at
			out.Add(n, "writer %d is refused: the target has %d.%d", i, int(s.at.era), int(s.at.n))
		}
	case 3:
		present := version{s.era, s.position}
		switch {
		case !o.r.has(olderSettled):
			acknowledged()
			done("writer %d counts that as success: acknowledged")
		case !o.r.has(olderMemory) && !w.refuse.newer(*remembered):
			acknowledged()
			done("writer %d's process remembers such a version: acknowledged")
		case !o.r.has(olderAsked) && !w.refuse.newer(present):
			acknowledged()
			done("writer %d: legacy's position is %d by now: acknowledged", int(s.position))
		case !o.r.has(olderEqual) && w.refuse == w.at:
			acknowledged()
			done("writer %d finds its own version: acknowledged")
		default:
			n.journal = true
			acknowledged()
			done("writer %d's record is to be settled")
		}
	}
}

// repair settles: it reads the row under its lock, with its version.
func (o *older) repair(s *olderState, out *search.Steps[olderState]) {
	n := *s
	v := version{s.era, s.position}
	switch {
	case v.newer(s.at), v == s.at && s.state == s.row:
		n.at, n.state, n.journal = v, s.row, false
		out.Add(n, "the row is read at %d.%d and applied", int(v.era), int(v.n))
	case o.r.has(olderRaised):
		o.raise(&n, s.at)
		out.Add(n, "the row is read at %d.%d, which is not newer: era %d, unclean", int(v.era), int(v.n), int(n.era))
	default:
		n.journal = false
		out.Add(n, "the row is read at %d.%d, which is not newer", int(v.era), int(v.n))
	}
}

func (o older) explore(r Rules) search.Result {
	o.r = r
	return machine(olderState{position: 1, era: 1, flushed: 1, at: version{1, 1}}, o.next, o.check)
}
