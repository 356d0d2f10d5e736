package loss

import "github.com/stranglerfig/migrator/internal/test/model/search"

// The rules of the beat: a number that the leader takes in the state and writes into a canary
// in each part of the target. The target's identity is its run id, replication id or timeline.
const (
	beatStateFirst Rules = 1 << iota
	beatEveryPart
	beatAllConfirmed
	beatOneStep
	beatNeverLower
	beatNumberFirst
	beatCommitted
	beatRefuses
	beatIdentity
	beatIdentityFirst
	beatContents
	beatNewerUnproven
	beatWindow
	beatSameLook
	beatGoneUnproven
	beatReturnWaits
	beatReturnRefused
)

const (
	beatSilent   = "the target lacks an acknowledged write, a whole beat and every instance have looked, and it counts as sound"
	beatFalse    = "a loss is reported, and nothing was lost"
	beatBuiltOn  = "a write is acknowledged that began after the loss was committed"
	beatLossless = "grace: legacy lacks an acknowledged write, and the return counts as lossless"
)

var beatWorld = World{
	Name:  "beat",
	About: "The target goes back. It is empty, or a part of it is, or it is what it was before; it may restart under another identity (run id, replication id, timeline) or keep its own. A leader beats: it takes a number in the state and writes it into a canary in each part. Instances compare the canaries with the number that was confirmed last.",
	Searches: []Search{
		{Bounds: "two leaders, one instance, one write, three numbers", States: 270955, explore: beat{numbers: 3, writes: 1, leaders: 2, alone: true, sameID: true}.explore},
		{Bounds: "two instances, one of which is gone; one write, two numbers", States: 118838, explore: beat{numbers: 2, writes: 1, leaders: 1, dies: true}.explore},
		{Bounds: "grace: one instance, two writes, three numbers", States: 163601, explore: beat{numbers: 3, writes: 2, leaders: 1, alone: true, grace: true, sameID: true}.explore},
		{Bounds: "a return; one instance, two writes, two numbers", States: 107007, explore: beat{numbers: 2, writes: 2, leaders: 1, alone: true, returns: true}.explore},
		{Bounds: "two instances, two writes, two numbers; the whole target goes back", States: 512646, explore: beat{numbers: 2, writes: 2, leaders: 1, onlyOld: true}.explore},
		{Bounds: "the same with three writes", States: 3723171, Long: true, explore: beat{numbers: 2, writes: 3, leaders: 1, onlyOld: true}.explore},
		{Bounds: "two instances, two writes, two numbers, a return", States: 4186654, Long: true, explore: beat{numbers: 2, writes: 2, leaders: 1, returns: true}.explore},
	},
	Rules: []Rule{
		{beatStateFirst, "the leader takes a number in the state before it writes it into a canary", beatSilent, 19, 2, "beat-first"},
		{beatEveryPart, "every part of the target has a canary", beatSilent, 12, 2, "beat-first"},
		{beatAllConfirmed, "a number is confirmed once every canary has it", beatFalse, 3, 0, ""},
		{beatOneStep, "a canary is compared with the last confirmed number and raised in one step", beatSilent, 18, 2, ""},
		{beatNeverLower, "a beat never lowers a canary's number", beatFalse, 8, 0, ""},
		{beatNumberFirst, "an instance learns the confirmed number before it looks at the canaries", beatFalse, 6, 0, ""},
		{beatCommitted, "who finds a loss commits it to the state before the mark is made again", beatSilent, 16, 2, "mark-lost"},
		{beatRefuses, "the transaction of the return journal refuses once a loss is committed", beatBuiltOn, 11, 0, "mark-lost"},
		{beatIdentity, "an instance that meets another identity of the target reads again what it wrote", beatSilent, 11, 0, ""},
		{beatIdentityFirst, "an instance reads again before it writes through the new identity", beatSilent, 15, 3, ""},
		{beatContents, "the same version with other contents is a loss", beatSilent, 18, 4, ""},
		{beatNewerUnproven, "in retain a newer version by another instance proves nothing", beatSilent, 21, 5, ""},
		{beatWindow, "an instance remembers what it wrote until a number that was taken later is confirmed", beatSilent, 12, 2, ""},
		{beatSameLook, "an instance forgets what it wrote only at a look that finds the identity unchanged", beatSilent, 14, 2, ""},
		{beatGoneUnproven, "after an instance has gone, a new identity is unproven unless the canaries show a number taken since", beatSilent, 13, 1, ""},
		{beatReturnWaits, "a return lifts after a number that was taken since its last read is confirmed", beatLossless, 9, 3, ""},
		{beatReturnRefused, "a return does not lift while a loss is committed or an identity is unproven", beatLossless, 13, 3, ""},
	},
}

