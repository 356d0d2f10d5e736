package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/drill"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
)

// ErrDrilling refuses a second drill beside one that is under way.
var ErrDrilling = errors.New("a drill of this migration is under way")

// Drills are the drills of one migration.
type Drills struct {
	store     *Store
	migration string
}

// Drills of the migration.
func (s *Store) Drills(migration string) *Drills { return &Drills{s, migration} }

// DrillRun is one drill, as a list shows it.
type DrillRun struct {
	ID          int64     `json:"drill"`
	Migration   string    `json:"migration"`
	Environment string    `json:"environment"` // where it was made
	ConfigHash  string    `json:"config_hash"`
	Rehearsal   string    `json:"rehearsal"`
	Actor       string    `json:"actor"` // who made it, or imported it
	Began       time.Time `json:"began"`
	Finished    time.Time `json:"finished,omitzero"` // zero: under way, or its process died
	Passed      bool      `json:"passed"`
	Reason      string    `json:"reason,omitempty"` // why it failed
	Signer      string    `json:"signer,omitempty"` // of one that was imported: the public key, in base64
	Imported    time.Time `json:"imported,omitzero"`
}

// Begin records that a drill begins, under the description that is applied. release
// gives up the lock that keeps others from beginning one.
func (d *Drills) Begin(ctx context.Context, rehearsal string) (run DrillRun, release func(), err error) {
	job := "drill " + d.migration
	held, err := take(ctx, d.store.pool, job)
	if err != nil {
		return run, nil, err
	}
	if held == nil {
		return run, nil, fmt.Errorf("%w%s", ErrDrilling, runnerNow(ctx, d.store.pool, job))
	}
	run.Migration, run.Rehearsal = d.migration, rehearsal
	err = d.store.pool.QueryRow(ctx, `INSERT INTO migrator.drills (migration, environment, config_hash, rehearsal, began_at)
		SELECT name, environment, config_hash, $2, clock_timestamp() FROM migrator.migrations WHERE name = $1
		RETURNING id, environment, config_hash, actor, began_at`, d.migration, rehearsal).
		Scan(&run.ID, &run.Environment, &run.ConfigHash, &run.Actor, &run.Began)
	if err != nil {
		held.release()
		if errors.Is(err, pgx.ErrNoRows) {
			err = unknown(ctx, d.store.pool, d.migration)
		}
		return run, nil, explain(err)
	}
	return run, held.release, nil
}

// Finish keeps what a drill has found.
func (d *Drills) Finish(ctx context.Context, r drill.Report) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	reason := ""
	if !r.Passed && len(r.Reasons) > 0 {
		reason = r.Reasons[0]
	}
	_, err = d.store.pool.Exec(ctx, `UPDATE migrator.drills SET finished_at = clock_timestamp(), passed = $3, reason = $4, report = $5::jsonb
		WHERE migration = $1 AND id = $2 AND finished_at IS NULL`, d.migration, r.Drill, r.Passed, clean(reason), storableText(text))
	return explain(err)
}

// Import keeps a drill that was made elsewhere and came signed. added is false if this
// very file was imported before.
func (d *Drills) Import(ctx context.Context, r drill.Report, digest, signer string) (run DrillRun, added bool, err error) {
	text, err := json.Marshal(r)
	if err != nil {
		return run, false, err
	}
	tag, err := d.store.pool.Exec(ctx, `INSERT INTO migrator.drills (migration, environment, config_hash, rehearsal, began_at, finished_at,
			passed, report, digest, signer, imported_at)
		SELECT name, $2, $3, $4, $5, $6, $7, $8::jsonb, $9, $10, clock_timestamp() FROM migrator.migrations WHERE name = $1
		ON CONFLICT (migration, digest) DO NOTHING`,
		d.migration, r.Environment, r.ConfigHash, r.Rehearsal, r.Began, r.Finished, r.Passed, storableText(text), digest, signer)
	if err != nil {
		return run, false, explain(err)
	}
	rows, err := d.store.pool.Query(ctx, `SELECT `+drillColumns+` FROM migrator.drills WHERE migration = $1 AND digest = $2`, d.migration, digest)
	if err != nil {
		return run, false, explain(err)
	}
	run, err = pgx.CollectExactlyOneRow(rows, scanDrill)
	if errors.Is(err, pgx.ErrNoRows) {
		err = unknown(ctx, d.store.pool, d.migration)
	}
	return run, tag.RowsAffected() > 0, explain(err)
}

const drillColumns = `id, migration, environment, config_hash, rehearsal, actor, began_at, finished_at, passed, reason, coalesce(signer, ''), imported_at`

func scanDrill(row pgx.CollectableRow) (r DrillRun, err error) {
	var finished, imported *time.Time
	err = row.Scan(&r.ID, &r.Migration, &r.Environment, &r.ConfigHash, &r.Rehearsal, &r.Actor, &r.Began, &finished, &r.Passed, &r.Reason, &r.Signer, &imported)
	r.Finished, r.Imported = orZero(finished), orZero(imported)
	return r, err
}

// List returns up to limit drills, newest first.
func (d *Drills) List(ctx context.Context, limit int) ([]DrillRun, error) {
	rows, err := d.store.pool.Query(ctx, `SELECT `+drillColumns+` FROM migrator.drills WHERE migration = $1 ORDER BY id DESC LIMIT $2`, d.migration, limit)
	if err != nil {
		return nil, explain(err)
	}
	all, err := pgx.CollectRows(rows, scanDrill)
	return all, explain(err)
}

// Report is what the drill with this number has seen.
func (d *Drills) Report(ctx context.Context, id int64) (r drill.Report, err error) {
	var text *string
	err = d.store.pool.QueryRow(ctx, `SELECT report::text FROM migrator.drills WHERE migration = $1 AND id = $2`, d.migration, id).Scan(&text)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return r, fmt.Errorf("%s has no drill %d; try: migrator drill list", d.migration, id)
	case err != nil:
		return r, explain(err)
	case text == nil:
		return r, fmt.Errorf("drill %d has no report: it is under way, or its process died; try: migrator drill list", id)
	}
	return r, json.Unmarshal([]byte(*text), &r)
}

// newestDrill is the newest drill that passed, wherever it was made. One that has
// rehearsed what the applied description says is taken as made under it: see
// migration.Config.Rehearsal.
func newestDrill(ctx context.Context, q querier, st phases.Standing) (*phases.DrillEvidence, error) {
	rows, err := q.Query(ctx, `SELECT d.config_hash, d.rehearsal, d.finished_at, m.config::text FROM migrator.drills d
		JOIN migrator.migrations m ON m.name = d.migration
		WHERE d.migration = $1 AND d.passed ORDER BY d.finished_at DESC LIMIT 20`, st.Migration)
	if err != nil {
		return nil, err
	}
	var newest, fits *phases.DrillEvidence
	var one phases.DrillEvidence
	var rehearsal, config, applied string
	_, err = pgx.ForEachRow(rows, []any{&one.ConfigHash, &rehearsal, &one.Passed, &config}, func() error {
		if applied == "" {
			var m migration.Config
			if err := json.Unmarshal([]byte(config), &m); err != nil {
				return nil // then none fits, and the gate says so
			}
			applied = m.Rehearsal()
		}
		found := one
		if newest == nil {
			newest = &found
		}
		if fits == nil && rehearsal == applied {
			found.ConfigHash, fits = st.ConfigHash, &found
		}
		return nil
	})
	if fits != nil {
		return fits, err
	}
	return newest, err
}

// storableText makes JSON what PostgreSQL takes.
func storableText(text []byte) string { return string(noNull(text)) }
