// Package runbooks stores the runs of runbooks, their steps and verifications.
package runbooks

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/runbook"
)

// Run is one run of a runbook.
type Run struct {
	ID         int64          `json:"id"`
	Migration  string         `json:"migration"`
	Runbook    string         `json:"runbook"`
	Title      string         `json:"title"`
	Path       string         `json:"path,omitempty"` // of the file; "": the runbook was rendered
	SourceHash string         `json:"source_hash"`
	Epoch      int64          `json:"epoch"` // in which it began
	ConfigHash string         `json:"config_hash"`
	Status     runbook.Status `json:"status"`
	Actor      string         `json:"actor"`
	Began      time.Time      `json:"began"`
	Finished   time.Time      `json:"finished,omitzero"`
	UID        string         `json:"-"` // names it on the machine that it runs on
	Source     string         `json:"-"` // as it is run
}

// ErrRunbookTaken reports that another process executes the run.
var ErrRunbookTaken = errors.New("another process is executing this run of the runbook")

// Runs are the runbook runs of one migration.
type Runs struct {
	pool      *pgxpool.Pool
	migration string
}

// New returns the runbook runs of the migration.
func New(pool *pgxpool.Pool, migration string) *Runs {
	return &Runs{pool: pool, migration: migration}
}

// HashSource returns the hash that identifies a runbook's text.
func HashSource(source string) string {
	sum := sha256.Sum256([]byte(source))
	return hex.EncodeToString(sum[:])
}

const (
	runbookRunColumns = `id, migration, runbook, title, path, source_hash, epoch, config_hash, status, actor, began_at, finished_at, uid::text, source`
	runbookRunSQL     = `SELECT ` + runbookRunColumns + ` FROM migrator.runbook_runs`
	unfinishedRun     = `status IN ('running', 'waiting', 'compensating')`
)

func scanRunbookRun(row pgx.CollectableRow) (Run, error) { return scanRunbookRunAfter(row) }

// scanRunbookRunAfter reads a run whose columns follow others.
func scanRunbookRunAfter(row pgx.CollectableRow, others ...any) (r Run, err error) {
	var finished *time.Time
	err = row.Scan(append(others, &r.ID, &r.Migration, &r.Runbook, &r.Title, &r.Path, &r.SourceHash, &r.Epoch, &r.ConfigHash, &r.Status, &r.Actor,
		&r.Began, &finished, &r.UID, &r.Source)...)
	r.Finished = statedb.OrZero(finished)
	return r, err
}

// UnfinishedError reports that a run of the same runbook has not ended.
type UnfinishedError struct {
	Run Run
}

// Error implements error.
func (e *UnfinishedError) Error() string {
	return fmt.Sprintf("run %d of %s has not ended: it is %s", e.Run.ID, e.Run.Runbook, e.Run.Status)
}

// Begin records a run, in the migration's present epoch and configuration. Unless beside
// is set, it returns *UnfinishedError if a run of the same runbook has not ended: of two
// concurrent calls, one begins a run.
func (r *Runs) Begin(ctx context.Context, book *runbook.Runbook, path string, beside bool) (Run, error) {
	var run Run
	var begun bool
	b := &pgx.Batch{} // one round trip: a process that froze between two statements would block all others
	b.Queue(`BEGIN ISOLATION LEVEL READ COMMITTED`)
	b.Queue(`SELECT pg_advisory_xact_lock(hashtextextended('migrator begins runbook ' || $1 || ' ' || $2, 0))`, r.migration, book.Name)
	b.Queue(`WITH open AS (`+runbookRunSQL+` WHERE migration = $1 AND runbook = $2 AND `+unfinishedRun+` AND NOT $7 ORDER BY id DESC LIMIT 1),
		begun AS (
			INSERT INTO migrator.runbook_runs (migration, runbook, title, path, source, source_hash, epoch, config_hash, status)
			SELECT name, $2, $3, $4, $5, $6, epoch, config_hash, 'running' FROM migrator.migrations WHERE name = $1 AND NOT EXISTS (SELECT FROM open)
			RETURNING `+runbookRunColumns+`)
		SELECT true, * FROM begun UNION ALL SELECT false, * FROM open`,
		r.migration, book.Name, statedb.CleanText(book.Title), statedb.CleanText(path), statedb.CleanText(book.Source), HashSource(book.Source), beside).
		Query(func(rows pgx.Rows) (err error) {
			run, err = pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (Run, error) { return scanRunbookRunAfter(row, &begun) })
			return err
		})
	b.Queue(`COMMIT`)
	err := r.pool.SendBatch(ctx, b).Close()
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return run, statedb.UnknownMigration(ctx, r.pool, r.migration)
	case err == nil && !begun:
		return Run{}, &UnfinishedError{run}
	}
	return run, statedb.Explain(err)
}

