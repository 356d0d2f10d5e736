package loss

import "github.com/stranglerfig/migrator/internal/test/model/search"

// confirm is how a miss becomes a lost record (the trigger lost-writes), in grace: by a second
// look. A write that is under way, journaled, or being repaired must not count.
type confirm struct {
	r Rules
}

type confirmWriter struct {
	pc    uint8 // 1 legacy has it, 2 the target refused it, 3 done
	state uint8
}

type confirmState struct {
	legacy   uint8 // the row's state; 0: none
	at       uint8
	journal  bool
	w        [2]confirmWriter
	repair   uint8 // 1 has read legacy
	repaired uint8
	used     bool
	lost     bool

	pc     uint8 // of the looks: 1 missed, 2 has legacy's row, 3 second look begun, 4 row is the same, 5 no journal has it
	row    uint8
	waits  uint8 // writes that were under way at the first look, as bits
	wrong  bool
	judged bool
}

func (c *confirm) check(s *confirmState) string {
	if s.wrong {
		return missFalse
	}
	return ""
}

func (c *confirm) next(s *confirmState, out *search.Steps[confirmState]) {
	for i := range s.w {
		w := s.w[i]
		n := *s
		me := &n.w[i]
		switch w.pc {
		case 0:
			n.legacy++
			me.pc, me.state = 1, n.legacy
			out.Add(n, "writer %d: legacy has state %d", i, int(n.legacy))
		case 1:
			me.pc = 3
			n.at = max(s.at, w.state)
			out.Add(n, "writer %d: the target has it", i)
			n = *s
			n.w[i].pc = 2
			out.Add(n, "writer %d: the target does not answer", i)
		case 2:
			me.pc, n.journal = 3, true
			out.Add(n, "writer %d journals the key", i)
		}
	}
	n := *s
	switch {
	case s.journal && s.repair == 0 && !s.used:
		n.repair, n.repaired, n.used = 1, s.legacy, true
		out.Add(n, "the repair reads legacy's row, state %d", int(s.legacy))
	case s.repair == 1:
		n.repair, n.at = 2, max(s.at, s.repaired)
		out.Add(n, "the repair writes the target")
	case s.repair == 2:
		n.repair, n.journal = 3, false
		out.Add(n, "the repair clears the key from the journal")
	}
	if s.at != 0 && !s.lost {
		n := *s
		n.lost, n.at = true, 0
		out.Add(n, "the target loses the record, with its version")
	}
	c.looks(s, out)
}

func (c *confirm) looks(s *confirmState, out *search.Steps[confirmState]) {
	n := *s
	again := func(format string) {
		n.pc, n.row, n.waits = 0, 0, 0
		out.Add(n, format)
	}
	counts := func() {
		n.judged, n.wrong = true, !s.lost
		n.pc = 6
		out.Add(n, "the record counts as lost")
	}
	switch s.pc {
	case 0:
		if s.at == 0 && !s.judged {
			n.pc = 1
			out.Add(n, "a read misses")
		}
	case 1:
		if s.legacy == 0 {
			again("legacy lacks it too: not found")
			return
		}
		n.pc, n.row = 2, s.legacy
		for i, w := range s.w {
			if w.pc == 1 || w.pc == 2 {
				n.waits |= 1 << i
			}
		}
		if !c.r.has(missSecond) {
			counts()
			return
		}
		out.Add(n, "legacy answers with state %d", int(s.legacy))
	case 2:
		for i, w := range s.w {
			if s.waits>>i&1 != 0 && w.pc != 3 && c.r.has(missDeadline) {
				return
			}
		}
		n.pc = 3
		out.Add(n, "the second look begins")
	case 3:
		if s.at != 0 || s.legacy != s.row {
			again("the second look finds it, or another row: again later")
			return
		}
		n.pc = 4
		out.Add(n, "the target lacks it, legacy has the same row")
	case 4:
		if s.journal && c.r.has(missJournal) {
			again("the journal has the key: again later")
			return
		}
		n.pc = 5
		out.Add(n, "no journal has the key")
	case 5:
		if s.at != 0 && c.r.has(missLast) {
			again("the target has it now")
			return
		}
		counts()
	}
}

func (c confirm) explore(r Rules) search.Result {
	c.r = r
	return machine(confirmState{}, c.next, c.check)
}
