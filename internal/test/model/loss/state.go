package loss

import "github.com/stranglerfig/migrator/internal/test/model/search"

// The rules of a state that goes back at the same epoch: a row of the journal, or of the
// return journal, is gone.
const (
	stateInRow Rules = 1 << iota
	stateUnclean
	stateAlways
	stateCounts
	stateOwn
	stateLeaves
	stateGone
	stateCloses
	stateScans
	stateBeat
	stateBeatTwice
	stateEras
)

const (
	stateStale    = "cutover: reads come from a target that lacks an acknowledged write"
	stateLossless = "grace: legacy lacks an acknowledged write, and the return counts as lossless"
)

var stateBack = World{
	Name:  "state",
	About: "The state goes back, and its epoch is the same: it fails over to a standby that lagged, or its disk is an older copy. A key of the journal, or of the return journal, is gone.",
	Searches: []Search{
		{Bounds: "dual-read to cutover: two instances, two writes, a full reconcile, one beat", States: 656272, explore: stateWorld{beats: 1}.explore},
		{Bounds: "retain to grace: two instances, two writes, one beat", States: 253352, explore: stateWorld{retain: true, beats: 1}.explore},
		{Bounds: "the first with three beats", States: 2830192, Long: true, explore: stateWorld{beats: 3}.explore},
	},
	Rules: []Rule{
		{stateInRow, "the migration's row has the server's identity; every transaction compares it, a move's too", stateStale, 6, 0, "state-server"},
		{stateUnclean, "another identity marks the migration unclean, in the transaction that notes it", stateStale, 6, 0, "state-server"},
		{stateAlways, "it does so also where the last look showed a synchronous standby", stateStale, 8, 0, "state-server"},
		{stateCounts, "a lease counts what its instance journaled; at each renewal the instance compares it with what it remembers", stateStale, 9, 0, ""},
		{stateOwn, "the count of what was journaled is the lease's own", stateStale, 12, 0, ""},
		{stateLeaves, "an instance that leaves compares too", stateStale, 9, 0, ""},
		{stateGone, "a lease that ran out without leaving counts as unclean", stateStale, 9, 0, "unclean-mark"},
		{stateCloses, "unclean closes every advance until a full reconcile that began after the mark has ended", stateStale, 6, 0, "state-server"},
		{stateScans, "a return while unclean scans the whole target", stateLossless, 9, 1, "reclaim-scan"},
		{stateBeat, "a part of the target that has a later number of the beat than the state has given out marks it unclean", stateStale, 10, 0, "beat-first"},
		{stateBeatTwice, "a part that has the very number that is given out marks it unclean too", stateStale, 10, 0, ""},
		{stateEras, "that scan takes entries of every era since the attempt's first fence", stateLossless, 10, 1, ""},
	},
}

// stateRows is what the state keeps, and may lose.
type stateRows struct {
	identity uint8
	unclean  bool
	journal  bool // the key is journaled, or in the return journal
	count    [2]uint8
	beat     uint8
	sync     bool // the last look showed a synchronous standby
}

type stateInstance struct {
	gone  bool  // it died, or left in good order
	since bool  // it has renewed its lease since the loss
	pc    uint8 // 1 the first store has its write, 2 journaled
	bit   uint8
	count uint8 // of what it journaled, as it remembers
}

type stateState struct {
	rows, copied stateRows
	frozen       bool // there is a copy
	identity     uint8
	sync         bool  // commits wait for a standby now
	forgot       uint8 // 1 under another identity, 2 under the same, 3 and no process can know
	part         uint8 // the beat that the target has
	beaten       bool  // since the loss
	showed       bool  // the target has a beat from after instance 0 journaled

	first, second uint8 // what the store with authority has, and the other, as bits of writes
	acked         uint8
	written       uint8
	inst          [2]stateInstance
	era, wroteAt  uint8 // of retain, and of the key's entry in the target
	reconcile     uint8 // 1 begun, 2 begun before a later mark
	moved         bool
	died          bool
}

