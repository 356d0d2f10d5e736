package loss

import "github.com/stranglerfig/migrator/internal/test/model/search"

// The rules of a return in which a person decides about a record: the target has lost it, or
// legacy refuses it.
const (
	acceptStays Rules = 1 << iota
	acceptNumber
	acceptBothLack
	acceptUnknown
	acceptSettled
	acceptAsideTarget
	acceptLast
	acceptVoid
	acceptGiveUpEra
	acceptDecideFirst
	acceptUnclean
)

const (
	acceptDeleted  = "legacy's row of a record that the target has lost was deleted"
	acceptUnseen   = "a lost record was left that no person accepted"
	acceptHeld     = "the return can't end: a key that was dealt with holds it open"
	acceptListed   = "a refused write leaves its key in the return journal"
	acceptOlder    = "retain serves an older state than one that was acknowledged"
	acceptRefused  = "in retain a write is refused for good: the key's era is above the route's"
	acceptLossless = "grace: an acknowledged write is in no store and was not set aside, and no person accepted its loss"
	acceptDiffer   = "grace, all quiet: the stores differ, nothing journaled, not unclean"
)

var acceptWorld = World{
	Name:  "accept",
	About: "A return in which a person decides: the target has lost records, and their number is accepted; legacy refuses a row, and it is set aside; the return is given up.",
	Searches: []Search{
		{Bounds: "one return, given up once; two writes, one loss, restored once; legacy may refuse the row", States: 178734, explore: accept{writers: 2}.explore},
	},
	Rules: []Rule{
		{acceptStays, "legacy's row stays where the target lacks the record without a version", acceptDeleted, 8, 0, "return-lost"},
		{acceptNumber, "a person accepts a number of lost records: the one that was counted", acceptUnseen, 8, 0, "return-lost"},
		{acceptBothLack, "a listed key that both stores lack gets a tombstone in the target, at the coming era", acceptDiffer, 10, 0, "return-era"},
		{acceptUnknown, "after a loss of the target, such a key is counted and accepted as a lost one is", acceptLossless, 12, 0, ""},
		{acceptSettled, "a key that was accepted or set aside is settled, as a copied one", acceptHeld, 8, 0, "return-final"},
		{acceptAsideTarget, "the target's entry of a key that was set aside becomes legacy's state", acceptDiffer, 10, 0, "return-aside"},
		{acceptLast, "what a person decided about is written to the target last; after that the return can't be given up", acceptOlder, 10, 0, "return-final"},
		{acceptVoid, "giving up voids what was accepted and set aside", acceptLossless, 13, 0, "return-final"},
		{acceptGiveUpEra, "giving up begins a new era in legacy, which the route carries", acceptRefused, 11, 0, "return-given-up"},
		{acceptDecideFirst, "a write lists its key after its update has agreed", acceptListed, 3, 0, ""},
		{acceptUnclean, "a loss, accepted or found before the lift, marks the migration unclean", acceptDiffer, 12, 0, "return-lost"},
	},
}

const (
	inRetain uint8 = iota
	inReturning
	inGrace
)

// presence is what a store has of the key.
type presence uint8

const (
	nothing presence = iota // not even a version
	live
	tombstone
)

// settledAs is how a return has dealt with the key.
type settledAs uint8

const (
	open settledAs = iota
	copied
	accepted
	aside
)

type acceptWriter struct {
	pc      uint8 // 1 begun, 2 has read, 3 listed: may swap; 4 listed first
	era     uint8
	only    version
	has     presence
	late    bool // its not-after has passed
	drained bool // its caller got an error when writes were drained
}

type acceptState struct {
	phase, routeEra, legacyEra uint8
	refuses                    bool  // legacy refuses the key's row of retain
	legacy                     uint8 // the row's state; 0: no row
	at                         version
	has                        presence
	state                      uint8 // in the target
	top, acked                 uint8

	listed  bool
	change  uint8 // the change that the entry stands for
	settled settledAs
	settles uint8 // the change that was settled
	asideOf uint8 // the state in the table of what was set aside
	allowed bool  // one lost record is accepted
	unclean bool
	past    bool // the return can't be given up any more
	written bool // what a person decided about is written to the target

	lost, restored bool
	lostAt         version
	lostState      uint8
	known          bool // a person was shown this loss and accepted it
	wrote          bool // some write of the stay was made, or may have been
	gaveUp         bool

	pc    uint8 // the controller: 1 returning, 2 has read, 3 copied, 4 about to write the target, 5 past
	read  version
	rHas  presence
	rSeq  uint8
	w     [2]acceptWriter
	wrong uint8
}

type accept struct {
	r       Rules
	writers int
}

