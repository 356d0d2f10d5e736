package loss

import "github.com/stranglerfig/migrator/internal/test/model/search"

// truncates: a TRUNCATE at one commit, brought over by capture beside two writes whose messages
// may be late. One key, which the target may have or not.
type truncates struct {
	r Rules
}

type truncateWriter struct {
	pc uint8 // 1 committed, its message is under way, 2 that has ended
	at uint8
}

type truncateState struct {
	at       uint8 // the target's version; 0: nothing
	live     bool
	row      bool
	position uint8
	w        [2]truncateWriter
	truncate uint8 // its commit
	pc       uint8 // of capture: 1 swept, 2 waited, 3 swept again
}

func (t *truncates) check(s *truncateState) string {
	for _, w := range s.w {
		if w.pc == 1 {
			return ""
		}
	}
	done := s.pc == 3 || s.pc == 1 && !t.r.has(captureSweeps)
	if s.truncate != 0 && done && s.at != 0 && s.live != s.row {
		return captureRevived
	}
	return ""
}

func (t *truncates) next(s *truncateState, out *search.Steps[truncateState]) {
	for i, w := range s.w {
		n := *s
		me := &n.w[i]
		switch {
		case w.pc == 0:
			n.position++
			n.row = true
			*me = truncateWriter{1, n.position}
			out.Add(n, "writer %d inserts the record at %d", i, int(n.position))
			if s.truncate != 0 && s.truncate == s.position && s.pc == 0 {
				n = *s
				n.row = true
				n.w[i] = truncateWriter{1, s.truncate}
				out.Add(n, "the truncating transaction itself inserts the record after its TRUNCATE, at %d", int(s.truncate))
			}
		case w.pc == 1 && w.at < s.truncate && s.pc >= 2:
			me.pc = 2
			out.Add(n, "writer %d's message is past its not-after", i)
		case w.pc == 1:
			me.pc = 2
			if w.at > s.at {
				n.at, n.live = w.at, true
			}
			out.Add(n, "writer %d's message of %d has landed", i, int(w.at))
		}
	}
	if n := *s; s.truncate == 0 {
		n.position++
		n.truncate, n.row = n.position, false
		out.Add(n, "TRUNCATE commits at %d", int(n.position))
		return
	}
	n := *s
	switch {
	case s.pc == 0:
		n.pc = 1
		t.sweep(&n)
		out.Add(n, "capture sweeps what the target has below %d", int(s.truncate))
	case s.pc == 1 && t.r.has(captureSweeps):
		n.pc = 2
		out.Add(n, "every not-after from before is over")
	case s.pc == 2:
		n.pc = 3
		t.sweep(&n)
		out.Add(n, "capture sweeps again")
	}
}

func (t *truncates) sweep(n *truncateState) {
	if t.r.has(captureOwnFirst) {
		for _, w := range n.w {
			if w.at == n.truncate && n.at < n.truncate {
				n.at, n.live = n.truncate, true
			}
		}
	}
	if n.at != 0 && (n.at < n.truncate || n.at == n.truncate && !t.r.has(captureBelow)) {
		n.at, n.live = n.truncate, false
	}
}

func (t truncates) explore(r Rules) search.Result {
	t.r = r
	return machine(truncateState{}, t.next, t.check)
}
