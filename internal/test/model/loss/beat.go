package loss

import "github.com/stranglerfig/migrator/internal/test/model/search"

// The rules of the beat: a number that the leader takes in the state and writes into a mark in
// each part of the target. The target's identity is its run id, replication id or timeline.
const (
	beatStateFirst Rules = 1 << iota
	beatEveryPart
	beatAllConfirmed
	beatOneStep
	beatNeverLower
	beatNumberFirst
	beatNeverAgain
	beatRefuses
	beatIdentity
	beatSeenLast
	beatStaysUnclean
	beatReturnWaits
	beatReturnRefused
	beatNewest
)

const (
	beatSilent   = "the target lacks an acknowledged write, a whole beat has passed since, and the migration is clean"
	beatFalse    = "a loss is reported, and nothing was lost"
	beatBuiltOn  = "a write is acknowledged that began after the loss was committed"
	beatLossless = "grace: legacy lacks an acknowledged write, and the return counts as lossless"
)

var beatWorld = World{
	Name:  "beat",
	About: "The target goes back. It is empty, or a part of it is, or it is what it was before; it may restart under another identity (run id, replication id, timeline) or keep its own; the server that it was failed over from may come again. A leader beats: it takes a number in the state and writes it into a mark in each part. Instances compare the marks with the number that was confirmed last.",
	Searches: []Search{
		{Bounds: "two leaders, one instance, one write, three numbers", States: 239861, explore: beat{numbers: 3, writes: 1, leaders: 2, instances: 1}.explore},
		{Bounds: "grace: one leader, one instance, two writes, four numbers", States: 242483, explore: beat{numbers: 4, writes: 2, leaders: 1, instances: 1, grace: true}.explore},
		{Bounds: "a return; one leader, one instance, two writes, three numbers", States: 431171, explore: beat{numbers: 3, writes: 2, leaders: 1, instances: 1, returns: true}.explore},
		{Bounds: "two leaders, one instance, one write, four numbers", States: 1953713, Long: true, explore: beat{numbers: 4, writes: 1, leaders: 2, instances: 1}.explore},
		{Bounds: "one leader, two instances, two writes, three numbers, a return", States: 2283286, Long: true, explore: beat{numbers: 3, writes: 2, leaders: 1, instances: 2, returns: true}.explore},
	},
	Rules: []Rule{
		{beatStateFirst, "the leader takes a number in the state before it writes it into a mark", beatSilent, 15, 0, "beat-first"},
		{beatEveryPart, "every part of the target has a mark", beatSilent, 12, 1, "beat-first"},
		{beatAllConfirmed, "a number is confirmed once every mark has it", beatFalse, 3, 0, "mark-lost"},
		{beatNewest, "a number is confirmed only while it is the last one that was given out", beatSilent, 15, 3, "beat-first"},
		{beatOneStep, "a mark is compared with the last confirmed number and raised in one step", beatSilent, 20, 1, "mark-lost"},
		{beatNeverLower, "a beat never lowers a mark's number", beatFalse, 8, 0, "beat-first"},
		{beatNumberFirst, "an instance learns the confirmed number before it looks at the marks", beatFalse, 6, 0, "mark-checked"},
		{beatNeverAgain, "a leader that finds a loss commits it to the state, and never makes the mark again", beatSilent, 7, 1, "mark-lost"},
		{beatRefuses, "the transaction of the return journal refuses once a loss is committed", beatBuiltOn, 10, 0, "mark-lost"},
		{beatIdentity, "another identity of the target marks the migration unclean", beatSilent, 8, 1, "target-restarted"},
		{beatSeenLast, "that identity is recorded after the migration is marked", beatSilent, 14, 1, "target-restarted"},
		{beatStaysUnclean, "a target that is found with its marks again leaves the migration unclean", beatSilent, 17, 1, "mark-lost"},
		{beatReturnWaits, "a return lifts after a number that was taken since its last read is confirmed", beatLossless, 9, 2, ""},
		{beatReturnRefused, "a return does not lift, as lossless, once the migration is unclean", beatLossless, 16, 2, ""},
	},
}

type mark struct{ incarnation, number uint8 } // incarnation 0: absent