func (a *accept) check(s *acceptState) string {
	if s.wrong != 0 {
		return [...]string{1: acceptDeleted, acceptUnseen, acceptHeld, acceptRefused}[s.wrong]
	}
	idle, landed := true, true
	for i := range s.w {
		w := &s.w[i]
		idle = idle && w.pc == 0
		landed = landed && (w.pc == 0 || w.late)
	}
	if s.phase == inRetain && idle && s.listed && !s.wrote && s.change > 0 {
		return acceptListed
	}
	if s.phase == inRetain && s.has != nothing && s.state < s.acked && (!s.lost || s.restored) {
		return acceptOlder
	}
	if s.phase != inGrace {
		return ""
	}
	if s.legacy < s.acked && s.asideOf < s.acked && !s.known {
		return acceptLossless
	}
	shown := s.state
	if s.has != live {
		shown = 0
	}
	if s.has == nothing { // a miss in grace asks legacy
		shown = s.legacy
	}
	if landed && shown != s.legacy && !s.unclean {
		return acceptDiffer
	}
	return ""
}

func (a *accept) next(s *acceptState, out *search.Steps[acceptState]) {
	if s.top == 0 { // how the world begins
		for _, row := range []uint8{0, 1} {
			for _, refuses := range []bool{false, true} {
				n := *s
				n.top, n.legacy, n.refuses = 1, row, refuses
				if row == 1 {
					n.at, n.has, n.state, n.acked = version{1, 1}, live, 1, 1
				}
				what := "both stores have state %d at the fence"
				if refuses {
					what = "both stores have state %d at the fence; legacy will refuse what retain makes of it"
				}
				out.Add(n, what, int(row))
			}
		}
		return
	}
	for i := range a.writers {
		a.write(s, i, out)
	}
	a.controller(s, out)
	if s.has != nothing && !s.lost && s.phase != inGrace {
		n := *s
		n.lost, n.lostAt, n.lostState = true, s.at, s.state
		n.at, n.has, n.state = version{}, nothing, 0
		out.Add(n, "the target loses the record, with its version")
	}
	if s.lost && !s.restored && s.has == nothing && s.phase == inRetain {
		n := *s
		n.restored = true
		n.at, n.has, n.state = s.lostAt, live, s.lostState
		out.Add(n, "the target's data is restored: state %d", int(s.lostState))
	}
}

func (a *accept) write(s *acceptState, i int, out *search.Steps[acceptState]) {
	w := s.w[i]
	step := func(format string, change func(n *acceptState, w *acceptWriter), args ...int) {
		n := *s
		change(&n, &n.w[i])
		if n.w[i].pc == 0 {
			n.w[i] = acceptWriter{}
		}
		out.Add(n, format, append([]int{i}, args...)...)
	}
	lists := func(n *acceptState) { n.listed, n.change = true, n.change+1 }
	refused := func(_ *acceptState, w *acceptWriter) { w.pc = 0 }
	if w.pc == 3 && !w.late {
		step("not-after of write %d passes", func(_ *acceptState, w *acceptWriter) { *w = acceptWriter{pc: 3, late: true} })
	}
	switch {
	case w.late:
	case w.pc == 0:
		if s.phase == inRetain && s.top < 3 {
			if a.r.has(acceptDecideFirst) {
				step("write %d begins", func(_ *acceptState, w *acceptWriter) { w.pc, w.era = 1, s.routeEra })
			} else {
				step("write %d lists its key", func(n *acceptState, w *acceptWriter) { w.pc, w.era = 4, s.routeEra; lists(n) })
			}
		}
	case w.pc == 1 || w.pc == 4:
		switch {
		case s.has == nothing && s.legacy != 0:
			step("write %d finds nothing, and legacy's row: ErrTargetLost", refused)
		case s.at.era > w.era:
			step("write %d finds era %d above its route's", func(n *acceptState, w *acceptWriter) {
				if w.era == n.routeEra {
					n.wrong = 4
				}
				w.pc = 0
			}, int(s.at.era))
		default:
			step("write %d reads the target", func(_ *acceptState, w *acceptWriter) {
				w.pc, w.only, w.has = w.pc+1, s.at, s.has
				if w.pc == 5 {
					w.pc = 2
				}
			})
		}
		if w.pc == 4 {
			step("the application's update refuses write %d", refused)
		}
	case w.pc == 2:
		step("write %d lists its key and is sent", func(n *acceptState, w *acceptWriter) { w.pc = 3; lists(n); n.wrote = true })
		step("the application's update refuses write %d", refused)
	case w.pc == 3:
		if s.at != w.only || s.has != w.has {
			if !w.drained {
				step("write %d finds the record changed", func(_ *acceptState, w *acceptWriter) { w.pc, w.only, w.has = 1, version{}, nothing })
			}
			return
		}
		what := "write %d swaps in state %d, acknowledged"
		if w.drained {
			what = "a late message of write %d lands, state %d; its caller got an error"
		}
		step(what, func(n *acceptState, w *acceptWriter) {
			n.top++
			n.state, n.has = n.top, live
			if w.only.era < w.era {
				n.at = version{w.era, 1}
			} else {
				n.at.n++
			}
			if !w.drained {
				n.acked = n.top
			}
			w.pc = 0
		}, int(s.top)+1)
	}
}
