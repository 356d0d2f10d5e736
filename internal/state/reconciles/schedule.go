package reconciles

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/reconcile"
)

// LastScheduled returns the newest time of a kind's expression that has an outcome, and
// the database's time. Its Due is zero if the expression is new.
func (r *Runs) LastScheduled(ctx context.Context, kind reconcile.Kind, expr string) (s reconcile.Scheduled, now time.Time, err error) {
	s = reconcile.Scheduled{Kind: kind, Expr: expr}
	var due *time.Time
	var outcome, detail *string
	var run *int64
	err = r.pool.QueryRow(ctx, `SELECT clock_timestamp(), s.due_at, s.outcome, s.run, s.detail FROM (SELECT) AS one
		LEFT JOIN LATERAL (SELECT * FROM migrator.reconcile_schedule
			WHERE migration = $1 AND kind = $2 AND expr = $3 ORDER BY due_at DESC LIMIT 1) s ON true`, r.migration, string(kind), expr).
		Scan(&now, &due, &outcome, &run, &detail)
	if err == nil && due != nil {
		s.Due, s.Outcome, s.Detail = *due, reconcile.Outcome(*outcome), *detail
		if run != nil {
			s.Run = *run
		}
	}
	return s, now, statedb.Explain(err)
}

// SaveScheduled records the outcome of a scheduled time. For a new time it returns false
// if another process has recorded it.
func (r *Runs) SaveScheduled(ctx context.Context, s reconcile.Scheduled, isNew bool) (bool, error) {
	sql := `INSERT INTO migrator.reconcile_schedule (migration, kind, expr, due_at, outcome, run, detail)
		VALUES ($1, $2, $3, $4, $5, nullif($6::bigint, 0), $7) ON CONFLICT (migration, kind, expr, due_at) `
	if isNew {
		sql += `DO NOTHING`
	} else {
		sql += `DO UPDATE SET outcome = excluded.outcome, run = excluded.run, detail = excluded.detail, at = clock_timestamp()`
	}
	tag, err := r.pool.Exec(ctx, sql, r.migration, string(s.Kind), s.Expr, s.Due, string(s.Outcome), s.Run, statedb.CleanText(s.Detail))
	return tag.RowsAffected() == 1, statedb.Explain(err)
}

// PastTime is a scheduled time with an outcome, and the time before it of the same
// expression, or the moment since which the expression is applied.
type PastTime struct {
	reconcile.Scheduled
	Before time.Time
}

// ListScheduled returns up to limit times, newest first.
func (r *Runs) ListScheduled(ctx context.Context, limit int) ([]PastTime, error) {
	rows, err := r.pool.Query(ctx, `SELECT kind, expr, due_at, outcome, coalesce(run, 0), detail, coalesce(before, due_at)
		FROM (SELECT *, lag(due_at) OVER (PARTITION BY kind, expr ORDER BY due_at) AS before
			FROM migrator.reconcile_schedule WHERE migration = $1) s
		WHERE outcome <> 'set' ORDER BY due_at DESC, kind LIMIT $2`, r.migration, limit)
	if err != nil {
		return nil, statedb.Explain(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[PastTime])
	return list, statedb.Explain(err)
}
