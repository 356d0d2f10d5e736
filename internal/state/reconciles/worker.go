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
	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/store"
)

// workerPool is the workers of one process that execute jobs of a migration's runs.
//
// The queue delivers a job to a worker; the job's row says which worker has it. A worker
// takes the row by compare-and-set on its attempt, writes heartbeats while it works, and
// completes the job by the same compare-and-set. Any process that finds a row without a
// heartbeat for a lease gives it a new attempt: the result of the old attempt is then
// dropped, also if its worker was only frozen.
type workerPool struct {
	r         *Runs
	name      string // of the process
	config    string // config hash of this process's migration file
	keepNames bool   // another process adds the names up
	compare   func(ctx context.Context, run int64, terms reconcile.Terms, j reconcile.Job) (*reconcile.Tally, error)
	finished  func(ctx context.Context, run int64, j reconcile.Job, t *reconcile.Tally)
	fatal     chan error // receives this process's first failure; nil: a failure is the job's
	skipped   sync.Map   // runs of another config hash that were logged
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
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		err := serveQueue(ctx, c.r.pool, c.r.migration, workers, c.log(), c.work)
		if ctx.Err() != nil {
			return nil
		}
		return statedb.Explain(err)
	})
	group.Go(func() error {
		for {
			if err := c.requeueExpired(ctx); err != nil && ctx.Err() == nil {
				c.log().Warn("requeueing jobs of expired workers failed", "error", err, hint.Attr(err))
			}
			if statedb.Sleep(ctx, time.Second) != nil {
				return nil
			}
		}
	})
	return group.Wait()
}

func (c *workerPool) log() *slog.Logger {
	if c.r.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.r.Log
}

// work executes one job; the queue calls it. After an error the queue retries the job a
// second later; every other outcome is recorded in the job's row.
func (c *workerPool) work(ctx context.Context, a jobArgs, attempt int64) error {
	terms, job, mine, err := c.take(ctx, a, attempt)
	if err != nil || !mine {
		return err
	}
	failpoint.Here("state.job.taken")
	process := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	var beats sync.WaitGroup
	// Heartbeats while the job runs; its end waits for the last one, so that none is written for a
	// job that is over.
	beats.Go(func() { c.beat(ctx, cancel, attempt, terms.Lease) })
	tally, err := c.compare(ctx, a.Run, terms, job)
	if gone := context.Cause(ctx); errors.Is(gone, errReassigned) {
		err = gone
	}
	// The result is saved, or the job given back, also when the process is to stop; within a bound,
	// or the stop would hang.
	saving, saved := context.WithTimeout(context.WithoutCancel(ctx), saveWithin)
	defer saved()
	if err == nil {
		failpoint.Here("state.job.compared")
		err = c.complete(saving, a, attempt, tally)
	}
	ended := ctx.Err() != nil
	cancel(nil)
	beats.Wait()
	switch {
	case err == nil:
		failpoint.Here("state.job.done")
		c.finished(process, a.Run, job, tally)
		return nil
	case errors.Is(err, errReassigned):
		c.log().Warn("job was reassigned to another worker; dropping its result", "run", a.Run, "job", a.Number)
		return nil
	case c.fatal != nil && !ended:
		select {
		case c.fatal <- err:
		default:
		}
		return c.giveBack(saving, a, attempt, time.Second)
	case ended, errors.Is(err, reconcile.ErrCancelled), errors.Is(err, errRunEnded):
		return c.giveBack(saving, a, attempt, 0)
	default:
		c.log().Warn("job failed", "run", a.Run, "job", a.Number, "error", err, hint.Attr(err))
		return c.fail(saving, a, attempt, err)
	}
}

