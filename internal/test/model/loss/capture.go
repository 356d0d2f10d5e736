package loss

import "github.com/stranglerfig/migrator/internal/test/model/search"

// The rules of change capture beside the application's own writes. A version is taken inline by
// the application, at its row's lock; capture gives the position of the commit.
const (
	captureEra Rules = 1 << iota
	captureKeeps
	captureMemory
	captureSweeps
	captureBelow
	captureOwnFirst
	captureEqual
	captureFenced
	capturePassed
)

const (
	captureOlder     = "all has landed, capture is at its end: the target has another state than legacy"
	captureMixed     = "capture is at its end: the entry has the newest small field and an old large one"
	captureReads     = "capture reads a row under its lock where only the application's own message was late"
	captureOverwrote = "capture overwrote a write of retain with a copy of an earlier one"
	captureDropped   = "a write of retain is built on a state before one that legacy took and capture had yet to bring"
	captureRevived   = "all quiet: the target shows a record that legacy has truncated, or lacks one that it has"
)

var captureWorld = World{
	Name:  "capture",
	About: "Capture is no loss, but late, and its target may go back. An era is raised beside it; a large field that a change leaves out is kept; a TRUNCATE is brought over beside writes whose messages are late.",
	Searches: []Search{
		{Bounds: "two writes of the application, one that bypasses it, one new era", States: 1949, explore: captureEras{}.explore},
		{Bounds: "three changes of a record with a large field, each of which the application writes too, or not; the target goes back once", States: 1605, explore: captureFields{lose: true}.explore},
		{Bounds: "the same, and nothing is lost", States: 313, explore: captureFields{}.explore},
		{Bounds: "a fence, two writes of retain, a write that bypasses, a round of the return, its lift", States: 90, explore: captureFences{}.explore},
		{Bounds: "one transaction that changes the row twice", States: 5, explore: captureTwice{}.explore},
		{Bounds: "one TRUNCATE, two writes", States: 283, explore: truncates{}.explore},
	},
	Rules: []Rule{
		{captureEra, "an era is raised, and its message written, in one transaction under the table's SHARE lock", captureOlder, 12, 0, ""},
		{captureMemory, "a large field that was left out is kept only if the target has the key's previous change, or a later version", captureMixed, 5, 1, ""},
		{captureKeeps, "it is kept also at an inline version between the previous change and this one", captureReads, 3, 2, ""},
		{captureSweeps, "a TRUNCATE is swept again once every not-after from before it is over", captureRevived, 4, 5, ""},
		{captureBelow, "the sweep takes only what is below the TRUNCATE's commit", captureRevived, 6, 5, ""},
		{captureOwnFirst, "the truncating transaction's own last states come before the sweep", captureRevived, 8, 5, ""},
		{captureFenced, "between a fence's message and its lift's, capture applies nothing", captureOverwrote, 7, 3, ""},
		{capturePassed, "retain is committed once capture has passed the fence's message", captureDropped, 4, 3, ""},
		{captureEqual, "at an equal version capture compares contents, and its own win", captureOlder, 3, 4, ""},
	},
}

// captureEras: an era is raised beside capture. Writers 0 and 1 are the application's; writer 2
// bypasses it.
type captureEras struct {
	r Rules
}

type captureWriter struct {
	pc     uint8 // 1 has the row's lock, 2 committed, 3 its message has landed
	inline version
	state  uint8
}

type captureEraState struct {
	position, era uint8
	message       uint8 // the position of the new era's message; 0: none
	raised, sent  bool
	holder        uint8 // of the row's lock, plus one
	row, top      uint8
	at            version
	state         uint8
	w             [3]captureWriter
	captured      uint8
	log           [10]uint8 // the state that was committed at each position
}

func (c *captureEras) check(s *captureEraState) string {
	for i, w := range s.w {
		if w.pc == 1 || w.pc == 2 && i != 2 {
			return ""
		}
	}
	if s.captured == s.position && s.raised == s.sent && s.state != s.row {
		return captureOlder
	}
	return ""
}

func (c *captureEras) next(s *captureEraState, out *search.Steps[captureEraState]) {
	for i := range s.w {
		n := *s
		w := &n.w[i]
		switch s.w[i].pc {
		case 0:
			if s.holder != 0 {
				continue
			}
			n.position++
			w.pc, w.inline, n.holder = 1, version{s.era, n.position}, uint8(i)+1
			out.Add(n, "writer %d has the row's lock, inline version %d.%d", i, int(s.era), int(n.position))
		case 1:
			n.position++
			n.top++
			w.pc, w.state = 2, n.top
			n.row, n.log[n.position], n.holder = n.top, n.top, 0
			out.Add(n, "writer %d commits state %d at %d", i, int(n.top), int(n.position))
		case 2:
			if i == 2 {
				continue
			}
			if w.inline.newer(s.at) {
				n.at, n.state = w.inline, w.state
			}
			w.pc = 3
			out.Add(n, "writer %d's message of %d.%d has landed", i, int(w.inline.era), int(w.inline.n))
		}
	}
	n := *s
	switch {
	case s.sent:
	case c.r.has(captureEra):
		if s.holder == 0 {
			n.position++
			n.sent, n.message, n.raised, n.era = true, n.position, true, 2
			out.Add(n, "era 2, and its message at %d, under the lock", int(n.position))
		}
	case !s.raised:
		n.raised, n.era = true, 2
		out.Add(n, "era 2 is given out")
	default:
		n.position++
		n.sent, n.message = true, n.position
		out.Add(n, "the message of era 2 commits at %d", int(n.position))
	}
	c.capture(s, out)
}