// List returns up to limit runs, newest first.
func (r *Runs) List(ctx context.Context, limit int) ([]Run, error) {
	rows, err := r.pool.Query(ctx, runbookRunSQL+` WHERE migration = $1 ORDER BY id DESC LIMIT $2`, r.migration, limit)
	if err != nil {
		return nil, statedb.Explain(err)
	}
	runs, err := pgx.CollectRows(rows, scanRunbookRun)
	return runs, statedb.Explain(err)
}

// Run returns one run of this migration.
func (r *Runs) Run(ctx context.Context, id int64) (Run, error) {
	rows, err := r.pool.Query(ctx, runbookRunSQL+` WHERE migration = $1 AND id = $2`, r.migration, id)
	if err != nil {
		return Run{}, statedb.Explain(err)
	}
	run, err := pgx.CollectExactlyOneRow(rows, scanRunbookRun)
	if errors.Is(err, pgx.ErrNoRows) {
		return run, hint.Errorf(hint.Hint{Do: hint.RunbookList}, "%s has no run %d of a runbook", r.migration, id)
	}
	return run, statedb.Explain(err)
}

// Records returns all attempts of a run, in the order of their intents.
func (r *Runs) Records(ctx context.Context, id int64) ([]runbook.Record, error) {
	return runbookRecords(ctx, r.pool, id)
}

func runbookRecords(ctx context.Context, q statedb.Querier, id int64) ([]runbook.Record, error) {
	rows, err := q.Query(ctx, `SELECT step, direction, attempt, kind, block, intent, intent_at, actor,
			coalesce(outcome, ''), outcome_at, coalesce(ended_by, ''), coalesce(detail, '{}')
		FROM migrator.runbook_steps WHERE run = $1 ORDER BY seq`, id)
	if err != nil {
		return nil, statedb.Explain(err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (rec runbook.Record, err error) {
		var intent, detail []byte
		var ended *time.Time
		if err := row.Scan(&rec.Step, &rec.Direction, &rec.Attempt, &rec.Kind, &rec.Block, &intent, &rec.Began, &rec.Actor,
			&rec.Outcome, &ended, &rec.EndedBy, &detail); err != nil {
			return rec, err
		}
		rec.Ended = statedb.OrZero(ended)
		var meant runbookIntent
		err = errors.Join(json.Unmarshal(intent, &meant), json.Unmarshal(detail, &rec.Detail))
		rec.Host, rec.Role, rec.TwoPeople = meant.Host, meant.Role, meant.TwoPeople
		return rec, err
	})
	return all, statedb.Explain(err)
}

type runbookIntent struct {
	Host      string `json:"host,omitempty"`
	Role      string `json:"role,omitempty"`
	TwoPeople bool   `json:"two_people,omitempty"`
}

// Decide records an operator's decision about an attempt without an outcome: an approval,
// or whether an interrupted step was done. Only members of the migration's deciding role
// may approve: *statedb.NotAllowedError otherwise.
func (r *Runs) Decide(ctx context.Context, id int64, step string, outcome runbook.Outcome, reason string) (runbook.Record, error) {
	detail, err := json.Marshal(runbook.Detail{Reason: statedb.CleanText(reason)})
	if err != nil {
		return runbook.Record{}, err
	}
	var decided int64
	var all []runbook.Record
	err = statedb.InTx(ctx, r.pool, statedb.ReadCommitted, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE migrator.runbook_steps s SET outcome = $3, outcome_at = clock_timestamp(), detail = $4::jsonb
		FROM migrator.runbook_runs r WHERE r.id = s.run AND r.migration = $5 AND s.run = $1 AND s.step = $2 AND s.outcome IS NULL`,
			id, step, string(outcome), string(detail), r.migration)
		if err == nil {
			decided = tag.RowsAffected()
			all, err = runbookRecords(ctx, tx, id)
		}
		return err
	})
	if err != nil {
		return runbook.Record{}, statedb.Explain(err)
	}
	see := hint.Hint{Do: hint.RunbookShow, Of: []string{strconv.FormatInt(id, 10)}}
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].Step != step {
			continue
		}
		if decided == 0 {
			return all[i], hint.Errorf(see, "step %s of run %d already has an outcome: %s, by %s", step, id, all[i].Outcome, all[i].EndedBy)
		}
		return all[i], nil
	}
	return runbook.Record{}, hint.Errorf(see, "step %s of run %d has not begun", step, id)
}
