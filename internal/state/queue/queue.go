// Package queue wakes processes: River's job queue, in the schema statedb.QueueSchema. A job of
// the queue is a wake-up, never evidence. It may be lost, duplicated or forged, so a process that
// is woken decides by rows of the schema migrator, and also looks there by itself.
package queue

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"

	"github.com/stranglerfig/migrator/internal/statedb"
)

// Name returns the name of a migration's queue for a purpose. It has a hash, because River does not
// accept every name of a migration. migrator.wake_sender makes the same names in SQL.
func Name(purpose, migration string) string {
	sum := sha256.Sum256([]byte(migration))
	return purpose + "_" + hex.EncodeToString(sum[:8])
}

// inserter returns a client that changes the queue in its caller's transactions, and works nothing.
// One client notifies once in 100 ms of what it inserts, so each transaction has its own.
func inserter() (*river.Client[pgx.Tx], error) {
	return river.NewClient(riverpgxv5.New(nil), &river.Config{Schema: statedb.QueueSchema, Logger: slog.New(slog.DiscardHandler)})
}

// Insert adds jobs, which wake workers when tx commits, and returns their numbers.
func Insert(ctx context.Context, tx pgx.Tx, jobs ...river.InsertManyParams) ([]int64, error) {
	c, err := inserter()
	if err != nil {
		return nil, err
	}
	results, err := c.InsertManyTx(ctx, tx, jobs)
	ids := make([]int64, len(results))
	for i, r := range results {
		ids[i] = r.Job.ID
	}
	return ids, err
}

// Cancel cancels the contexts of these jobs' workers, in whichever process they run, or deletes
// the jobs if they wait. River removes those of a dead process after an hour.
func Cancel(ctx context.Context, tx pgx.Tx, jobs ...int64) error {
	c, err := inserter()
	if err != nil {
		return err
	}
	for _, id := range jobs {
		if _, err := c.JobCancelTx(ctx, tx, id); err != nil && !errors.Is(err, rivertype.ErrNotFound) {
			return err
		}
	}
	return nil
}

// DeleteWaiting deletes jobs of the queue that wait, 10,000 at most, for which the SQL condition
// holds.
func DeleteWaiting(ctx context.Context, tx pgx.Tx, name, where string, args river.NamedArgs) error {
	c, err := inserter()
	if err != nil {
		return err
	}
	_, err = c.JobDeleteManyTx(ctx, tx, river.NewJobDeleteManyParams().Queues(name).First(10_000).
		States(rivertype.JobStateAvailable, rivertype.JobStateRetryable, rivertype.JobStateScheduled).Where(where, args))
	return err
}

// SetPaused makes that no process fetches a job from the queue, or that they do again. It has no
// effect on a queue that no process has served.
func SetPaused(ctx context.Context, tx pgx.Tx, name string, paused bool) error {
	c, err := inserter()
	if err != nil {
		return err
	}
	if paused {
		err = c.QueuePauseTx(ctx, tx, name, nil)
	} else {
		err = c.QueueResumeTx(ctx, tx, name, nil)
	}
	if errors.Is(err, rivertype.ErrNotFound) {
		return nil
	}
	return err
}

// cooldown is the pause between two fetches. A worker that is done asks for the next job at once.
const cooldown = 5 * time.Millisecond

// Served is a queue, and how this process serves it.
type Served struct {
	Name    string
	Workers int
	Poll    time.Duration // how often it looks for jobs that nothing has announced
	Retry   river.ClientRetryPolicy
	Log     *slog.Logger
}

// Serve calls work with the queue's jobs until ctx ends. It then cancels the running ones and
// waits for them.
func Serve[T river.JobArgs](ctx context.Context, pool *pgxpool.Pool, s Served, work func(context.Context, *river.Job[T]) error) error {
	workers := river.NewWorkers()
	if err := river.AddWorkerSafely(workers, river.WorkFunc(work)); err != nil {
		return err
	}
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Schema: statedb.QueueSchema, Logger: s.Log, Workers: workers,
		Queues:        map[string]river.QueueConfig{s.Name: {MaxWorkers: s.Workers}},
		FetchCooldown: cooldown, FetchPollInterval: s.Poll,
		RetryPolicy:       s.Retry,
		JobTimeout:        -1, // none: a job may be paused for hours
		ReindexerSchedule: river.NeverSchedule(),
	})
	if err != nil {
		return err
	}
	if err := client.Start(ctx); err != nil {
		return fmt.Errorf("start the job queue: %w", err)
	}
	<-client.Stopped()
	return nil
}
