package reconcile

import (
	"time"

	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// Options are a Reconciler's settings; zero values mean the defaults.
type Options struct {
	ChunkRows  int           // rows of legacy read at a time; default 5000
	Batch      int           // keys that the target is asked for at once; default 500
	Workers    int           // chunks at a time; default 2
	Rate       int           // records per second at most; 0: no limit
	Pause      time.Duration // before a suspect is rechecked; doubles each time; default 1 s
	Rereads    int           // how often; default 5
	Findings   int           // kept a run; default 1000. Counts are exact beyond it.
	MaxRepairs int           // a run makes at most; default 1000, negative: none
	RepairRate int           // repairs per second at most; 0: no limit
	Quarantine int           // suspects in memory at most before they are rechecked; default 50,000

	// NotAfter is how long after its legacy commit a write may still reach the
	// target. A difference counts once it has outlasted this: after a shorter time, a
	// write on its way would count as a lost one. Default 10 s.
	NotAfter time.Duration
	// Expires is the field (by legacy's name) past which a record does not exist;
	// empty: the target's records don't expire.
	Expires string
	// Barrier of the last finished backfill, if known: an entry that is older is
	// stale, whatever its fields.
	Barrier record.Version

	// Lease is how long a process may go without a heartbeat before its jobs go to
	// others. Default 15 s.
	Lease time.Duration

	// MaxDifference is the share of what was compared that may differ before a run
	// repairs nothing: a wrong mapping must not rewrite all records. Default 1 %;
	// phases.Whole: no bound. It holds once boundFrom records were compared.
	MaxDifference phases.Share

	Recent Recent // what a sampled run compares in addition

	// Report, if set, is called after every batch with the present state, by one
	// goroutine at a time.
	Report func(Run)
	// OnJournal, if set, is called as a repairing run clears the journal, with how many keys it had when the
	// run began with it.
	OnJournal func(cleared, of int64)
}

// RunOptions say what one run does.
type RunOptions struct {
	// Resume is the ID of an interrupted run to resume: its own settings hold instead
	// of these, and jobs that were done count. 0: a new run.
	Resume int64
	Full   bool // every record; else a sample
	TwoWay bool // search for records that only the target has, too (reads the whole target)
	Repair bool // repair the journal, and each confirmed difference once all is compared
	// Plan, if set, is called with what a repair would do, key by key, and nothing is
	// done. Repair must not be set.
	Plan func(Planned)
	// Force is the reason why a run repairs beyond MaxDifference; empty: it does not.
	Force string
	// Sample is the share of legacy's records that a run that is not full checks;
	// as many runs as it takes check everything. Default 1 %.
	Sample phases.Percent
}

func (o Options) defaults() Options {
	for _, n := range []struct {
		value    *int
		standard int
	}{
		{&o.ChunkRows, 5000},
		{&o.Batch, 500},
		{&o.Workers, 2},
		{&o.Rereads, 5},
		{&o.Findings, 1000},
		{&o.MaxRepairs, 1000},
		{&o.Quarantine, 50_000},
	} {
		if *n.value <= 0 && !(n.value == &o.MaxRepairs && o.MaxRepairs < 0) {
			*n.value = n.standard
		}
	}
	o.MaxRepairs = max(o.MaxRepairs, 0)
	if o.MaxDifference <= 0 {
		o.MaxDifference = phases.Whole / 100
	}
	if o.Rate > 0 {
		o.Batch = min(o.Batch, o.Rate)
	}
	if o.Pause <= 0 {
		o.Pause = time.Second
	}
	if o.Lease <= 0 {
		o.Lease = 15 * time.Second
	}
	if o.NotAfter <= 0 {
		o.NotAfter = phases.NotAfter
	}
	return o
}