// take claims the job; mine is false if another worker has it, or the run is not this
// worker's.
func (c *workerPool) take(ctx context.Context, a jobArgs, attempt int64) (terms reconcile.Terms, job reconcile.Job, mine bool, err error) {
	var about, chunks string
	job.Number = a.Number
	// Compare-and-set on the attempt: an entry of the queue from before the job was requeued takes
	// nothing. The config hash: findings under another mapping would be wrong.
	err = c.r.pool.QueryRow(ctx, `UPDATE migrator.reconcile_jobs j SET state = 'taken', worker = $4, beat_at = clock_timestamp()
		FROM migrator.reconcile_runs r
		WHERE j.run = $1 AND j.number = $2 AND j.attempt = $3 AND j.state = 'waiting'
		  AND r.id = j.run AND r.migration = $5 AND r.status IN ('running', 'paused') AND r.config_hash = $6
		RETURNING r.terms::text, j.chunks::text`, a.Run, a.Number, attempt, c.name, c.r.migration, c.config).Scan(&about, &chunks)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return terms, job, false, c.logSkipped(ctx, a.Run)
	case err != nil:
		return terms, job, false, statedb.Explain(err)
	}
	if err = json.Unmarshal([]byte(about), &terms); err == nil {
		err = json.Unmarshal([]byte(chunks), &job.Chunks)
	}
	return terms, job, err == nil, err
}

// logSkipped logs once that a run has another config hash. The job stays waiting, and is
// queued again for others.
func (c *workerPool) logSkipped(ctx context.Context, run int64) error {
	var config string
	err := c.r.pool.QueryRow(ctx, `SELECT config_hash FROM migrator.reconcile_runs WHERE id = $1 AND status IN ('running', 'paused')`, run).Scan(&config)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && config == c.config {
		return nil
	}
	if _, logged := c.skipped.LoadOrStore(run, true); !logged && err == nil {
		c.log().Error("skipping run: its config hash differs from this worker's",
			"run", run, "its", config[:min(12, len(config))], "mine", c.config[:min(12, len(c.config))], "hint", hint.Hint{Text: "start the worker with the migration file that is applied"})
	}
	return statedb.Explain(err)
}

// beat writes heartbeats, and cancels the job when it was reassigned. While the database
// does not answer the job continues: complete checks again whose it is.
func (c *workerPool) beat(ctx context.Context, cancel context.CancelCauseFunc, attempt int64, lease time.Duration) {
	for statedb.Sleep(ctx, lease/3) == nil {
		tag, err := c.r.pool.Exec(ctx, `UPDATE migrator.reconcile_jobs SET beat_at = clock_timestamp()
			WHERE attempt = $1 AND worker = $2 AND state = 'taken'`, attempt, c.name)
		if err == nil && tag.RowsAffected() == 0 {
			cancel(errReassigned)
			return
		}
	}
}

// complete stores a job's result. From its commit on the job counts.
func (c *workerPool) complete(ctx context.Context, a jobArgs, attempt int64, t *reconcile.Tally) error {
	var names []byte
	if c.keepNames {
		names = make([]byte, 0, 8*len(t.Names))
		for _, n := range t.Names {
			names = binary.LittleEndian.AppendUint64(names, n)
		}
	}
	// Compare-and-set on the attempt and the worker: the result of a worker whose heartbeat expired
	// is dropped, or its records would be counted twice.
	tag, err := c.r.pool.Exec(ctx, `UPDATE migrator.reconcile_jobs SET state = 'done', checked = $4, suspected = $5, suspects = $6, ahead = $7, names = $8, error = ''
		WHERE run = $1 AND number = $2 AND attempt = $3 AND state = 'taken' AND worker = $9`, a.Run, a.Number, attempt,
		t.Checked, len(t.Suspects), rawKeys(t.Suspects), rawKeys(t.Ahead), names, c.name)
	if err == nil && tag.RowsAffected() == 0 {
		return errReassigned
	}
	return statedb.Explain(err)
}

// giveBack returns the job to the queue, for any worker.
func (c *workerPool) giveBack(ctx context.Context, a jobArgs, attempt int64, after time.Duration) error {
	return statedb.Explain(pgx.BeginTxFunc(ctx, c.r.pool, statedb.ReadCommitted, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `SELECT FROM migrator.reconcile_jobs WHERE run = $1 AND number = $2 AND attempt = $3 AND state = 'taken' AND worker = $4
			FOR UPDATE`, a.Run, a.Number, attempt, c.name)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		return requeue(ctx, tx, []jobArgs{a}, after)
	}))
}

// maxFailures is how often a job may fail, at whatever worker.
const maxFailures = 3

