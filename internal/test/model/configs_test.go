package model

// Each configuration covers a part of the protocol, within what a search visits in seconds.
var (
	// ramp: up and down between shadow-write and grace beside target writes that time out.
	ramp = Config{
		Name: "ramp", Start: DualRead, Kinds: []Kind{ShadowWrite, DualRead, CutoverOther, Cutover, Grace},
		Epochs: 3, Writes: 1, Copied: true, Fail: true,
	}
	// race: two writes of the key at once.
	race = Config{
		Name: "race", Start: DualRead, Kinds: []Kind{DualRead, Cutover},
		Epochs: 2, Writes: 2, Copied: true, Fail: true,
	}
	// reads: long reads, across a rollback.
	reads = Config{
		Name: "reads", Start: Cutover, Kinds: []Kind{ShadowWrite, DualRead, Cutover},
		Epochs: 2, Writes: 1, Copied: true, Fail: true, LongReads: true,
	}
	// start: the first backfill, beside instances that may still be on legacy.
	start = Config{
		Name: "start", Start: Legacy, Kinds: []Kind{ShadowWrite, DualRead, Cutover},
		Epochs: 3, Writes: 1, Fail: true, Late: true, Backfill: true,
	}
	// again: back to legacy and a second backfill.
	again = Config{
		Name: "again", Start: ShadowWrite, Kinds: []Kind{Legacy, ShadowWrite, DualRead, Cutover},
		Epochs: 4, Writes: 2, Copied: true, Late: true, Backfill: true, Single: true,
	}
	// gone: the same, and the second state is a delete.
	gone = Config{
		Name: "gone", Start: ShadowWrite, Kinds: []Kind{Legacy, ShadowWrite, DualRead, Cutover},
		Epochs: 4, Writes: 2, Deletes: 1 | 1<<2, Copied: true, Late: true, Backfill: true, Single: true,
	}
	// queue: an instance dies with writes in its queue and is evicted.
	queue = Config{
		Name: "queue", Start: ShadowWrite, Kinds: []Kind{DualRead, Cutover},
		Epochs: 2, Writes: 2, Copied: true, Late: true, Crash: true, Deletes: 1 | 1<<2,
	}
	// lease: leases lapse and are renewed.
	lease = Config{
		Name: "lease", Start: Cutover, Kinds: []Kind{DualRead, Cutover},
		Epochs: 2, Writes: 1, Copied: true, Fail: true, Lapse: true,
	}
	// journal: journaled writes are repaired, beside other writes.
	journal = Config{
		Name: "journal", Start: DualRead, Kinds: []Kind{Cutover},
		Epochs: 1, Writes: 2, Deletes: 1 | 1<<2, Copied: true, Fail: true, Repairs: 2, Late: true, Single: true,
	}
	// horizon: tombstones expire.
	horizon = Config{
		Name: "horizon", Start: DualRead, Kinds: []Kind{Cutover},
		Epochs: 1, Writes: 2, Deletes: 1 | 1<<2, Copied: true, Fail: true, Repairs: 1, Late: true, Horizon: true, Single: true,
	}
	// fence: two instances that learn of it late.
	fence = Config{
		Name: "fence", Start: Grace, Epochs: 4, Writes: 1, Copied: true, Fence: true, Fail: true,
	}
	// unheard: leases lapse while the fence is raised, passed and lifted.
	unheard = Config{
		Name: "unheard", Start: Grace, Kinds: []Kind{DualRead},
		Epochs: 4, Writes: 1, Copied: true, Fence: true, Fail: true, Lapse: true,
	}
	// stay: leases lapse on the return to legacy and forward again.
	stay = Config{
		Name: "stay", Start: DualRead, Kinds: []Kind{Legacy, ShadowWrite, DualRead, Cutover},
		Epochs: 4, Writes: 1, Copied: true, Backfill: true, Lapse: true, Fail: true,
	}
	// duel: two controllers that go all the way forward and back.
	duel = Config{
		Name: "duel", Start: Grace, Epochs: 5, Writes: 1, Copied: true, Fence: true, Return: true, Second: true, Single: true,
	}
	// passed: what is in flight when the fence is raised, with repairs.
	passed = Config{
		Name: "passed", Start: Grace, Epochs: 2, Writes: 2, Copied: true, Fence: true, Fail: true, Repairs: 1, Single: true,
	}
	// back: from retain to grace and on to dual-read.
	back = Config{
		Name: "back", Start: Retain, Kinds: []Kind{DualRead}, Epochs: 3, Writes: 1, Copied: true, Return: true, Lapse: true, Fail: true,
	}
)

var configs = []Config{ramp, race, reads, start, again, gone, queue, lease, journal, horizon, fence, unheard, stay, duel, passed, back}
