package loss

import "github.com/stranglerfig/migrator/internal/test/model/search"

// The rules of a miss: the target has neither the record nor a version of it.
const (
	missAsks Rules = 1 << iota
	missFenced
	missWrites
	missAlone
	missError
	missTombstone
	missSecond
	missDeadline
	missJournal
	missLast
)

const (
	missNotFound = "a read answers not found, and legacy has the acknowledged record"
	missHidden   = "a write is built on absence and acknowledged, and legacy has the record that the target has lost"
	missFalse    = "nothing was lost, and the target counts as having lost a record"
	missStale    = "nothing was lost, and a read is stale"
)

var missWorld = World{
	Name:  "miss",
	About: "The target loses a record with its version, beside reads, writes, deletes and a tombstone that expires; and how such a miss is confirmed as a lost record.",
	Searches: []Search{
		{Bounds: "grace: two writers with four writes, one reader, one loss; a tombstone expires", States: 45533, explore: misses{}.explore},
		{Bounds: "retain: the same, with a round of the return", States: 259849, explore: misses{retain: true}.explore},
		{Bounds: "confirmation of a lost record: two writes, one repair, one loss", States: 2214, explore: confirm{}.explore},
	},
	Rules: []Rule{
		{missAsks, "in cutover and grace a miss asks legacy", missNotFound, 4, 0, "miss-asks-legacy"},
		{missFenced, "from fenced to returning a read that misses looks into fenced legacy", missNotFound, 4, 1, "miss-fenced"},
		{missWrites, "a write of retain that reads absence without a version does so too", missHidden, 6, 1, "miss-fenced"},
		{missAlone, "a miss is judged without the return journal", missFalse, 6, 1, ""},
		{missError, "a legacy that can't be asked makes the read an error", missNotFound, 5, 0, "miss-asks-legacy"},
		{missTombstone, "a delete leaves its version; in retain for good", missFalse, 7, 1, "tombstone"},
		{missSecond, "a lost record is confirmed by a second look that finds the same row in legacy", missFalse, 3, 2, "lost-confirmed"},
		{missDeadline, "the second look is past the time in which a write ends in the target or in the journal", missFalse, 7, 2, "lost-confirmed"},
		{missJournal, "the second look finds the key in no journal", missFalse, 9, 2, "lost-confirmed"},
		{missLast, "the second look ends at the target, which still lacks the record, after the journal", missFalse, 12, 2, "lost-confirmed"},
	},
}

// misses is one key with readers and writers. States of the key are numbered; gone has those
// that are absence, as bits.
type misses struct {
	r      Rules
	retain bool
}

type missWriter struct {
	pc     uint8 // 1 grace: legacy has it; 2 retain: begun, 3 has read, 4 has listed
	del    bool
	state  uint8
	at     uint8
	has    presence
	hidden bool // it read absence where legacy has the record
}

type missState struct {
	started        bool
	legacy         uint8
	at             uint8
	has            presence
	state          uint8
	top, acked     uint8
	gone           uint8
	listed, copied bool
	lost, expired  bool
	down           bool // legacy can't be asked
	reads          uint8
	floor          uint8 // what was acknowledged when the read missed, plus one
	w              [2]missWriter
	wrong          uint8
}

func (m *misses) check(s *missState) string {
	return [...]string{"", missNotFound, missHidden, missFalse, missStale}[s.wrong]
}

func (s *missState) deleted(state uint8) bool { return s.gone>>state&1 != 0 }

func (m *misses) next(s *missState, out *search.Steps[missState]) {
	n := *s
	if !s.started {
		n.started = true
		n.gone = 1
		out.Add(n, "both stores lack the key")
		n.gone, n.has, n.at = 0, live, 1
		out.Add(n, "both stores have the key")
		return
	}
	for i := range s.w {
		if m.retain {
			m.retained(s, i, out)
		} else {
			m.written(s, i, out)
		}
	}
	m.read(s, out)
	if s.has != nothing && !s.lost {
		n := *s
		n.lost, n.has, n.at = true, nothing, 0
		out.Add(n, "the target loses the record, with its version")
	}
	idle := s.w[0].pc == 0 && s.w[1].pc == 0
	if !m.retain && s.has == tombstone && !s.expired && idle {
		n := *s
		n.expired, n.has, n.at = true, nothing, 0
		out.Add(n, "the tombstone expires")
	}
	if m.retain && s.listed && !s.copied && s.has != nothing && idle {
		n := *s
		n.copied, n.legacy = true, s.state
		out.Add(n, "a round copies state %d to legacy", int(s.state))
	}
	if !m.retain && !s.down {
		n := *s
		n.down = true
		out.Add(n, "legacy can't be asked")
	}
}