// verdict is what the state says of the target.
type verdict uint8

const (
	sound verdict = iota
	gone          // it has lost something: rolled back, or "target lost"
)

type canary struct{ mark, number uint8 } // mark 0: absent

// part is what one part of the target holds.
type part struct {
	canary canary
	at     uint8 // the key's version; 0: nothing. Only part 0 has the key
	has    uint8 // the writes that the key's state rests on, as bits
}

type beatLeader struct {
	pc     uint8 // 1 has a number, 2 wrote canary 0, 3 wrote canary 1, 4 found a loss; 5, 6 read a canary only
	number uint8
	low    uint8 // confirmed when it took the number
	after  bool  // it took the number after the loss
	id     uint8 // the identity that it saw with canary 0
}

type beatInstance struct {
	dead bool
	// the write
	pc      uint8 // 1 in the return journal (grace: legacy has it), 2 has read the target
	doomed  bool  // it was listed after the loss was committed
	bit     uint8
	at, has uint8
	// what it remembers of the last acknowledged write
	own        bool
	ownAt      uint8
	ownHas     uint8
	ownNumber  uint8 // a number that was taken after that write, or at its time
	ownCounted bool
	// its look
	look   uint8 // 1 has the number (or, without that rule, the canaries)
	number uint8
	mark   uint8
	id     uint8 // the identity under which it has read again
	looked bool  // since the loss
	knows  bool  // without beatCommitted: only this instance knows
}

type beatState struct {
	// the state
	number, confirmed, mark uint8
	verdict                 verdict
	identity                uint8 // the one that is being proven, or was
	unproven                bool
	shown                   uint8 // the number that the canaries showed when that identity was first seen
	goneAt                  uint8 // the number when an instance died, plus one

	target [2]part
	id     uint8
	copied [2]part // what the target may go back to
	frozen bool    // that copy is there
	forgot uint8   // 1 a restart without loss, 2 a loss, 3 a loss that no rule can see

	legacy, legacyPos uint8
	acked             uint8
	written           uint8
	since             uint8 // beats since the loss: 1 begun, 2 confirmed
	leaders           [2]beatLeader
	inst              [2]beatInstance

	// the return
	ret       uint8 // 1 returning, 2 has read, 3 copied, 4 lifted, 5 stopped
	retHas    uint8
	retNumber uint8
	wrong     uint8
}

// beat is a search's bounds.
type beat struct {
	r            Rules
	grace, alone bool
	numbers      uint8
	writes       uint8
	leaders      int
	dies, sameID bool
	returns      bool
	onlyOld      bool // only the target as a whole goes back
}

func (b *beat) check(s *beatState) string {
	if s.wrong != 0 {
		return [...]string{1: beatFalse, beatBuiltOn, beatLossless}[s.wrong]
	}
	missing := s.acked&^s.target[0].has != 0
	if !missing || s.forgot != 2 || s.since != 2 || s.verdict != sound || s.unproven {
		return ""
	}
	hidden := false
	for i := range s.inst {
		n := &s.inst[i]
		if !n.dead && !n.looked {
			return ""
		}
		hidden = hidden || !n.dead && !n.knows
	}
	if hidden {
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
	for i := range s.inst {
		if !s.inst[i].dead {
			b.write(s, i, out)
			b.look(s, i, out)
		}
	}
	if b.dies && s.goneAt == 0 {
		n := *s
		n.goneAt = s.number + 1
		n.inst[1] = beatInstance{dead: true}
		out.Add(n, "instance 1 dies")
	}
	if b.returns {
		b.back(s, out)
	}
	b.forget(s, out)
}

// back is the return from retain.
func (b *beat) back(s *beatState, out *search.Steps[beatState]) {
	n := *s
	refused := b.r.has(beatReturnRefused) && (s.verdict != sound || s.unproven)
	switch s.ret {
	case 0:
		for i := range s.inst {
			if s.inst[i].pc != 0 {
				return
			}
		}
		if s.written == 0 || refused {
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
			out.Add(n, "the return is refused: it stops")
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
	first := beatState{mark: 1, identity: 1, id: 1, number: 1, confirmed: 1, shown: 1}
	for p := range first.target {
		first.target[p].canary = canary{1, 1}
	}
	first.target[0].at = 1
	first.legacyPos = 1
	for i := range first.inst {
		first.inst[i].id = 1
	}
	if b.alone {
		first.inst[1] = beatInstance{dead: true}
	}
	return machine(first, b.next, b.check)
}
