package reconciles

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
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

// queue names the job queue of one migration's reconcile runs. It is a hash, because the
// queue library does not accept every name of a migration.
func queue(migration string) string {
	sum := sha256.Sum256([]byte(migration))
	return "reconcile_" + hex.EncodeToString(sum[:8])
}

// jobArgs identify a job of a run. The row in reconcile_jobs has its chunks.
type jobArgs struct {
	Migration string `json:"migration"`
	Run       int64  `json:"run"`
	Number    int    `json:"number"`
}

// Kind implements river.JobArgs.
func (jobArgs) Kind() string { return "reconcile" }

// enqueue puts jobs into the queue and returns their numbers there.
func enqueue(ctx context.Context, tx pgx.Tx, args []jobArgs, at time.Time) ([]int64, error) {
	client, err := river.NewClient(riverpgxv5.New(nil), &river.Config{Schema: statedb.QueueSchema, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	params := make([]river.InsertManyParams, len(args))
	for i, a := range args {
		params[i] = river.InsertManyParams{Args: a, InsertOpts: &river.InsertOpts{Queue: queue(a.Migration), ScheduledAt: at}}
	}
	results, err := client.InsertManyTx(ctx, tx, params)
	if err != nil {
		return nil, err
	}
	ids := make([]int64, len(results))
	for i, r := range results {
		ids[i] = r.Job.ID
	}
	return ids, nil
}

// Pauses of the queue. A finished job asks for the next one at once, and then waits for
// the cooldown.
const (
	queueCooldown = 5 * time.Millisecond
	queuePoll     = time.Second
	queueRetry    = time.Second // after an error of the state database
)

// retrySoon makes the queue retry a job whose state could not be read.
type retrySoon struct{}

func (retrySoon) NextRetry(*rivertype.JobRow) time.Time { return time.Now().Add(queueRetry) }

// serveQueue executes jobs of the migration's queue until ctx ends, workers at a time. It
// then cancels the running jobs and waits for them.
func serveQueue(ctx context.Context, pool *pgxpool.Pool, migration string, workers int, log *slog.Logger, work func(context.Context, jobArgs, int64) error) error {
	all := river.NewWorkers()
	if err := river.AddWorkerSafely(all, river.WorkFunc(func(ctx context.Context, job *river.Job[jobArgs]) error {
		return work(ctx, job.Args, job.ID)
	})); err != nil {
		return err
	}
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Schema: statedb.QueueSchema, Logger: log, Workers: all,
		Queues:        map[string]river.QueueConfig{queue(migration): {MaxWorkers: workers}},
		FetchCooldown: queueCooldown, FetchPollInterval: queuePoll,
		JobTimeout:        -1, // none: a job lasts as long as its worker's heartbeats
		RetryPolicy:       retrySoon{},
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