func (m *misses) lands(n *missState, del bool) {
	n.has = live
	if del {
		n.has = tombstone
		if !m.r.has(missTombstone) {
			n.has, n.at = nothing, 0
		}
	}
}

// written is a write of grace: legacy, then the target.
func (m *misses) written(s *missState, i int, out *search.Steps[missState]) {
	w := s.w[i]
	if w.pc == 0 && s.top < 4 && !s.down {
		for _, del := range []bool{false, true} {
			n := *s
			n.top++
			n.legacy = n.top
			what := "writer %d: legacy has state %d"
			if del {
				n.gone |= 1 << n.top
				what = "writer %d: legacy has state %d, a delete"
			}
			n.w[i] = missWriter{pc: 1, del: del, state: n.top}
			out.Add(n, what, i, int(n.top))
		}
	}
	if w.pc == 1 {
		n := *s
		n.w[i] = missWriter{}
		if w.state+1 > s.at {
			n.at, n.state = w.state+1, w.state
			m.lands(&n, w.del)
		}
		n.acked = max(n.acked, w.state)
		out.Add(n, "writer %d: the target has state %d or a later one, acknowledged", i, int(w.state))
	}
}

// retained is a write of retain: it reads the target, lists its key, swaps.
func (m *misses) retained(s *missState, i int, out *search.Steps[missState]) {
	w := s.w[i]
	step := func(n missState, format string, args ...int) { out.Add(n, format, append([]int{i}, args...)...) }
	n := *s
	me := &n.w[i]
	switch w.pc {
	case 0:
		if s.top >= 4 {
			return
		}
		for _, del := range []bool{false, true} {
			n.w[i] = missWriter{pc: 2, del: del}
			step(n, map[bool]string{false: "writer %d begins", true: "writer %d begins a delete"}[del])
		}
	case 2:
		if s.has == nothing && m.r.has(missWrites) && m.lostBy(s) {
			*me = missWriter{}
			if !s.lost {
				n.wrong = 3
			}
			step(n, "writer %d: ErrTargetLost")
			return
		}
		me.pc, me.at, me.has = 3, s.at, s.has
		me.hidden = s.has == nothing && s.lost && !s.deleted(s.legacy)
		step(n, "writer %d reads version %d", int(s.at))
	case 3:
		n.listed, me.pc = true, 4
		step(n, "writer %d lists the key")
	case 4:
		if s.at != w.at || s.has != w.has {
			me.pc, me.at, me.has, me.hidden = 2, 0, nothing, false
			step(n, "writer %d finds another version")
			return
		}
		n.top++
		n.state, n.acked = n.top, n.top
		n.at++
		if s.has == nothing {
			n.at = 10 + s.top // a version that was there before is not given again here: see the world beat
		}
		if w.del {
			n.gone |= 1 << n.top
		}
		m.lands(&n, w.del)
		if w.hidden && !w.del {
			n.wrong = 2
		}
		n.w[i] = missWriter{}
		step(n, "writer %d swaps in state %d, acknowledged", int(n.top))
	}
}

// lostBy is the judgement of a miss in retain.
func (m *misses) lostBy(s *missState) bool {
	return !s.deleted(s.legacy) || s.listed && !m.r.has(missAlone)
}

func (m *misses) read(s *missState, out *search.Steps[missState]) {
	n := *s
	switch {
	case s.floor == 0 && s.has != nothing:
		if s.state < s.acked && !s.lost {
			n.wrong = 4
			out.Add(n, "a read is answered with state %d", int(s.state))
		}
	case s.floor == 0 && s.reads < 2:
		n.floor = s.acked + 1
		n.reads++
		out.Add(n, "a read misses; state %d is acknowledged", int(s.acked))
	case s.floor == 0:
	case !m.retain:
		n.floor = 0
		found := m.r.has(missAsks)
		if s.down && m.r.has(missError) && found {
			out.Add(n, "the read is an error")
			return
		}
		found = found && !s.down
		switch {
		case found && s.legacy < s.floor-1:
			n.wrong = 4
		case !found && s.acked == s.floor-1 && !s.deleted(s.acked):
			n.wrong = 1
		}
		out.Add(n, "the read is answered; legacy was asked: %d", map[bool]int{true: 1}[found])
	default:
		n.floor = 0
		lost := m.r.has(missFenced) && m.lostBy(s)
		switch {
		case !lost && !s.deleted(s.legacy) && s.acked == s.floor-1 && !s.deleted(s.acked):
			n.wrong = 1
		case lost && !s.lost && s.has == nothing:
			n.wrong = 3
		}
		out.Add(n, "fenced legacy has state %d; the read is ErrTargetLost: %d", int(s.legacy), map[bool]int{true: 1}[lost])
	}
}

func (m misses) explore(r Rules) search.Result {
	m.r = r
	return machine(missState{}, m.next, m.check)
}
