package reconciles

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/state/queue"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/store"
)

// workerPool is the workers of one process that execute jobs of a migration's runs.
//
// The queue wakes a worker, and retries a job that failed; the job's row says which worker has
// it, and has its result. A worker takes a waiting row under a new attempt, a random number,
// writes heartbeats while it works, and completes the job by compare-and-set on the attempt. Any
// process that finds a row without a heartbeat for a lease makes it wait again, without an
// attempt: the result of the old one is then dropped, also if its worker was only frozen.
type workerPool struct {
	r         *Runs
	name      string // of the process
	config    string // config hash of this process's migration file
	keepNames bool   // another process adds the names up
	compare   func(ctx context.Context, run int64, terms reconcile.Terms, j reconcile.Job) (*reconcile.Tally, error)
	finished  func(ctx context.Context, run int64, j reconcile.Job, t *reconcile.Tally)
	fatal     chan error // receives this process's first failure; nil: a failure is the job's
	skipped   sync.Map   // runs of another config hash that were logged
	leave     func()     // ends the present serving of the queue
}

func processName() string {
	host, _ := os.Hostname()
	return fmt.Sprintf("%s:%d:%s", host, os.Getpid(), rand.Text()[:6])
}

var (
	errReassigned = errors.New("the job was reassigned to another worker")
	saveWithin    = 20 * time.Second
)

// serve executes jobs until ctx ends.
func (c *workerPool) serve(ctx context.Context, workers int) error {
	c.requeueLost(ctx) // before the queue's first fetch, which finds them
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		for {
			serving, leave := context.WithCancel(ctx)
			c.leave = leave
			err := queue.Serve(serving, c.r.pool, queue.Served{
				Name: queueOf(c.r.migration), Workers: workers, Poll: queuePoll, Retry: retries{}, Log: c.log(),
			}, c.work)
			left := serving.Err() != nil
			leave()
			switch {
			case ctx.Err() != nil:
				return nil
			case !left:
				return statedb.Explain(err)
			case statedb.Sleep(ctx, skipFor) != nil:
				return nil
			}
		}
	})
	group.Go(func() error {
		for statedb.Sleep(ctx, requeueEvery) == nil {
			c.requeueLost(ctx)
		}
		return nil
	})
	return group.Wait()
}

func (c *workerPool) log() *slog.Logger {
	if c.r.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.r.Log
}

// held is a job that this process has taken.
type held struct {
	jobArgs
	attempt string // its fencing token
	terms   reconcile.Terms
	job     reconcile.Job
}

// work executes one job; the queue calls it.
func (c *workerPool) work(ctx context.Context, woken *river.Job[jobArgs]) error {
	h, err := c.take(ctx, woken.Args, woken.ID)
	switch {
	case errors.Is(err, errOtherConfig):
		// All polls have one interval. Without leaving the queue, this worker could be the first to
		// fetch the job again each time.
		c.leave()
		return river.JobSnooze(queueRetry)
	case errors.Is(err, errPaused): // the queue is too, once its processes are notified
		return river.JobSnooze(queueRetry)
	case err != nil:
		c.log().Warn("taking a job failed", "run", woken.Args.Run, "job", woken.Args.Number, "error", err, hint.Attr(err))
		return river.JobSnooze(queueRetry) // the job itself did not fail
	case h == nil:
		return nil
	}
	failpoint.Here("state.job.taken")
	process := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	var beats sync.WaitGroup
	// Heartbeats while the job runs; its end waits for the last one, so that none is written for a
	// job that is over.
	beats.Go(func() { c.beat(ctx, cancel, h) })
	tally, err := c.compare(ctx, h.Run, h.terms, h.job)
	if gone := context.Cause(ctx); errors.Is(gone, errReassigned) {
		err = gone
	}
	// The result is saved, or the job given back, also when the process is to stop; within a bound,
	// or the stop would hang.
	saving, saved := context.WithTimeout(context.WithoutCancel(ctx), saveWithin)
	defer saved()
	if err == nil {
		failpoint.Here("state.job.compared")
		err = c.complete(saving, h, tally)
	}
	ended := ctx.Err() != nil
	cancel(nil)
	beats.Wait()
	switch {
	case err == nil:
		failpoint.Here("state.job.done")
		c.finished(process, h.Run, h.job, tally)
		return nil
	case errors.Is(err, errReassigned):
		c.log().Warn("job was reassigned to another worker; dropping its result", "run", h.Run, "job", h.Number)
		return nil
	case c.fatal != nil && !ended:
		select {
		case c.fatal <- err:
		default:
		}
		return c.giveBack(saving, h)
	case ended, errors.Is(err, reconcile.ErrCancelled), errors.Is(err, errRunEnded):
		return c.giveBack(saving, h)
	}
	c.log().Warn("job failed", "run", h.Run, "job", h.Number, "error", err, hint.Attr(err))
	moved := errors.Is(err, store.ErrMoved)
	if failed := c.fail(saving, h, err, moved, woken.Attempt >= woken.MaxAttempts); failed != nil {
		return failed
	}
	if moved {
		return river.JobCancel(err)
	}
	return err
}

