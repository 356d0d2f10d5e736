package reconciles

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/record"
)

var _ reconcile.Past = (*Runs)(nil)

// JournalEntry implements reconcile.Past.
func (r *Runs) JournalEntry(ctx context.Context, key record.Key) (*reconcile.JournaledKey, error) {
	j := reconcile.JournaledKey{Key: key}
	var version string
	err := r.pool.QueryRow(ctx, `SELECT version, changes, reason, first_at FROM migrator.journal WHERE migration = $1 AND key = $2`,
		r.migration, []byte(key)).Scan(&version, &j.Changes, &j.Reason, &j.Since)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err == nil {
		j.Version, err = record.ParseVersion(version)
	}
	return &j, statedb.Explain(err)
}

// FindingsOf implements reconcile.Past.
func (r *Runs) FindingsOf(ctx context.Context, key record.Key, limit int) ([]reconcile.PastFinding, error) {
	rows, err := r.pool.Query(ctx, `SELECT r.id, r.began_at, f.class, f.path, f.paths, f.detail, f.version, f.repaired, f.repair, f.at, f.lost
		FROM migrator.reconcile_findings f JOIN migrator.reconcile_runs r ON r.id = f.run
		WHERE r.migration = $1 AND f.key = $2 AND f.raw_key = '' ORDER BY f.id DESC LIMIT $3`, r.migration, []byte(key), limit)
	if err != nil {
		return nil, statedb.Explain(err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p reconcile.PastFinding, err error) {
		var version string
		err = row.Scan(&p.Run, &p.Began, &p.Class, &p.Path, &p.Paths, &p.Detail, &version, &p.Repaired, &p.Repair, &p.At, &p.Lost)
		p.Key = key
		if err == nil {
			p.Version, err = record.ParseVersion(version)
		}
		return p, err
	})
	return found, statedb.Explain(err)
}
