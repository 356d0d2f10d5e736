package runbooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/pgfail"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/runbook"
)

// Log is a run's log, for the one process that executes the run. It writes through the
// connection that has the run's lock: a process that no longer has the lock can't write.
type Log struct {
	id   int64
	lock *statedb.JobLock
}

var (
	_ runbook.Log   = (*Log)(nil)
	_ runbook.Clock = (*Log)(nil)
)

// takeWithin is how long the database may need to notice that the former process was
// killed.
const takeWithin = 5 * time.Second

// Take takes the lock of a run. ErrRunbookTaken while another process has it.
func (r *Runs) Take(ctx context.Context, id int64) (*Log, error) {
	job := fmt.Sprintf("runbook run %d", id)
	end := time.Now().Add(takeWithin)
	for {
		lock, err := statedb.TakeJob(ctx, r.pool, job)
		if err != nil {
			return nil, err
		}
		if lock != nil {
			return &Log{id: id, lock: lock}, nil
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("%w%s", ErrRunbookTaken, statedb.JobHolder(ctx, r.pool, job))
		}
		if err := statedb.Sleep(ctx, 100*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// Release gives up the run's lock.
func (l *Log) Release() { l.lock.Release() }

// Records implements runbook.Log.
func (l *Log) Records(ctx context.Context) (all []runbook.Record, err error) {
	err = l.lock.Do(ctx, func(tx pgx.Tx) error {
		all, err = runbookRecords(ctx, tx, l.id)
		return err
	})
	return all, err
}

// Now implements runbook.Clock.
func (l *Log) Now(ctx context.Context) (now time.Time, err error) {
	err = l.lock.Do(ctx, func(tx pgx.Tx) error { return tx.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now) })
	return now, err
}

// Intend implements runbook.Log.
func (l *Log) Intend(ctx context.Context, r runbook.Record) (runbook.Record, error) {
	intent, err := json.Marshal(runbookIntent{Host: statedb.CleanText(r.Host), Role: r.Role, TwoPeople: r.TwoPeople})
	if err != nil {
		return r, err
	}
	err = l.lock.Do(ctx, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `INSERT INTO migrator.runbook_steps (run, step, direction, attempt, kind, block, intent)
			VALUES ($1, $2, $3, $4, $5, $6, $7::jsonb) RETURNING intent_at, actor`,
			l.id, r.Step, string(r.Direction), r.Attempt, string(r.Kind), r.Block, string(intent)).Scan(&r.Began, &r.Actor)
	})
	return r, err
}

// codeHasOutcome is the schema's own SQLSTATE for an attempt that already has an outcome.
const codeHasOutcome = "MG012"

// End implements runbook.Log. An outcome that an operator recorded meanwhile stays.
func (l *Log) End(ctx context.Context, r runbook.Record) error {
	r.Detail.Output, r.Detail.Error, r.Detail.Reason = statedb.CleanText(r.Detail.Output), statedb.CleanText(r.Detail.Error), statedb.CleanText(r.Detail.Reason)
	detail, err := json.Marshal(r.Detail)
	if err != nil {
		return err
	}
	err = l.lock.Do(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE migrator.runbook_steps SET outcome = $5, outcome_at = clock_timestamp(), detail = $6::jsonb
			WHERE run = $1 AND step = $2 AND direction = $3 AND attempt = $4`,
			l.id, r.Step, string(r.Direction), r.Attempt, string(r.Outcome), string(detail))
		if err == nil && tag.RowsAffected() != 1 {
			err = errors.New("the attempt was never begun")
		}
		return err
	})
	if pgfail.SQLState(err) == codeHasOutcome {
		return nil
	}
	return err
}

// Mark implements runbook.Log.
func (l *Log) Mark(ctx context.Context, s runbook.Status) error {
	return l.lock.Do(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE migrator.runbook_runs
			SET status = $2, finished_at = CASE WHEN $3 THEN coalesce(finished_at, clock_timestamp()) END
			WHERE id = $1 AND (status <> $2 OR (finished_at IS NULL) = $3)`, l.id, string(s), s.Ended())
		return err
	})
}

// SaveOutcome records an operator's decision about a step whose attempts are over: that it
// was done by hand, or may be tried again.
func (l *Log) SaveOutcome(ctx context.Context, n runbook.Next, outcome runbook.Outcome, reason string) error {
	r := runbook.Record{Step: n.Step.ID, Direction: n.Direction, Attempt: n.Attempt, Kind: n.Block.Kind, Block: n.Block.ID}
	if _, err := l.Intend(ctx, r); err != nil {
		return err
	}
	r.Outcome, r.Detail.Reason = outcome, reason
	return l.End(ctx, r)
}