var (
	errOtherConfig = errors.New("the run has another config hash")
	errPaused      = errors.New("the run is paused")
)

// take claims the job. It returns nil if the job does not wait, whatever the queue says: it is
// done, or another worker has it, or the run is over.
func (c *workerPool) take(ctx context.Context, a jobArgs, wakeup int64) (*held, error) {
	h := &held{jobArgs: a, job: reconcile.Job{Number: a.Number}}
	var about, chunks string
	// Compare-and-set on the state: of two wake-ups one takes the job. The config hash: findings
	// under another mapping would be wrong.
	err := c.r.pool.QueryRow(ctx, `UPDATE migrator.reconcile_jobs j SET state = 'taken', attempt = gen_random_uuid(), attempts = attempts + 1,
			wakeup = $3, worker = $4, beat_at = clock_timestamp()
		FROM migrator.reconcile_runs r
		WHERE j.run = $1 AND j.number = $2 AND j.state = 'waiting'
		  AND r.id = j.run AND r.migration = $5 AND r.status = 'running' AND r.config_hash = $6
		RETURNING j.attempt::text, r.terms::text, j.chunks::text`, a.Run, a.Number, wakeup, c.name, c.r.migration, c.config).Scan(&h.attempt, &about, &chunks)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, c.skip(ctx, a)
	case err != nil:
		return nil, statedb.Explain(err)
	}
	if err := json.Unmarshal([]byte(about), &h.terms); err != nil {
		return nil, err
	}
	return h, json.Unmarshal([]byte(chunks), &h.job.Chunks)
}

// skip returns why a job that waits was not taken, or nil if it does not wait. It logs once that a
// run has another config hash: the job stays in the queue for others.
func (c *workerPool) skip(ctx context.Context, a jobArgs) error {
	run := a.Run
	var config string
	err := c.r.pool.QueryRow(ctx, `SELECT r.config_hash FROM migrator.reconcile_runs r JOIN migrator.reconcile_jobs j ON j.run = r.id
		WHERE r.id = $1 AND j.number = $2 AND j.state = 'waiting' AND r.status IN ('running', 'paused')`, run, a.Number).Scan(&config)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return statedb.Explain(err)
	case config == c.config: // or it was when the job was to be taken
		return errPaused
	}
	if _, logged := c.skipped.LoadOrStore(run, true); !logged {
		c.log().Error("skipping run: its config hash differs from this worker's",
			"run", run, "its", config[:min(12, len(config))], "mine", c.config[:min(12, len(c.config))], "hint", hint.Hint{Text: "start the worker with the migration file that is applied"})
	}
	return errOtherConfig
}

// beat writes heartbeats, and cancels the job when it was reassigned. While the database
// does not answer the job continues: complete checks again whose it is.
func (c *workerPool) beat(ctx context.Context, cancel context.CancelCauseFunc, h *held) {
	for statedb.Sleep(ctx, h.terms.Lease/3) == nil {
		tag, err := c.r.pool.Exec(ctx, `UPDATE migrator.reconcile_jobs SET beat_at = clock_timestamp()
			WHERE run = $1 AND number = $2 AND attempt = $3::uuid`, h.Run, h.Number, h.attempt)
		if err == nil && tag.RowsAffected() == 0 {
			cancel(errReassigned)
			return
		}
	}
}

// complete stores a job's result. From its commit on the job counts.
func (c *workerPool) complete(ctx context.Context, h *held, t *reconcile.Tally) error {
	var names []byte
	if c.keepNames {
		names = make([]byte, 0, 8*len(t.Names))
		for _, n := range t.Names {
			names = binary.LittleEndian.AppendUint64(names, n)
		}
	}
	// Compare-and-set on the attempt: the result of a worker whose heartbeat expired is dropped, or
	// its records would be counted twice. A row that this process has completed is the same job's, of an
	// attempt of which it did not learn that it was stored.
	return statedb.Persist(ctx, func() error {
		tag, err := c.r.pool.Exec(ctx, `UPDATE migrator.reconcile_jobs SET state = 'done', attempt = NULL,
				checked = $4, suspected = $5, suspects = $6, ahead = $7, names = $8, error = ''
			WHERE run = $1 AND number = $2 AND (attempt = $3::uuid OR state = 'done' AND worker = $9)`, h.Run, h.Number, h.attempt,
			t.Checked, len(t.Suspects), rawKeys(t.Suspects), rawKeys(t.Ahead), names, c.name)
		if err == nil && tag.RowsAffected() == 0 {
			return errReassigned
		}
		return statedb.Explain(err)
	})
}

