// Package drills stores the rollback drills of a migration and their reports.
package drills

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/internal/drill"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/statedb"
)

// ErrDrilling refuses a second drill beside one that is running.
var ErrDrilling = errors.New("a drill of this migration is running")

// Runs are the drills of one migration.
type Runs struct {
	pool      *pgxpool.Pool
	migration string
}

// New returns the drills of the migration.
func New(pool *pgxpool.Pool, migration string) *Runs { return &Runs{pool, migration} }

// Run is one drill, as a list shows it.
type Run struct {
	ID          int64     `json:"drill"`
	Migration   string    `json:"migration"`
	Environment string    `json:"environment"` // in which it was executed
	ConfigHash  string    `json:"config_hash"`
	Rehearsal   string    `json:"rehearsal"`
	Actor       string    `json:"actor"` // the session_user that executed or imported it
	Began       time.Time `json:"began"`
	Finished    time.Time `json:"finished,omitzero"` // zero: running, or its process ended early
	Passed      bool      `json:"passed"`
	Reason      string    `json:"reason,omitempty"` // why it failed
	Signer      string    `json:"signer,omitempty"` // of one that was imported: the public key, in base64
	Imported    time.Time `json:"imported,omitzero"`
}

// Begin records that a drill begins, under the applied migration file. release gives up
// the lock that keeps other processes from beginning one.
func (d *Runs) Begin(ctx context.Context, rehearsal string) (run Run, release func(), err error) {
	job := "drill " + d.migration
	lock, err := statedb.TakeJob(ctx, d.pool, job)
	if err != nil {
		return run, nil, err
	}
	if lock == nil {
		return run, nil, fmt.Errorf("%w%s", ErrDrilling, statedb.JobHolder(ctx, d.pool, job))
	}
	run.Migration, run.Rehearsal = d.migration, rehearsal
	err = d.pool.QueryRow(ctx, `INSERT INTO migrator.drills (migration, environment, config_hash, rehearsal, began_at)
		SELECT name, environment, config_hash, $2, clock_timestamp() FROM migrator.migrations WHERE name = $1
		RETURNING id, environment, config_hash, actor, began_at`, d.migration, rehearsal).
		Scan(&run.ID, &run.Environment, &run.ConfigHash, &run.Actor, &run.Began)
	if err != nil {
		lock.Release()
		if errors.Is(err, pgx.ErrNoRows) {
			err = statedb.UnknownMigration(ctx, d.pool, d.migration)
		}
		return run, nil, statedb.Explain(err)
	}
	return run, lock.Release, nil
}

// Holder names the session of a drill that is running; "" if none is.
func (d *Runs) Holder(ctx context.Context) string {
	return statedb.JobHolder(ctx, d.pool, "drill "+d.migration)
}

// Finish stores a drill's report.
func (d *Runs) Finish(ctx context.Context, r drill.Report) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	reason := ""
	if !r.Passed && len(r.Reasons) > 0 {
		reason = r.Reasons[0]
	}
	_, err = d.pool.Exec(ctx, `UPDATE migrator.drills SET finished_at = clock_timestamp(), passed = $3, reason = $4, report = $5::jsonb
		WHERE migration = $1 AND id = $2 AND finished_at IS NULL`, d.migration, r.Drill, r.Passed, statedb.CleanText(reason), storableText(text))
	return statedb.Explain(err)
}

// Import stores the signed report of a drill in another environment. added is false if the
// same file was imported before.
func (d *Runs) Import(ctx context.Context, r drill.Report, digest, signer string) (run Run, added bool, err error) {
	text, err := json.Marshal(r)
	if err != nil {
		return run, false, err
	}
	tag, err := d.pool.Exec(ctx, `INSERT INTO migrator.drills (migration, environment, config_hash, rehearsal, began_at, finished_at,
			passed, report, digest, signer, imported_at)
		SELECT name, $2, $3, $4, $5, $6, $7, $8::jsonb, $9, $10, clock_timestamp() FROM migrator.migrations WHERE name = $1
		ON CONFLICT (migration, digest) DO NOTHING`,
		d.migration, r.Environment, r.ConfigHash, r.Rehearsal, r.Began, r.Finished, r.Passed, storableText(text), digest, signer)
	if err != nil {
		return run, false, statedb.Explain(err)
	}
	rows, err := d.pool.Query(ctx, `SELECT `+drillColumns+` FROM migrator.drills WHERE migration = $1 AND digest = $2`, d.migration, digest)
	if err != nil {
		return run, false, statedb.Explain(err)
	}
	run, err = pgx.CollectExactlyOneRow(rows, scanDrill)
	if errors.Is(err, pgx.ErrNoRows) {
		err = statedb.UnknownMigration(ctx, d.pool, d.migration)
	}
	return run, tag.RowsAffected() > 0, statedb.Explain(err)
}

const drillColumns = `id, migration, environment, config_hash, rehearsal, actor, began_at, finished_at, passed, reason, coalesce(signer, ''), imported_at`

func scanDrill(row pgx.CollectableRow) (r Run, err error) {
	var finished, imported *time.Time
	err = row.Scan(&r.ID, &r.Migration, &r.Environment, &r.ConfigHash, &r.Rehearsal, &r.Actor, &r.Began, &finished, &r.Passed, &r.Reason, &r.Signer, &imported)
	r.Finished, r.Imported = statedb.OrZero(finished), statedb.OrZero(imported)
	return r, err
}

// List returns up to limit drills, newest first.
func (d *Runs) List(ctx context.Context, limit int) ([]Run, error) {
	rows, err := d.pool.Query(ctx, `SELECT `+drillColumns+` FROM migrator.drills WHERE migration = $1 ORDER BY id DESC LIMIT $2`, d.migration, limit)
	if err != nil {
		return nil, statedb.Explain(err)
	}
	all, err := pgx.CollectRows(rows, scanDrill)
	return all, statedb.Explain(err)
}

// Report returns the report of the drill with this number.
func (d *Runs) Report(ctx context.Context, id int64) (r drill.Report, err error) {
	var text *string
	err = d.pool.QueryRow(ctx, `SELECT report::text FROM migrator.drills WHERE migration = $1 AND id = $2`, d.migration, id).Scan(&text)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return r, hint.Errorf(hint.Hint{Do: hint.DrillList}, "%s has no drill %d", d.migration, id)
	case err != nil:
		return r, statedb.Explain(err)
	case text == nil:
		return r, hint.Errorf(hint.Hint{Do: hint.DrillList}, "drill %d has no report: it is running, or its process ended early", id)
	}
	return r, json.Unmarshal([]byte(*text), &r)
}

// storableText converts JSON to what PostgreSQL accepts.
func storableText(text []byte) string { return string(statedb.NoNUL(text)) }