func (c *captureEras) capture(s *captureEraState, out *search.Steps[captureEraState]) {
	if s.captured == s.position {
		return
	}
	n := *s
	n.captured++
	state := s.log[n.captured]
	if state == 0 {
		out.Add(n, "capture passes %d", int(n.captured))
		return
	}
	v := version{1, n.captured}
	if s.message != 0 && s.message < n.captured {
		v.era = 2
	}
	if v.newer(s.at) {
		n.at, n.state = v, state
	}
	out.Add(n, "capture brings state %d at %d.%d", int(state), int(v.era), int(v.n))
}

func (c captureEras) explore(r Rules) search.Result {
	c.r = r
	return machine(captureEraState{position: 1, captured: 1, era: 1, at: version{1, 1}}, c.next, c.check)
}

// captureFields: the row has a small field, which each change sets, and a large one, which a
// change that does not set it leaves out.
type captureFields struct {
	r    Rules
	lose bool
}

type captureChange struct {
	small, large uint8 // what the row had then, by the change that set it
	commit       uint8
	sets         bool // the large field
	inline       bool // the application's own message may still land, one position before
}

type captureFieldState struct {
	top, small, large  uint8 // legacy's row
	position           uint8
	at, tSmall, tLarge uint8 // the target's version and fields
	log                [3]captureChange
	n, captured        uint8
	previous           uint8 // the key's previous change, as capture remembers it
	lost, reads        bool
}

func (c *captureFields) check(s *captureFieldState) string {
	switch {
	case s.reads && !c.lose:
		return captureReads
	case s.captured == s.n && s.tSmall == s.small && s.tLarge != s.large:
		return captureMixed
	}
	return ""
}

func (c *captureFields) next(s *captureFieldState, out *search.Steps[captureFieldState]) {
	if int(s.n) < len(s.log) {
		for _, sets := range []bool{false, true} {
			n := *s
			n.top++
			n.small = n.top
			what := "change %d leaves out the large field, commit at %d"
			if sets {
				n.large = n.top
				what = "change %d sets the large field, commit at %d"
			}
			n.position += 2
			n.log[n.n] = captureChange{n.small, n.large, n.position, sets, true}
			n.n++
			out.Add(n, what, int(n.top), int(n.position))
		}
	}
	for i := range s.log {
		change := s.log[i]
		if !change.inline {
			continue
		}
		n := *s
		n.log[i].inline = false
		if c.lose {
			out.Add(n, "the application's message of change %d is lost", i+1)
		}
		if change.commit-1 > s.at {
			n.at, n.tSmall, n.tLarge = change.commit-1, change.small, change.large
		}
		out.Add(n, "the application's message of change %d has landed", i+1)
	}
	if s.captured < s.n {
		c.capture(s, out)
	}
	if c.lose && !s.lost && s.at > 0 {
		n := *s
		n.lost = true
		n.at, n.tSmall, n.tLarge = 0, 0, 0
		out.Add(n, "the target goes back to its first state of the key")
	}
}

func (c *captureFields) capture(s *captureFieldState, out *search.Steps[captureFieldState]) {
	n := *s
	change := s.log[s.captured]
	n.captured++
	n.previous = change.commit
	keeps := s.at <= change.commit
	if c.r.has(captureMemory) {
		keeps = keeps && s.at >= s.previous
	}
	if !c.r.has(captureKeeps) {
		keeps = s.at == s.previous
	}
	switch {
	case change.commit <= s.at:
		out.Add(n, "capture's change at %d is older than %d", int(change.commit), int(s.at))
	case change.sets:
		n.at, n.tSmall, n.tLarge = change.commit, change.small, change.large
		out.Add(n, "capture brings both fields at %d", int(change.commit))
	case keeps:
		n.at, n.tSmall = change.commit, change.small
		out.Add(n, "capture brings the small field at %d, and keeps the large one of version %d", int(change.commit), int(s.at))
	default:
		n.position++
		n.at, n.tSmall, n.tLarge, n.reads = n.position, s.small, s.large, true
		out.Add(n, "capture reads the row under its lock, at %d", int(n.position))
	}
}

func (c captureFields) explore(r Rules) search.Result {
	c.r = r
	return machine(captureFieldState{}, c.next, c.check)
}