// stateWorld begins where legacy has authority and the target may miss writes, or in retain.
// Instance 0 writes the key; what instance 1 journals is another key.
type stateWorld struct {
	r      Rules
	retain bool
	beats  uint8
}

func (w *stateWorld) check(s *stateState) string {
	if !s.moved || s.forgot == 3 || s.acked&^s.second == 0 {
		return ""
	}
	if !w.retain && s.forgot == 2 {
		// Under the same identity only a renewal finds it, and then reads go back to legacy.
		for i := range s.inst {
			if n := &s.inst[i]; !n.gone && !n.since {
				return ""
			}
		}
		if s.rows.unclean || !s.beaten {
			return ""
		}
	}
	if w.retain {
		return stateLossless
	}
	return stateStale
}

// compare is what every transaction does first.
func (w *stateWorld) compare(n *stateState) {
	if n.rows.identity == n.identity {
		return
	}
	n.rows.identity = n.identity
	if w.r.has(stateUnclean) && (w.r.has(stateAlways) || !n.rows.sync) {
		w.markUnclean(n)
	}
}

// markUnclean marks the migration; a reconcile that runs does not clear it.
func (w *stateWorld) markUnclean(n *stateState) {
	n.rows.unclean = true
	if n.reconcile == 1 {
		n.reconcile = 2
	}
}

func (w *stateWorld) next(s *stateState, out *search.Steps[stateState]) {
	add := func(n stateState, format string, args ...int) { out.Add(n, format, args...) }
	for i := range s.inst {
		if !s.inst[i].gone {
			w.instance(s, i, out)
		}
	}
	if s.moved {
		return
	}
	if me := s.inst[0]; !me.gone {
		n := *s
		n.inst[0], n.died = stateInstance{gone: true}, true
		add(n, "instance 0 dies; its lease runs out")
		if me.pc == 0 {
			n := *s
			if w.r.has(stateLeaves) {
				w.renew(&n, 0)
			}
			n.inst[0] = stateInstance{gone: true}
			add(n, "instance 0 leaves in good order")
		}
	}
	if s.rows.beat < w.beats {
		n := *s
		w.beat(&n)
		add(n, "the leader makes beat %d; the target has %d", int(s.rows.beat)+1, int(s.part))
	}
	switch n := *s; {
	case s.reconcile == 0 && !w.retain:
		w.transaction(&n)
		n.reconcile = 1
		add(n, "a full reconcile begins")
	case s.reconcile != 0:
		w.transaction(&n)
		n.second |= n.first
		if n.reconcile == 1 {
			n.rows.unclean = false
		}
		n.reconcile = 0
		add(n, "the full reconcile ends: the target is right")
	}
	if w.retain && s.era == 0 {
		n := *s
		w.transaction(&n)
		n.era = 1
		add(n, "a return is given up: retain begins a new era")
	}
	w.move(s, out)
	w.forget(s, out)
}

// beat gives out a number in the state, then writes it into the target.
func (w *stateWorld) beat(n *stateState) {
	w.transaction(n)
	n.rows.beat++
	n.beaten = n.forgot != 0
	n.showed = n.inst[0].pc != 1
	later := n.part > n.rows.beat
	same := n.part == n.rows.beat && w.r.has(stateBeatTwice)
	if (later || same) && w.r.has(stateBeat) {
		w.markUnclean(n)
	}
	n.part = max(n.part, n.rows.beat)
	n.rows.beat = n.part
}

// transaction is any function of the state.
func (w *stateWorld) transaction(n *stateState) {
	if w.r.has(stateInRow) {
		w.compare(n)
	}
}

