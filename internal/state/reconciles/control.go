package reconciles

import (
	"context"
	"errors"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/state/queue"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/reconcile"
)

// ErrNoRun reports that there is no reconcile run to pause, resume or cancel.
var ErrNoRun = errors.New("there is no such reconcile run")

// Unfinished returns the run with the number, or for 0 the newest, if it is not over: it
// runs, is paused, or was interrupted. coordinated reports whether a process coordinates it.
func (r *Runs) Unfinished(ctx context.Context, id int64) (run reconcile.Run, coordinated bool, err error) {
	if id != 0 {
		run, err = r.Run(ctx, id)
	} else {
		var newest *reconcile.Run
		if newest, err = r.Latest(ctx); newest != nil {
			run = *newest
		}
	}
	switch {
	case err != nil:
		return run, false, err
	case run.ID == 0:
		return run, false, hint.Errorf(hint.Hint{Do: hint.ReconcileRun}, "%w: %s has had none", ErrNoRun, r.migration)
	case run.Status == reconcile.Done || run.Status == reconcile.Cancelled:
		return run, false, hint.Errorf(hint.Hint{Do: hint.ReconcileList}, "%w: run %d is %s", ErrNoRun, run.ID, run.Status)
	}
	if run.Status == reconcile.Stopped {
		return run, false, nil
	}
	err = r.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_locks l, hashtextextended('migrator job ' || $1, 0) h
		WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
		  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
		  AND l.classid::bigint = (h >> 32) & 4294967295 AND l.objid::bigint = h & 4294967295)`, "reconcile "+r.migration).Scan(&coordinated)
	return run, coordinated, statedb.Explain(err)
}

// Pause makes all processes that work on the run wait, within a second, until
// Continue. byWatch: not an operator pauses it, but a condition of the migration file;
// that never changes an operator's pause.
func (r *Runs) Pause(ctx context.Context, run int64, reason string, byWatch bool) error {
	return r.mark(ctx, run, func(tx pgx.Tx) error { return queue.SetPaused(ctx, tx, queueOf(r.migration), true) },
		`UPDATE migrator.reconcile_runs SET status = 'paused', said = $3, said_by = CASE WHEN $4 THEN '' ELSE `+statedb.Person(ctx)+` END
		WHERE migration = $1 AND id = $2 AND (status = 'running' OR status = 'paused' AND (NOT $4 OR said_by = ''))`, statedb.CleanText(reason), byWatch)
}

// Continue ends a pause.
func (r *Runs) Continue(ctx context.Context, run int64, byWatch bool) error {
	return r.mark(ctx, run, func(tx pgx.Tx) error { return queue.SetPaused(ctx, tx, queueOf(r.migration), false) },
		`UPDATE migrator.reconcile_runs SET status = 'running', said = '', said_by = ''
		WHERE migration = $1 AND id = $2 AND status = 'paused' AND (NOT $3 OR said_by = '')`, byWatch)
}

// Cancel ends a run for good: River cancels what its processes compare, and its coordinator
// reads that within a second.
func (r *Runs) Cancel(ctx context.Context, run int64, reason string) error {
	return r.mark(ctx, run, func(tx pgx.Tx) error { return clearQueue(ctx, tx, r.migration, run) },
		`UPDATE migrator.reconcile_runs SET status = 'cancelled', said = $3, said_by = `+statedb.Person(ctx)+`,
			error = 'the run was cancelled by ' || `+statedb.Person(ctx)+` || CASE WHEN $3 <> '' THEN ': ' || $3 ELSE '' END, finished_at = coalesce(finished_at, clock_timestamp())
		WHERE migration = $1 AND id = $2 AND status IN ('running', 'paused', 'stopped')`, statedb.CleanText(reason))
}

// mark changes the run's status, and the queue with it. The status decides: a process that the
// queue did not reach reads it.
func (r *Runs) mark(ctx context.Context, run int64, signal func(pgx.Tx) error, sql string, args ...any) error {
	return statedb.Explain(statedb.InTx(ctx, r.pool, statedb.ReadCommitted, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, sql, append([]any{r.migration, run}, args...)...)
		if err == nil && tag.RowsAffected() == 0 {
			return hint.Errorf(hint.Hint{Do: hint.ReconcileShow, Of: []string{strconv.FormatInt(run, 10)}}, "%w: run %d has ended, or its status does not allow this", ErrNoRun, run)
		}
		if err != nil {
			return err
		}
		return signal(tx)
	}))
}

// JobRow is one of a run's jobs, as stored.
type JobRow struct {
	Number   int    `json:"job"`
	State    string `json:"state"`
	Worker   string `json:"worker,omitempty"`
	Attempts int    `json:"attempts"`
	Failures int    `json:"failures,omitempty"`
	Checked  int64  `json:"checked"`
	Suspects int64  `json:"suspects"`
	Error    string `json:"error,omitempty"`
}

// JobRows lists a run's jobs.
func (r *Runs) JobRows(ctx context.Context, run int64) ([]JobRow, error) {
	rows, err := r.pool.Query(ctx, `SELECT j.number, j.state, j.worker, j.attempts, j.failures, j.checked, j.suspected, j.error
		FROM migrator.reconcile_jobs j JOIN migrator.reconcile_runs r ON r.id = j.run WHERE r.migration = $1 AND r.id = $2 ORDER BY j.number`, r.migration, run)
	if err != nil {
		return nil, statedb.Explain(err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (j JobRow, err error) {
		err = row.Scan(&j.Number, &j.State, &j.Worker, &j.Attempts, &j.Failures, &j.Checked, &j.Suspects, &j.Error)
		return j, err
	})
	return found, statedb.Explain(err)
}
