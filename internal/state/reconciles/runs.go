// Package reconciles stores reconcile runs, with their jobs, findings, coverage and schedule, and has the
// worker pools that share the jobs.
package reconciles

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/state/queue"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/record"
)

// Runs are the reconcile runs, the findings and the journal of one migration. Begin and
// Save belong to one running reconcile: use a separate value for each.
type Runs struct {
	pool      *pgxpool.Pool
	migration string

	// Log is where expired and failed workers are logged. nil: discarded.
	Log *slog.Logger
	// OnPause, if set, is called with the reason when a run is paused, and with "" when it
	// continues.
	OnPause func(run int64, why string)

	mu     sync.Mutex
	lock   *statedb.JobLock
	pauses map[int64]*pauseState
}

var _ reconcile.Ledger = (*Runs)(nil)

// New returns the reconcile runs of the migration.
func New(pool *pgxpool.Pool, migration string) *Runs {
	return &Runs{pool: pool, migration: migration}
}

// Begin takes the lock and records the run. Runs that are still marked as running then
// have no process any more: Begin marks them as stopped. A sampled run's slice follows
// that of the last sampled run that was done; a stopped run proves nothing, so its slice
// is due again.
func (r *Runs) Begin(ctx context.Context, run reconcile.Run) (reconcile.Run, func(), error) {
	job := "reconcile " + r.migration
	lock, err := statedb.TakeJob(ctx, r.pool, job)
	if err != nil {
		return run, nil, err
	}
	if lock == nil {
		return run, nil, fmt.Errorf("%w%s", reconcile.ErrRunning, statedb.JobHolder(ctx, r.pool, job))
	}
	begin := r.record
	if run.ID != 0 {
		begin = r.resume
	}
	err = lock.Do(ctx, func(tx pgx.Tx) error {
		if err := begin(ctx, tx, &run); err != nil {
			return err
		}
		return queue.SetPaused(ctx, tx, queueOf(r.migration), false) // an interrupted run may have been paused
	})
	if err != nil {
		lock.Release()
		return run, nil, err
	}
	r.mu.Lock()
	r.lock = lock
	r.mu.Unlock()
	return run, lock.Release, nil
}

func (r *Runs) record(ctx context.Context, tx pgx.Tx, run *reconcile.Run) error {
	run.Status, run.Slices = reconcile.Running, max(run.Slices, 1)
	if run.Full {
		run.Slice, run.Slices = 0, 1
	}
	// This session has the lock, so no other process coordinates a run.
	_, err := tx.Exec(ctx, `UPDATE migrator.reconcile_runs SET status = 'stopped', finished_at = clock_timestamp(),
			error = 'interrupted: its process ended without reporting a result'
		WHERE migration = $1 AND status IN ('running', 'paused')`, r.migration)
	if err != nil {
		return err
	}
	// The jobs of former runs are not needed any more; the newest stay for inspection.
	_, err = tx.Exec(ctx, `DELETE FROM migrator.reconcile_jobs WHERE run IN (
		SELECT id FROM migrator.reconcile_runs WHERE migration = $1 ORDER BY id DESC OFFSET 10)`, r.migration)
	if err != nil {
		return err
	}
	if !run.Full {
		err := tx.QueryRow(ctx, `SELECT coalesce((SELECT slice + 1 FROM migrator.reconcile_runs
			WHERE migration = $1 AND status = 'done' AND NOT whole ORDER BY id DESC LIMIT 1), 0) % $2::integer`, r.migration, run.Slices).Scan(&run.Slice)
		if err != nil {
			return err
		}
	}
	// began_at is the database's time, as the marks are that a clean run clears
	// ([unclean-outlasts]).
	err = tx.QueryRow(ctx, `INSERT INTO migrator.reconcile_runs
			(migration, epoch, config_hash, whole, two_way, repair, slice, slices, forced, expected, status, began_at)
		SELECT name, epoch, config_hash, $2, $3, $4, $5, $6, $7, $8, 'running', clock_timestamp()
		FROM migrator.migrations WHERE name = $1
		RETURNING id, epoch, config_hash, began_at`, r.migration, run.Full, run.TwoWay, run.Repair, run.Slice, run.Slices, statedb.CleanText(run.Forced), run.Expected).
		Scan(&run.ID, &run.Epoch, &run.ConfigHash, &run.Began)
	if errors.Is(err, pgx.ErrNoRows) {
		return statedb.UnknownMigration(ctx, tx, r.migration)
	}
	return err
}