// giveBack makes the job wait for any worker, and wakes one at once. River's own snooze and retry
// wake no other process: it would find the job at its next poll.
func (c *workerPool) giveBack(ctx context.Context, h *held) error {
	return statedb.Persist(ctx, func() error { return statedb.Explain(c.backToQueue(ctx, h)) })
}

func (c *workerPool) backToQueue(ctx context.Context, h *held) error {
	return pgx.BeginTxFunc(ctx, c.r.pool, statedb.ReadCommitted, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `SELECT FROM migrator.reconcile_jobs WHERE run = $1 AND number = $2 AND attempt = $3::uuid FOR UPDATE`,
			h.Run, h.Number, h.attempt)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		return requeue(ctx, tx, h.jobArgs)
	})
}

// fail records a failure, whose job waits again for River's retry; or, after the last attempt or
// when legacy's storage was replaced, has failed.
func (c *workerPool) fail(ctx context.Context, h *held, why error, moved, last bool) error {
	// The same compare-and-set: the failure is not recorded if another worker has the job now. beat_at
	// gives the queue a lease's time to notice that the job no longer runs.
	_, err := c.r.pool.Exec(ctx, `UPDATE migrator.reconcile_jobs SET failures = failures + 1, error = $4, moved = $5, attempt = NULL, beat_at = clock_timestamp(),
			state = CASE WHEN $6 THEN 'failed' ELSE 'waiting' END
		WHERE run = $1 AND number = $2 AND attempt = $3::uuid`,
		h.Run, h.Number, h.attempt, statedb.CleanText(why.Error()), moved, moved || last)
	return statedb.Explain(err)
}

// requeueEvery is how often each process looks for jobs that no wake-up is left for.
const requeueEvery = time.Second

// requeueLost wakes workers for jobs whose worker's heartbeat expired, and for waiting jobs that
// the queue does not have: they are new, or their wake-up was lost, or the process that
// was woken died before it took the job.
func (c *workerPool) requeueLost(ctx context.Context) {
	err := pgx.BeginTxFunc(ctx, c.r.pool, statedb.ReadCommitted, func(tx pgx.Tx) error {
		// SKIP LOCKED: a row that is being completed or requeued is skipped. A frozen worker finds at
		// its next heartbeat that it no longer has the job. A wake-up that is due in a minute is of a
		// process whose clock is ahead.
		rows, err := tx.Query(ctx, `SELECT j.run, j.number, j.worker, j.wakeup, coalesce(q.state = 'running', false) FROM migrator.reconcile_jobs j
			JOIN migrator.reconcile_runs r ON r.id = j.run
			LEFT JOIN `+statedb.QueueSchema+`.river_job q ON q.id = j.wakeup,
			LATERAL (SELECT clock_timestamp() - make_interval(secs => (r.terms ->> 'lease')::bigint / 1e9) AS stale) t
			WHERE r.migration = $1 AND r.status IN ('running', 'paused')
			  AND (j.state = 'taken' AND j.beat_at < t.stale
			    OR j.state = 'waiting' AND NOT coalesce(q.queue = $2 AND CASE q.state
			       WHEN 'running' THEN greatest(q.attempted_at, j.beat_at) >= t.stale
			       WHEN 'pending' THEN false
			       ELSE q.finalized_at IS NULL AND q.scheduled_at < clock_timestamp() + interval '1 minute' END, false))
			ORDER BY j.run, j.number LIMIT 10000 FOR UPDATE OF j SKIP LOCKED`, c.r.migration, queueOf(c.r.migration))
		if err != nil {
			return err
		}
		var lost []jobArgs
		var orphans []int64
		var worker string
		var wakeup *int64
		var running bool
		a := jobArgs{Migration: c.r.migration}
		_, err = pgx.ForEachRow(rows, []any{&a.Run, &a.Number, &worker, &wakeup, &running}, func() error {
			if worker != "" {
				c.log().Warn("worker heartbeat expired; requeueing job", "run", a.Run, "job", a.Number, "worker", worker)
			}
			lost = append(lost, a)
			if running {
				orphans = append(orphans, *wakeup)
			}
			return nil
		})
		if err != nil || len(lost) == 0 {
			return err
		}
		// River makes no entry that runs available again: its retry leaves these alone, and its rescue
		// goes by their age. So the job gets another entry.
		if err := queue.Cancel(ctx, tx, orphans...); err != nil {
			return err
		}
		return requeue(ctx, tx, lost...)
	})
	if err = statedb.Explain(err); err != nil && ctx.Err() == nil {
		c.log().Warn("requeueing lost jobs failed", "error", err, hint.Attr(err))
	}
}
