package model

// mutation switches one rule off. in is the configuration that must find it.
type mutation struct {
	name    string
	off     func(*Rules)
	in      *Config
	promise int
}

var mutations = []mutation{
	{"write without version", func(r *Rules) { r.Versioned = false }, &race, 3},
	{"acknowledge before reads have drained", func(r *Rules) { r.DrainReads = false }, &reads, 2},
	{"acknowledge before writes have drained", func(r *Rules) { r.DrainWrites = false }, &queue, 2},
	{"acknowledge before the queue has drained", func(r *Rules) { r.DrainQueue = false }, &queue, 2},
	{"backfill that overwrites", func(r *Rules) { r.BackfillNewer = false }, &start, 3},
	{"backfill without the barrier, first run", func(r *Rules) { r.BackfillBarrier = false }, &start, 2},
	{"backfill without the barrier, after legacy", func(r *Rules) { r.BackfillReentry = false }, &again, 2},
	{"not-after left out", func(r *Rules) { r.NotAfter = false }, &horizon, 3},
	{"not-after extended", func(r *Rules) { r.NotAfterFixed = false }, &horizon, 3},
	{"skip a phase", func(r *Rules) { r.NoSkip = false }, &start, 2},
	{"compatible with the acknowledged route only", func(r *Rules) { r.LiveRange = false }, &ramp, 2},
	{"journal not serialised with the transition", func(r *Rules) { r.JournalSerial = false }, &ramp, 2},
	{"failed apply acknowledged under an unsettled rollback", func(r *Rules) { r.LiveRuling = false }, &ramp, 2},
	{"lapsed instance that keeps reading the target", func(r *Rules) { r.LapsedReads = false }, &lease, 2},
	{"evict without the dirty mark", func(r *Rules) { r.EvictDirty = false }, &queue, 2},
	{"repair without row lock", func(r *Rules) { r.RowLock = false }, &journal, 2},
	{"journal without the missed version", func(r *Rules) { r.JournalVersion = false }, &journal, 2},
	{"absent row repaired in the other order", func(r *Rules) { r.TargetFirst = false }, &journal, 2},
	{"absent row repaired without a tombstone", func(r *Rules) { r.Tombstone = false }, &journal, 3},
	{"fence without lock", func(r *Rules) { r.FenceLock = false }, &passed, 1},
	{"fence without the epoch fenced", func(r *Rules) { r.FencedEpoch = false }, &fence, 2},
	{"repair across the fence at the new era", func(r *Rules) { r.RepairEra = false }, &passed, 1},
	{"return without a new era", func(r *Rules) { r.ReturnEra = false }, &back, 2},
	{"two controllers decide one fence", func(r *Rules) { r.OneDecides = false }, &duel, 2},
	{"a lapse where reads have no other store is ignored", func(r *Rules) { r.LapsedLive = false }, &back, 1},
	{"dirty cleared while writes may land", func(r *Rules) { r.DirtyWaits = false }, &queue, 2},
}