// part is what one part of the target holds. Part 0 has the key.
type part struct {
	mark mark
	at   uint8 // the key's version; 0: nothing
	has  uint8 // the writes that the key's state rests on, as bits
}

type beatLeader struct {
	pc     uint8 // 1 has a number; 2 and 3 part 0 and both have it; 4 found a loss; 5 and 6 read part 0 and 1 only; 7 and 8 see another identity; 9 compared it
	number uint8
	low    uint8 // confirmed when it took the number
	after  bool  // it took the number after the loss
	id     uint8
	was    uint8 // the identity that the state had
}

type beatInstance struct {
	pc          uint8 // of its write: 1 in the return journal (grace: legacy has it), 2 has read the target
	late        bool  // listed after the loss was committed
	bit         uint8
	at, has     uint8
	look        uint8 // 1 has the number (or, without that rule, the mark's)
	number      uint8
	incarnation uint8
	knows       bool // it has found the loss, and does not use the target
}

type beatState struct {
	// the state
	number, confirmed, incarnation uint8
	gone, unclean                  bool
	identity                       uint8

	target [2]part
	id     uint8
	copied [2]part // what the target may go back to
	kept   bool    // that copy is there
	forgot uint8   // 1 a restart without loss, 2 a loss, 3 a loss that no rule can see
	failed [2]part // what the server has that was failed over from
	came   bool    // that server is the target again
	since  uint8   // beats since the loss, or since that: 1 begun, 2 complete

	legacy, legacyPosition uint8
	acked, written         uint8
	leaders                [2]beatLeader
	inst                   [2]beatInstance

	ret       uint8 // 1 returning, 2 has read, 3 copied, 4 lifted, 5 stopped
	retHas    uint8
	retNumber uint8
	wrong     uint8
}

// beat is a search's bounds.
type beat struct {
	r                  Rules
	grace, returns     bool
	numbers, writes    uint8
	leaders, instances int
}

func (b *beat) check(s *beatState) string {
	if s.wrong != 0 {
		return [...]string{1: beatFalse, beatBuiltOn, beatLossless}[s.wrong]
	}
	if s.acked&^s.target[0].has != 0 && s.forgot == 2 && s.since == 2 && !s.unclean {
		return beatSilent
	}
	return ""
}

func (b *beat) next(s *beatState, out *search.Steps[beatState]) {
	if s.ret >= 4 {
		return
	}
	for i := range b.leaders {
		b.leader(s, i, out)
	}
	for i := range b.instances {
		b.write(s, i, out)
		b.look(s, i, out)
	}
	if b.returns {
		b.back(s, out)
	}
	b.forget(s, out)
}

// back is the return from retain.
func (b *beat) back(s *beatState, out *search.Steps[beatState]) {
	n := *s
	refused := b.r.has(beatReturnRefused) && s.unclean
	switch s.ret {
	case 0:
		if s.written == 0 || refused || s.inst[0].pc != 0 || s.inst[1].pc != 0 {
			return
		}
		n.ret = 1
		out.Add(n, "returning is committed, writes have drained")
	case 1:
		if s.target[0].at == 0 {
			n.ret = 5
			out.Add(n, "the return finds nothing: it stops")
			return
		}
		n.ret, n.retHas, n.retNumber = 2, s.target[0].has, s.number
		out.Add(n, "the return reads version %d", int(s.target[0].at))
	case 2:
		n.ret, n.legacy = 3, s.retHas
		out.Add(n, "the return copies it to legacy")
	case 3:
		if refused {
			n.ret = 5
			out.Add(n, "the migration is unclean: the return stops")
			return
		}
		if b.r.has(beatReturnWaits) && s.confirmed <= s.retNumber {
			return
		}
		n.ret = 4
		if s.acked&^s.legacy != 0 && s.forgot != 3 {
			n.wrong = 3
		}
		out.Add(n, "the return lifts the fence, grace")
	}
}

func (b beat) explore(r Rules) search.Result {
	b.r = r
	first := beatState{incarnation: 1, identity: 1, id: 1, number: 1, confirmed: 1, legacyPosition: 1}
	for p := range first.target {
		first.target[p].mark = mark{1, 1}
	}
	first.target[0].at = 1
	return machine(first, b.next, b.check)
}
