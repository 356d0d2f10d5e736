package reconcile

import (
	"context"
	"time"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// Job is a part of a run that one process compares at a time: chunks enough for
// its overhead not to be felt.
type Job struct {
	Number int           `json:"number"` // from 0, within the run
	Chunks []store.Chunk `json:"chunks"`
}

// Tally is the result of a job's comparison.
type Tally struct {
	Checked  int64
	Suspects []record.Key
	Ahead    []record.Key // agree, but the target's version seems to be ahead
	Names    []uint64     // the hashes of legacy's keys, if the run's Terms require them
}

// Terms are what all processes that work on a run must agree on.
type Terms struct {
	Names bool   `json:"names"` // tallies have the hashes of keys
	Seed  uint64 `json:"seed"`  // of these hashes
	// Spans is true if the chunks are ranges of keys: versions are compared afterwards,
	// for all records.
	Spans  bool `json:"spans"`
	TwoWay bool `json:"two_way"` // spans are searched for what only the target has, too
	Rate   int  `json:"rate"`    // records per second at most, by all processes together; 0: no limit
	// Lease is how long a process may go without a heartbeat before its jobs go to others.
	Lease time.Duration `json:"lease"`
}

// Resumed is how far an interrupted run got.
type Resumed struct {
	Terms    Terms
	Jobs     int   // that the run has; 0: it ended before it had any
	Finished int   // of these
	Checked  int64 // by jobs whose suspects are rechecked; the others' tallies are still to come
	Suspects int64
	Findings []Finding // that were kept
}

// Jobs shares the jobs of a run among processes. Each job counts once: the tally of a
// process whose job went to another one is dropped. reconciles.Runs implements it in
// the state database.
type Jobs interface {
	// Enqueue gives the run its jobs, in place of those it had.
	Enqueue(ctx context.Context, run int64, terms Terms, jobs []Job) error
	// Resumed returns how far the run got.
	Resumed(ctx context.Context, run int64) (Resumed, error)
	// Work compares the run's jobs, so many at a time in this process, beside others,
	// until all are done. It calls done with each job's tally, once, one at a time; that
	// includes jobs that were done before and whose suspects are not rechecked. It
	// returns the first error of done, of this process's compare, or of a job that
	// failed after all retries.
	Work(ctx context.Context, run int64, workers int, compare func(context.Context, Job) (*Tally, error), done func(Job, *Tally) error) error
	// WaitWhilePaused returns once the run is not paused, with the number of processes
	// that work on it. ErrCancelled ends it.
	WaitWhilePaused(ctx context.Context, run int64) (sharers int, err error)
}

// Sizes of jobs.
const (
	jobRows    = 50_000
	jobRowsMin = 5_000 // less is not worth its overhead, some milliseconds
	jobsAtMost = 16    // of a run between these, so that its jobs can be shared too
	jobSeconds = 10    // that a job takes at the run's rate: an interruption costs no more than this
)

// cutJobs puts neighbouring chunks together into jobs.
func cutJobs(chunks []store.Chunk, rate int) []Job {
	rows := max(jobRowsMin, min(jobRows, expected(chunks)/jobsAtMost))
	if rate > 0 {
		rows = min(rows, int64(rate)*jobSeconds)
	}
	var jobs []Job
	for len(chunks) > 0 {
		n, sum := 0, int64(0)
		for n < len(chunks) && (n == 0 || sum+chunks[n].Rows <= rows) {
			sum += chunks[n].Rows
			n++
		}
		jobs = append(jobs, Job{Number: len(jobs), Chunks: chunks[:n]})
		chunks = chunks[n:]
	}
	return jobs
}
