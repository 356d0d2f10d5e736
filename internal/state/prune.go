package state

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/statedb"
)

// Prune deletes old evaluations and notifications. Call it once an hour. Of evaluations
// it keeps
//
//   - for a week, all;
//   - for 90 days, of each gate and trigger the newest of each hour, and each whose
//     verdict differs from that of the one before;
//   - for ever, those that an entry of the history names.
//
// Delivered notifications are deleted after 30 days, undelivered ones after 7; entries of a return journal
// once it was emptied.
func (s *Store) Prune(ctx context.Context, migration string) error {
	err := statedb.Explain(pgx.BeginTxFunc(ctx, s.pool, statedb.ReadCommitted, func(tx pgx.Tx) error {
		b := &pgx.Batch{}
		// An evaluation that the history names is never deleted: a step or a rollback rests on it.
		b.Queue(`WITH named AS (
				SELECT (jsonb_path_query(evidence, '$.evaluations[*].id') #>> '{}')::bigint AS id FROM migrator.history WHERE migration = $1
				UNION SELECT (evidence #>> '{fired,evaluation}')::bigint FROM migrator.history WHERE migration = $1 AND cause = 'trigger'),
			old AS (
				SELECT id, at < clock_timestamp() - interval '90 days' AS over,
				       row_number() OVER (PARTITION BY kind, name, date_trunc('hour', at, 'UTC') ORDER BY at DESC, id DESC) = 1 AS newest,
				       verdict IS DISTINCT FROM lag(verdict) OVER (PARTITION BY kind, name ORDER BY at, id) AS turned
				FROM migrator.evaluations WHERE migration = $1 AND at < clock_timestamp() - interval '7 days')
			DELETE FROM migrator.evaluations e USING old
			WHERE e.id = old.id AND (old.over OR NOT old.newest AND NOT old.turned)
			  AND NOT EXISTS (SELECT FROM named WHERE named.id = e.id)`, migration)
		b.Queue(`DELETE FROM migrator.outbox WHERE migration = $1 AND (delivered_at < clock_timestamp() - interval '30 days'
			OR delivered_at IS NULL AND at < clock_timestamp() - interval '7 days')`, migration)
		return tx.SendBatch(ctx, b).Close()
	}))
	if err != nil {
		return err
	}
	return s.PruneReturn(ctx, migration)
}
