package loss

import "github.com/stranglerfig/migrator/internal/test/model/search"

// captureFences: capture is late beside a fence. States are sets of writes, as bits.
type captureFences struct {
	r Rules
}

type captureFenceState struct {
	phase        uint8 // 0 grace, fence raised or not; then as of inRetain + 1
	fence        uint8 // the position of its message; 0: not raised
	lift         uint8
	position     uint8
	legacy       uint8
	at           version
	target       uint8
	acked        uint8
	log          [8]uint8 // by position: the state plus one
	captured     uint8
	wrote, round uint8
	bypassed     bool
	overwrote    bool
}

func (c *captureFences) check(s *captureFenceState) string {
	switch {
	case s.overwrote:
		return captureOverwrote
	case s.phase >= 1 && s.wrote > 0 && s.acked&^s.target != 0:
		return captureDropped
	}
	return ""
}

func (c *captureFences) next(s *captureFenceState, out *search.Steps[captureFenceState]) {
	n := *s
	if s.fence == 0 && !s.bypassed {
		n.bypassed = true
		n.position++
		n.legacy |= 1
		n.acked |= 1
		n.log[n.position] = n.legacy + 1
		out.Add(n, "legacy takes a write that bypasses the application, at %d", int(n.position))
	}
	n = *s
	switch {
	case s.fence == 0:
		n.position++
		n.fence = n.position
		out.Add(n, "the fence is raised, era 2, its message at %d", int(n.fence))
	case s.phase == 0 && (s.captured >= s.fence || !c.r.has(capturePassed)):
		n.phase = 1
		out.Add(n, "retain is committed")
	case s.phase == 1:
		c.retain(s, out)
	}
	if s.captured < s.position {
		c.capture(s, out)
	}
}

func (c *captureFences) retain(s *captureFenceState, out *search.Steps[captureFenceState]) {
	if s.wrote < 2 {
		n := *s
		n.wrote++
		n.target |= 1 << n.wrote
		n.acked |= 1 << n.wrote
		if s.at.era < 2 {
			n.at = version{2, 0}
		}
		n.at.n++
		out.Add(n, "a write of retain at 2.%d", int(n.at.n))
	}
	if s.round < 2 && s.wrote > 0 {
		n := *s
		n.round++
		n.position++
		n.legacy = s.target
		n.log[n.position] = n.legacy + 1
		out.Add(n, "a round copies the record to legacy, at %d", int(n.position))
	}
	if s.lift == 0 && s.legacy == s.target {
		n := *s
		n.phase = 2
		n.position++
		n.lift = n.position
		n.at = version{3, 0}
		out.Add(n, "the return writes the target at era 3 and lifts the fence, its message at %d", int(n.lift))
	}
}

func (c *captureFences) capture(s *captureFenceState, out *search.Steps[captureFenceState]) {
	n := *s
	n.captured++
	at := n.captured
	state := s.log[at]
	fenced := s.fence != 0 && at > s.fence && (s.lift == 0 || at < s.lift)
	if state == 0 || fenced && c.r.has(captureFenced) {
		out.Add(n, "capture passes %d", int(at))
		return
	}
	v := version{1, 100 + at}
	if s.fence != 0 && at > s.fence {
		v.era = 2
	}
	if s.lift != 0 && at > s.lift {
		v.era = 3
	}
	if v.newer(s.at) {
		n.overwrote = s.target&^(state-1) != 0
		n.at, n.target = v, state-1
	}
	out.Add(n, "capture brings what was committed at %d", int(at))
}

func (c captureFences) explore(r Rules) search.Result {
	c.r = r
	return machine(captureFenceState{at: version{1, 1}}, c.next, c.check)
}

// captureTwice: one transaction changes the row twice, and its closure returns the first state
// with the version of a later statement, which is that of the commit.
type captureTwice struct {
	r Rules
}

type captureTwiceState struct {
	committed, landed, captured bool
	at, state                   uint8
}

func (c *captureTwice) check(s *captureTwiceState) string {
	if s.landed && s.captured && s.state != 2 {
		return captureOlder
	}
	return ""
}

func (c *captureTwice) next(s *captureTwiceState, out *search.Steps[captureTwiceState]) {
	n := *s
	if !s.committed {
		n.committed = true
		out.Add(n, "the transaction commits state 2; its closure returns state 1 at the same version")
		return
	}
	if !s.landed {
		n.landed = true
		if s.at == 0 {
			n.at, n.state = 1, 1
		}
		out.Add(n, "the application's message has landed")
	}
	if n = *s; !s.captured {
		n.captured = true
		if s.at == 0 || c.r.has(captureEqual) {
			n.at, n.state = 1, 2
		}
		out.Add(n, "capture brings state 2 at that version")
	}
}

func (c captureTwice) explore(r Rules) search.Result {
	c.r = r
	return machine(captureTwiceState{}, c.next, c.check)
}
