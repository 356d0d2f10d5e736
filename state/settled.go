package state

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/phases"
)

// Change is one change of route with what became of it.
type Change struct {
	From, To   phases.Phase // the same at a step of a ramp
	Cause      phases.Cause
	At         time.Time
	Settled    time.Time // when every instance was known to be on it; zero: not yet, or not before the next
	Superseded bool      // there was a next
}

// Changes returns every change of route that there was, in order.
func (s *Store) Changes(ctx context.Context, migration string) ([]Change, error) {
	rows, err := s.pool.Query(ctx, `SELECT h.from_phase, h.to_phase, h.cause, e.began_at, e.settled_at, e.epoch < m.epoch
		FROM migrator.history h
		JOIN migrator.epochs e ON e.migration = h.migration AND e.epoch = h.to_epoch
		JOIN migrator.migrations m ON m.name = h.migration
		WHERE h.migration = $1 AND h.to_epoch <> h.from_epoch AND h.cause <> 'created' ORDER BY h.seq`, migration)
	if err != nil {
		return nil, explain(err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c Change, err error) {
		var settled *time.Time
		err = row.Scan(&c.From, &c.To, &c.Cause, &c.At, &settled, &c.Superseded)
		c.Settled = orZero(settled)
		return c, err
	})
	return all, explain(err)
}

// Coverage is the share of legacy's records, 0 to 1, that reconcile runs without a
// difference have checked since the newest run that found one, by the description that
// is applied now. Sampled runs count where they are slices of the same size as the
// newest's.
func (s *Store) Coverage(ctx context.Context, migration string) (share float64, err error) {
	err = s.pool.QueryRow(ctx, `WITH clean AS (
			SELECT r.id, r.whole, r.slice, r.slices FROM migrator.reconcile_runs r
			JOIN migrator.migrations m ON m.name = r.migration AND m.config_hash = r.config_hash
			WHERE r.migration = $1 AND r.status = 'done' AND r.repaired + r.journalled = 0 AND r.id > coalesce((SELECT max(d.id) FROM migrator.reconcile_runs d
				WHERE d.migration = $1 AND d.differences > 0), 0))
		SELECT CASE WHEN bool_or(whole) THEN 1
			ELSE (count(DISTINCT slice) FILTER (WHERE slices = newest))::float8 / newest END
		FROM clean, LATERAL (SELECT slices AS newest FROM clean ORDER BY id DESC LIMIT 1) n GROUP BY newest`, migration).Scan(&share)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	return share, explain(err)
}

// Fired is the evaluation that the newest automatic rollback rests on. It is an error
// if there has been none.
func (s *Store) Fired(ctx context.Context, migration string) (phases.Evaluation, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+evaluationColumns+` FROM migrator.evaluations e
		WHERE e.id = (SELECT (evidence #>> '{fired,evaluation}')::bigint FROM migrator.history
			WHERE migration = $1 AND cause = 'trigger' ORDER BY seq DESC LIMIT 1)`, migration)
	if err != nil {
		return phases.Evaluation{}, explain(err)
	}
	e, err := pgx.CollectOneRow(rows, scanEvaluation)
	return e, explain(err)
}