// fail counts a failure, and requeues the job until it has failed maxFailures times.
func (c *workerPool) fail(ctx context.Context, a jobArgs, attempt int64, why error) error {
	moved := errors.Is(why, store.ErrMoved)
	return statedb.Explain(pgx.BeginTxFunc(ctx, c.r.pool, statedb.ReadCommitted, func(tx pgx.Tx) error {
		var failures int
		// The same compare-and-set: the failure is not counted if another worker has the job now.
		err := tx.QueryRow(ctx, `UPDATE migrator.reconcile_jobs SET failures = failures + 1, error = $5, moved = $6,
				state = CASE WHEN $6 OR failures + 1 >= $7 THEN 'failed' ELSE 'taken' END
			WHERE run = $1 AND number = $2 AND attempt = $3 AND state = 'taken' AND worker = $4 RETURNING failures`,
			a.Run, a.Number, attempt, c.name, statedb.CleanText(why.Error()), moved, maxFailures).Scan(&failures)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil || moved || failures >= maxFailures {
			return err
		}
		return requeue(ctx, tx, []jobArgs{a}, time.Duration(failures)*time.Second)
	}))
}

// requeue gives the jobs, whose rows the transaction has locked, new attempts.
func requeue(ctx context.Context, tx pgx.Tx, jobs []jobArgs, after time.Duration) error {
	at := time.Time{}
	if after > 0 { // by the database's clock: a machine's own may be hours ahead
		if err := tx.QueryRow(ctx, `SELECT clock_timestamp() + $1::interval`, after).Scan(&at); err != nil {
			return err
		}
	}
	ids, err := enqueue(ctx, tx, jobs, at)
	if err != nil {
		return err
	}
	b := &pgx.Batch{}
	for i, j := range jobs {
		b.Queue(`UPDATE migrator.reconcile_jobs SET state = 'waiting', attempt = $3, attempts = attempts + 1, worker = '', beat_at = NULL
			WHERE run = $1 AND number = $2`, j.Run, j.Number, ids[i])
	}
	return tx.SendBatch(ctx, b).Close()
}

// requeueExpired gives new attempts to jobs whose worker's heartbeat expired, and to
// waiting jobs that the queue no longer has: the process that fetched them died before it
// took them.
func (c *workerPool) requeueExpired(ctx context.Context) error {
	return statedb.Explain(pgx.BeginTxFunc(ctx, c.r.pool, statedb.ReadCommitted, func(tx pgx.Tx) error {
		// SKIP LOCKED: a row that is being completed or requeued is skipped. A frozen worker finds at
		// its next heartbeat that its attempt is no longer the row's.
		rows, err := tx.Query(ctx, `SELECT j.run, j.number, j.worker FROM migrator.reconcile_jobs j
			JOIN migrator.reconcile_runs r ON r.id = j.run
			LEFT JOIN `+statedb.QueueSchema+`.river_job q ON q.id = j.attempt,
			LATERAL (SELECT clock_timestamp() - make_interval(secs => (r.terms ->> 'lease')::bigint / 1e9) AS stale) t
			WHERE r.migration = $1 AND r.status IN ('running', 'paused')
			  AND (j.state = 'taken' AND j.beat_at < t.stale
			    OR j.state = 'waiting' AND (q.id IS NULL OR q.state IN ('completed', 'cancelled', 'discarded')
			       OR q.state = 'running' AND q.attempted_at < t.stale))
			ORDER BY j.run, j.number LIMIT 10000 FOR UPDATE OF j SKIP LOCKED`, c.r.migration)
		if err != nil {
			return err
		}
		var expired []jobArgs
		var worker string
		a := jobArgs{Migration: c.r.migration}
		_, err = pgx.ForEachRow(rows, []any{&a.Run, &a.Number, &worker}, func() error {
			if worker != "" {
				c.log().Warn("worker heartbeat expired; requeueing job", "run", a.Run, "job", a.Number, "worker", worker)
			}
			expired = append(expired, a)
			return nil
		})
		if err != nil || len(expired) == 0 {
			return err
		}
		return requeue(ctx, tx, expired, 0)
	}))
}