func (w *stateWorld) instance(s *stateState, i int, out *search.Steps[stateState]) {
	me := s.inst[i]
	step := func(format string, change func(n *stateState, me *stateInstance)) {
		n := *s
		change(&n, &n.inst[i])
		out.Add(n, format, i)
	}
	switch me.pc {
	case 0:
		if s.written >= 2 || s.moved {
			break
		}
		begins := func(n *stateState, me *stateInstance) {
			me.pc = 1
			if n.written++; i == 0 {
				me.bit = n.written
			}
			if !w.retain {
				n.first |= me.bit
			}
		}
		if w.retain {
			step("instance %d begins a write of retain", begins)
		} else {
			step("instance %d writes legacy; the target misses it", begins)
		}
	case 1:
		step("instance %d journals the key", func(n *stateState, me *stateInstance) {
			w.transaction(n)
			n.rows.journal = n.rows.journal || i == 0
			count := &n.rows.count[w.lease(i)]
			*count++
			me.pc, me.count = 2, *count
			n.showed = n.showed && i != 0
		})
	case 2:
		step("instance %d's write is acknowledged", func(n *stateState, me *stateInstance) {
			n.first |= me.bit
			n.acked |= me.bit
			if i == 0 {
				n.wroteAt = n.era
			}
			me.pc, me.bit = 0, 0
		})
	}
	step("instance %d renews its lease", func(n *stateState, _ *stateInstance) { w.renew(n, i) })
}

// renew compares what the state has of this instance with what the instance remembers.
func (w *stateWorld) renew(n *stateState, i int) {
	w.compare(n)
	me := &n.inst[i]
	me.since = n.forgot != 0
	if count := &n.rows.count[w.lease(i)]; *count < me.count && w.r.has(stateCounts) {
		w.markUnclean(n)
		*count = me.count
	}
}

// lease is whose count an instance's journaling raises.
func (w *stateWorld) lease(i int) int {
	if w.r.has(stateOwn) {
		return i
	}
	return 0
}

// move is the step that relies on the journal: to cutover, or the return.
func (w *stateWorld) move(s *stateState, out *search.Steps[stateState]) {
	for i := range s.inst {
		if n := &s.inst[i]; n.pc != 0 || w.retain && s.forgot != 0 && (!n.gone && !n.since || !s.beaten) {
			return // a return waits until every instance has renewed, and for a beat
		}
	}
	n := *s
	w.transaction(&n)
	unclean := n.rows.unclean || w.r.has(stateGone) && n.died
	if !w.retain {
		if n.rows.journal && n.acked&^n.second != 0 || unclean && w.r.has(stateCloses) {
			return
		}
		n.moved = true
		out.Add(n, "the journal is empty: cutover")
		return
	}
	n.moved = true
	if unclean && w.r.has(stateScans) {
		if n.wroteAt == n.era || n.rows.journal || w.r.has(stateEras) {
			n.second = n.first
		}
		out.Add(n, "the return copies the return journal's keys, scans the whole target, lifts, grace")
		return
	}
	if n.rows.journal {
		n.second = n.first
	}
	out.Add(n, "the return copies the return journal's keys, lifts, grace")
}

// forget is the state's loss.
func (w *stateWorld) forget(s *stateState, out *search.Steps[stateState]) {
	n := *s
	n.sync = !s.sync
	n.rows.sync = s.rows.sync
	out.Add(n, "a standby of the state comes or goes")
	if s.rows.sync != s.sync {
		n := *s
		n.rows.sync = s.sync
		out.Add(n, "the leader looks at the state's standbys")
	}
	if s.forgot != 0 {
		return
	}
	if !s.frozen {
		n := *s
		n.copied, n.frozen = s.rows, true
		out.Add(n, "a standby, or a disk's copy, has the state's present")
		return
	}
	if !s.sync {
		n := *s
		n.rows, n.identity, n.forgot = s.copied, s.identity+1, 1
		out.Add(n, "the state fails over to the standby that lagged, the epoch is the same")
	}
	n = *s
	n.rows, n.forgot = s.copied, 2
	if s.inst[0].gone && !s.died && !s.showed {
		n.forgot = 3 // no process remembers: the stated exception
	}
	out.Add(n, "the state is its disk's copy, under the same identity, the epoch is the same")
}

func (w stateWorld) explore(r Rules) search.Result {
	w.r = r
	return machine(stateState{identity: 1, rows: stateRows{identity: 1}}, w.next, w.check)
}
