// Package model is the protocol of docs/protocol.md as a small state machine: one key, two
// instances, a few writes. It enumerates every step that a process, message or clock may take
// next, so that a search visits every interleaving within the bounds of a Config. The packages
// phases and record decide which routes may run together, which moves are legal, which gates
// are interlocks and how versions are ordered. See docs/model.md for what is left out.
package model

// Rules are the rules of the protocol. With all of them true, the model is the protocol; with
// one of them off, the search must find a broken promise.
type Rules struct {
	Versioned       bool // the target takes a change only if it is newer
	NotAfter        bool // the target refuses a change whose not-after has passed
	NotAfterFixed   bool // that time is never extended
	DrainReads      bool // an epoch is acknowledged after the reads under older ones
	DrainWrites     bool // and after the writes
	DrainQueue      bool // and after the background writes
	JournalSerial   bool // journal and transition exclude each other
	LiveRuling      bool // a failed write asks for all live routes, not only the present one
	LiveRange       bool // compatibility is checked with all routes since the acknowledged one
	NoSkip          bool // no phase is skipped
	LapsedReads     bool // an instance whose lease has lapsed answers from legacy
	EvictDirty      bool // an eviction marks the migration dirty
	BackfillNewer   bool // backfill applies only what is newer
	BackfillBarrier bool // on the first run it starts behind a barrier
	BackfillReentry bool // on a run after another period in legacy it takes a new one
	RowLock         bool // repair reads a row under its lock
	JournalVersion  bool // the journal keeps the version of the missed write
	TargetFirst     bool // repair reads the target before legacy
	Tombstone       bool // repair leaves a tombstone for a row that legacy lacks
	RepairEra       bool // repair leaves entries of a later era alone
	FenceLock       bool // the fence waits for open writers
	FencedEpoch     bool // an epoch fenced lies between grace and retain
	ReturnEra       bool // the return begins a new era
	OneDecides      bool // a step of the fence compares route and attempt before it is set
	LapsedLive      bool // a lapsed lease counts as live where its instance continues to read the target: it has no fallback there
	DirtyWaits      bool // a reconcile clears dirty only after the not-after of all earlier writes
}

// Protocol returns all rules.
func Protocol() Rules {
	return Rules{
		Versioned: true, NotAfter: true, NotAfterFixed: true, DrainReads: true, DrainWrites: true, DrainQueue: true,
		JournalSerial: true, LiveRuling: true, LiveRange: true, NoSkip: true, LapsedReads: true, EvictDirty: true,
		BackfillNewer: true, BackfillBarrier: true, BackfillReentry: true, RowLock: true, JournalVersion: true,
		TargetFirst: true, Tombstone: true, RepairEra: true, FenceLock: true, FencedEpoch: true, ReturnEra: true, OneDecides: true,
		LapsedLive: true, DirtyWaits: true,
	}
}

// Config bounds a search, and selects which parts of the world may act in it.
type Config struct {
	Name    string
	Start   Kind   // the route at the beginning, acknowledged by all
	Kinds   []Kind // routes that the operator may go to
	Epochs  uint8  // changes of route at most; at most maxEpochs-1
	Writes  uint8  // at most maxWrites
	Deletes uint8  // bit n: the n-th state of the key is absence; bit 0 is what legacy has at the beginning
	Copied  bool   // the target has the first state, and a backfill has finished
	Single  bool   // only one instance

	Fail      bool  // target writes may time out
	Late      bool  // not-after times may pass
	LongReads bool  // reads may take their time
	Lapse     bool  // leases may lapse and be renewed
	Crash     bool  // instance 0 may die, and be evicted
	Backfill  bool  //
	Horizon   bool  // tombstones expire
	Repairs   uint8 // repairs at most
	Fence     bool  // controllers may fence legacy
	Return    bool  // and return from retain
	Second    bool  // there are two controllers
}