// resume resumes an interrupted run.
func (r *Runs) resume(ctx context.Context, tx pgx.Tx, run *reconcile.Run) error {
	id := run.ID
	rows, err := tx.Query(ctx, runSQL+` WHERE migration = $1 AND id = $2 FOR UPDATE`, r.migration, id)
	if err != nil {
		return err
	}
	if *run, err = pgx.CollectExactlyOneRow(rows, scanRun); err != nil {
		if errors.Is(err, pgx.ErrNoRows) {
			return noRun(r.migration, id)
		}
		return err
	}
	st, err := statedb.ReadStatus(ctx, tx, r.migration)
	switch {
	case err != nil:
		return err
	case run.Status == reconcile.Done || run.Status == reconcile.Cancelled:
		err = fmt.Errorf("run %d is %s", id, run.Status)
	case run.ConfigHash != st.ConfigHash:
		err = fmt.Errorf("run %d began under another configuration", id)
	case run.Epoch != st.Route.Epoch:
		err = fmt.Errorf("run %d began in epoch %d, and it is epoch %d now: it would prove nothing", id, run.Epoch, st.Route.Epoch)
	}
	if err != nil {
		return hint.Errorf(hint.Hint{Do: hint.ReconcileRun}, "%w: %w", reconcile.ErrNotResumable, err)
	}
	run.Status, run.Finished, run.Error = reconcile.Running, time.Time{}, ""
	_, err = tx.Exec(ctx, `UPDATE migrator.reconcile_runs SET status = 'running', said = '', said_by = '', error = '', finished_at = NULL WHERE id = $1`, id)
	if err != nil {
		return err
	}
	// The cause of a failure may be gone by now. The queue no longer has these jobs, so
	// requeueLost queues them again. A job that failed because the table was rewritten is not
	// retried: legacy is cut into chunks again.
	_, err = tx.Exec(ctx, `UPDATE migrator.reconcile_jobs SET state = 'waiting', worker = '', beat_at = NULL, failures = 0, error = ''
		WHERE run = $1 AND state = 'failed' AND NOT moved`, id)
	return err
}

