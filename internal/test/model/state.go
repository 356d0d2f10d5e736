package model

import (
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

const (
	maxEpochs = 10
	maxWrites = 4
)

// Kind is one of the routes that differ for the one key.
type Kind uint8

// Kinds. The key is not among the first part of cutover's ramp.
const (
	Legacy Kind = iota
	ShadowWrite
	DualRead
	CutoverOther
	Cutover
	Grace
	Fenced
	Lifting
	Returning
	Retain
	kinds
)

const keyHash = 5000 // of the one key, in hundredths of a per cent

var routeOf = [kinds]phases.Route{
	Legacy: {Phase: phases.Legacy}, ShadowWrite: {Phase: phases.ShadowWrite},
	DualRead: {Phase: phases.DualRead, Percent: phases.All}, CutoverOther: {Phase: phases.Cutover, Percent: 2500},
	Cutover: {Phase: phases.Cutover, Percent: phases.All}, Grace: {Phase: phases.Grace}, Fenced: {Phase: phases.Fenced},
	Lifting: {Phase: phases.Lifting}, Returning: {Phase: phases.Returning}, Retain: {Phase: phases.Retain},
}

func (k Kind) String() string { return routeOf[k].String() }

func (k Kind) way() phases.Behaviour { return routeOf[k].Behaviour() }

// target reports whether the key's reads are routed to the target.
func (k Kind) target() bool {
	switch k.way().Reads {
	case phases.ReadsTarget:
		return true
	case phases.ReadsSplit:
		return routeOf[k].Percent.Takes(keyHash)
	default:
		return false
	}
}

// closed reports whether authority is moving or has moved.
func (k Kind) closed() bool {
	w := k.way().Writes
	return w == phases.WritesWait || w == phases.WritesTarget
}

type version struct{ era, lsn uint8 }

// lsnBase keeps legacy's positions far above the counters of retain.
const lsnBase = 32

func (v version) record() record.Version {
	return record.MakeVersion(uint32(v.era), 0, uint64(v.lsn))
}
func (v version) newer(w version) bool { return v.record().NewerThan(w.record()) }
func (v version) max(w version) version {
	if w.newer(v) {
		return w
	}
	return v
}

func (v version) next(era uint8) (version, bool) {
	n, err := v.record().Next(uint32(era))
	if n == record.FirstOf(uint32(era)) {
		return version{era, 1}, err == nil
	}
	return version{era, v.lsn + 1}, err == nil && n == version{era, v.lsn + 1}.record()
}

// State is the whole world. It is comparable, so it can be a key of the search's map.
type State struct {
	routes [maxEpochs]Kind
	epoch  uint8

	// legacy
	seq, top uint8 // the key's state; the highest number given to any state
	open     uint8 // the write that has the row's lock, plus one
	era      uint8
	fence    uint8 // the attempt whose fence is raised
	lifted   uint8 // attempts that are over, as bits

	// target
	at      version
	has     presence
	tseq    uint8
	high    version // the highest that the entry ever had
	slipped bool    // the version decreased

	// state database
	attempt        uint8
	fenceEra       uint8
	journaled      bool
	journalVersion version
	changes        uint8
	returns        bool // the key is in the return journal
	dirty          bool
	waits          uint8 // writes whose not-after must pass before a reconcile clears dirty, as bits
	copied         uint8 // epoch in which the last finished backfill began, plus one

	acked uint8 // the highest state whose write was acknowledged

	inst   [2]instance
	w      [maxWrites]write
	repair repairer
	orphan message // of a repairer or a backfill that has continued without it
	back   backfill
	ctl    [2]controller
	used   uint8 // repairs begun
}

type presence uint8

const (
	absent presence = iota
	live
	tombstone
)

type leaseState uint8

const (
	leaseLive   leaseState = iota
	leaseOver              // by the instance's clock
	leaseLapsed            // by the state's clock too
	leaseEnded             // evicted
)

type instance struct {
	pinned, acked uint8
	lease         leaseState
	dead          bool
	reading       bool // a read of any length
	readEpoch     uint8
	readFloor     uint8 // what was acknowledged when it began
	readLapsed    bool
}

type stage uint8

const (
	unused      stage = iota
	begun             // pinned, not-after fixed
	opened            // has the row's lock
	listed            // retain: the key is in the return journal
	sent              // its message to the target may land, more than once
	missed            // its attempts have failed
	ruled             // only without JournalSerial: decided, not yet journaled
	rollingBack       // rolls back; waits until no instance can read the target
	done
)

type write struct {
	stage    stage
	inst     uint8
	epoch    uint8
	seq      uint8
	at       version
	only     version
	era      uint8 // retain's, as the route had it
	acked    bool
	late     bool
	landed   bool
	lapsed   bool
	inFlight bool
	harmless bool // only without JournalSerial: the decision
}

// message is a repair's or a backfill's message in transit.
type message struct {
	inFlight, late bool
	gone           bool // a tombstone
	seq            uint8
	at             version
	cond           bool
	only           version
	always         bool // whatever the target has
}

type repairer struct {
	stage          uint8 // 1 begun, 2 has the target, 3 has legacy, 4 sent; 5 has legacy first, 6 has the row without its version
	sweep          bool
	journalVersion version
	changes        uint8
	era            uint8
	seenAt         version
	seen           presence
	seq            uint8
	msg            message
}

type backfill struct {
	stage       uint8 // 1 begun, 2 behind the barrier, 3 open, 4 sent, 5 sweeps, 6 done
	begun       uint8 // epoch
	line        version
	waits       uint8 // writes whose not-after must pass, as bits
	waitsOrphan bool  // and the orphan's
	msg         message
}

type controller struct {
	pc      uint8
	attempt uint8
	epoch   uint8
	at      version
	seq     uint8
	has     presence
	used    bool // it has had its attempt
}

func (s *State) route() Kind { return s.routes[s.epoch] }

func (c *Config) deleted(seq uint8) bool { return c.Deletes>>seq&1 != 0 }

// first returns the world at the start.
func (c *Config) first() State {
	s := State{era: 1}
	s.routes[0] = c.Start
	if c.Copied {
		s.copied, s.at, s.has = 1, version{1, lsnBase}, live
		if c.deleted(0) {
			s.at, s.has = version{}, absent
		}
		s.high = s.at
	}
	if c.Start == Retain {
		s.era, s.fenceEra, s.fence, s.attempt = 2, 2, 1, 1
		s.ctl[0].used = true
	}
	if c.Single {
		s.inst[1].lease, s.inst[1].dead = leaseEnded, true
	}
	return s
}
