package reconciles

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/stranglerfig/migrator/internal/state/queue"
)

// jobArgs identify a job of a run. Its row in reconcile_jobs has all the rest.
type jobArgs struct {
	Migration string `json:"migration"`
	Run       int64  `json:"run"`
	Number    int    `json:"number"`
}

// maxAttempts is how often a job is tried before its run ends.
const maxAttempts = 3

// Kind implements river.JobArgs.
func (jobArgs) Kind() string { return "reconcile" }

// InsertOpts implements river.JobArgsWithInsertOpts.
func (a jobArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: queueOf(a.Migration), MaxAttempts: maxAttempts}
}

// queueOf names the queue of one migration's runs, of which one is active at a time.
func queueOf(migration string) string { return queue.Name("reconcile", migration) }

// Pauses of the queue.
const (
	queuePoll  = time.Second
	queueRetry = time.Second      // after the first failure, and after an error of the state database
	skipFor    = 10 * time.Second // a worker leaves a queue with jobs of another config hash
)

// retries implements river.ClientRetryPolicy.
type retries struct{}

// NextRetry waits for longer after each failure.
func (retries) NextRetry(j *rivertype.JobRow) time.Time {
	return time.Now().Add(time.Duration(j.Attempt) * queueRetry)
}

// requeue makes jobs, whose rows the transaction has locked, wait for any worker, and wakes one.
func requeue(ctx context.Context, tx pgx.Tx, jobs ...jobArgs) error {
	wakeups := make([]river.InsertManyParams, len(jobs))
	for i, j := range jobs {
		wakeups[i].Args = j
	}
	ids, err := queue.Insert(ctx, tx, wakeups...)
	if err != nil {
		return err
	}
	b := &pgx.Batch{}
	for i, j := range jobs {
		b.Queue(`UPDATE migrator.reconcile_jobs SET state = 'waiting', wakeup = $3, attempt = NULL, worker = '', beat_at = NULL
			WHERE run = $1 AND number = $2`, j.Run, j.Number, ids[i])
	}
	return tx.SendBatch(ctx, b).Close()
}

// clearQueue ends the queue's part in a run that is over: its jobs that run are cancelled, those
// that wait are deleted, and a pause ends unless another run is paused. What stays in the queue
// finds that the run is over.
func clearQueue(ctx context.Context, tx pgx.Tx, migration string, run int64) error {
	var taken []int64
	var paused bool
	err := tx.QueryRow(ctx, `SELECT ARRAY(SELECT wakeup FROM migrator.reconcile_jobs WHERE run = $2 AND state = 'taken' ORDER BY wakeup),
			EXISTS (SELECT FROM migrator.reconcile_runs WHERE migration = $1 AND id <> $2 AND status = 'paused')`, migration, run).Scan(&taken, &paused)
	if err != nil {
		return err
	}
	if err := queue.Cancel(ctx, tx, taken...); err != nil {
		return err
	}
	if err := queue.DeleteWaiting(ctx, tx, queueOf(migration), `(args ->> 'run')::bigint = @run`, river.NamedArgs{"run": run}); err != nil || paused {
		return err
	}
	return queue.SetPaused(ctx, tx, queueOf(migration), false)
}