// Save stores the run's counts and status and adds findings, over the connection
// that has the lock: a process that no longer has the lock can't save. The fields that
// Begin set do not change; the database sets the time at which the run finished.
func (r *Runs) Save(ctx context.Context, run reconcile.Run, found []reconcile.Finding, settled ...int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lock == nil {
		return statedb.ErrReleased
	}
	if run.Classes == nil {
		run.Classes = map[reconcile.Class]int64{}
	}
	classes, err := json.Marshal(run.Classes)
	if err != nil {
		return err
	}
	// Through the session of the lock: a process that was frozen until another run began can't
	// overwrite it. Counts and findings commit together, so a resumed run counts none twice.
	return r.lock.Persist(ctx, func() {}, func(tx pgx.Tx) error {
		// First: those of a finished run stay as they are.
		if err := addFindings(ctx, tx, run.ID, found); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `UPDATE migrator.reconcile_runs SET checked = $4, scanned = $5, suspects = $6,
				differences = $7, repaired = $8, classes = $9::jsonb, error = $10, expected = $11, unsettled = $12, journalled = $13,
				refused = $14, places = $15, recent = $16, recent_different = $17, recent_only = $18,
				status = CASE WHEN status = 'cancelled' OR $3 = 'running' THEN status ELSE $3 END,
				finished_at = CASE WHEN $3 <> 'running' OR status = 'cancelled' THEN coalesce(finished_at, clock_timestamp()) END
			WHERE id = $2 AND migration = $1 AND (status <> 'stopped' OR $3 = 'stopped')`, r.migration, run.ID, string(run.Status), run.Checked, run.Scanned, run.Suspects,
			run.Differences, run.Repaired, string(classes), statedb.CleanText(run.Error), run.Expected, run.Unsettled, run.Journaled,
			statedb.CleanText(run.Refused), run.Places, run.Recent, run.RecentDifferent, run.RecentOnly)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return fmt.Errorf("%s has no reconcile run %d that goes on: another process may have taken its place", r.migration, run.ID)
		}
		if len(settled) > 0 {
			_, err := tx.Exec(ctx, `UPDATE migrator.reconcile_jobs SET settled = true, suspects = NULL, ahead = NULL, names = NULL
				WHERE run = $1 AND number = ANY ($2)`, run.ID, settled)
			if err != nil {
				return err
			}
		}
		if run.Status != reconcile.Running {
			return clearQueue(ctx, tx, r.migration, run.ID)
		}
		return nil
	})
}

func addFindings(ctx context.Context, tx pgx.Tx, run int64, found []reconcile.Finding) error {
	if len(found) == 0 {
		return nil
	}
	var now time.Time
	if err := tx.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now); err != nil {
		return err
	}
	keys := make([][]byte, 0, len(found))
	for _, f := range found {
		if f.RawKey == "" {
			keys = append(keys, []byte(f.Key))
		}
	}
	_, err := tx.Exec(ctx, `DELETE FROM migrator.reconcile_findings WHERE run = $1 AND key = ANY ($2) AND raw_key = ''`, run, keys)
	if err != nil {
		return err
	}
	found = newestOf(found)
	rows := make([]any, len(found))
	for i, f := range found {
		paths := make([]string, len(f.Paths))
		for j, p := range f.Paths {
			paths[j] = statedb.CleanText(p)
		}
		if f.At.IsZero() {
			f.At = now
		}
		rows[i] = map[string]any{
			"key": hex.EncodeToString([]byte(f.Key)), "raw_key": hex.EncodeToString([]byte(f.RawKey)), "class": f.Class, "path": statedb.CleanText(f.Path),
			"paths": paths, "detail": statedb.CleanText(f.Detail), "version": f.Version.String(), "repaired": f.Repaired, "repair": statedb.CleanText(f.Repair),
			"at": f.At, "lost": f.Lost,
		}
	}
	doc, err := json.Marshal(rows)
	if err != nil {
		return err
	}
	// Not COPY, which row-level security refuses.
	_, err = tx.Exec(ctx, `INSERT INTO migrator.reconcile_findings (run, key, raw_key, class, path, paths, detail, version, repaired, repair, at, lost)
		SELECT $1, decode(f.key, 'hex'), decode(f.raw_key, 'hex'), f.class, f.path, f.paths, f.detail, f.version, f.repaired, f.repair, f.at, f.lost
		FROM ROWS FROM (jsonb_to_recordset($2::jsonb) AS (key text, raw_key text, class text, path text, paths text[], detail text, version text,
			repaired boolean, repair text, at timestamptz, lost boolean)) WITH ORDINALITY f ORDER BY f.ordinality`, run, string(doc))
	return err
}

// newestOf keeps the last finding of each key.
func newestOf(found []reconcile.Finding) []reconcile.Finding {
	last := make(map[record.Key]int, len(found))
	for i, f := range found {
		if f.RawKey == "" {
			last[f.Key] = i
		}
	}
	var newest []reconcile.Finding
	for i, f := range found {
		if f.RawKey != "" || last[f.Key] == i {
			newest = append(newest, f)
		}
	}
	return newest
}
