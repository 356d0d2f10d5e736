package state

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
)

// Change is one change of route, and whether it settled.
type Change struct {
	From, To   phases.Phase // equal for a step of a ramp
	Cause      phases.Cause
	At         time.Time
	Settled    time.Time // when the last instance acknowledged it; zero: not yet, or not before the next
	Superseded bool      // there was a later change
}

// Changes returns every change of route, in order.
func (s *Store) Changes(ctx context.Context, migration string) ([]Change, error) {
	rows, err := s.pool.Query(ctx, `SELECT h.from_phase, h.to_phase, h.cause, e.began_at, e.settled_at, e.epoch < m.epoch
		FROM migrator.history h
		JOIN migrator.epochs e ON e.migration = h.migration AND e.epoch = h.to_epoch
		JOIN migrator.migrations m ON m.name = h.migration
		WHERE h.migration = $1 AND h.to_epoch <> h.from_epoch AND h.cause <> 'created' ORDER BY h.seq`, migration)
	if err != nil {
		return nil, statedb.Explain(err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c Change, err error) {
		var settled *time.Time
		err = row.Scan(&c.From, &c.To, &c.Cause, &c.At, &settled, &c.Superseded)
		c.Settled = statedb.OrZero(settled)
		return c, err
	})
	return all, statedb.Explain(err)
}

// Fired is the evaluation that the newest automatic rollback rests on. It is an error
// if there has been none.
func (s *Store) Fired(ctx context.Context, migration string) (phases.Evaluation, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+evaluationColumns+` FROM migrator.evaluations e
		WHERE e.id = (SELECT (evidence #>> '{fired,evaluation}')::bigint FROM migrator.history
			WHERE migration = $1 AND cause = 'trigger' ORDER BY seq DESC LIMIT 1)`, migration)
	if err != nil {
		return phases.Evaluation{}, statedb.Explain(err)
	}
	e, err := pgx.CollectOneRow(rows, scanEvaluation)
	return e, statedb.Explain(err)
}

// Settled is when the last instance acknowledged the epoch; the zero time: not yet, or not before the next.
func (s *Store) Settled(ctx context.Context, migration string, epoch int64) (time.Time, error) {
	var at *time.Time
	err := s.pool.QueryRow(ctx, `SELECT max(settled_at) FROM migrator.epochs WHERE migration = $1 AND epoch = $2`, migration, epoch).Scan(&at)
	return statedb.OrZero(at), statedb.Explain(err)
}
