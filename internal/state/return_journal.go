package state

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// ReturnKeys returns up to limit keys of the return journal greater than after, in
// the order of their bytes; "" starts, and is itself returned first if it is there.
func (s *Store) ReturnKeys(ctx context.Context, migration string, after record.Key, limit int) ([]record.Key, error) {
	rows, err := s.pool.Query(ctx, `SELECT key FROM migrator.return_journal
		WHERE migration = $1 AND (key > $2 OR $2 = ''::bytea) ORDER BY key LIMIT $3`, migration, []byte(after), limit)
	if err != nil {
		return nil, statedb.Explain(err)
	}
	keys, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (record.Key, error) {
		var raw []byte
		err := row.Scan(&raw)
		return record.Key(raw), err
	})
	return keys, statedb.Explain(err)
}

// ClearReturn deletes keys whose state legacy has again. It is refused in retain, where
// another write of the same key may have been journalled since.
func (s *Store) ClearReturn(ctx context.Context, migration string, keys []record.Key) error {
	return s.exclusive(ctx, migration, func(tx pgx.Tx) error {
		st, err := statedb.ReadStatus(ctx, tx, migration)
		if err != nil {
			return err
		}
		// [return-clear]: in retain the key may have been written again since it was replayed.
		if st.Route.Phase == phases.Retain {
			return hint.Errorf(hint.Hint{Do: hint.RollbackToGrace}, "the return journal can't be cleared in retain: writes may be journalled again at any time")
		}
		_, err = tx.Exec(ctx, `DELETE FROM migrator.return_journal WHERE migration = $1 AND key = ANY ($2::bytea[])`, migration, statedb.KeyBytes(keys))
		return err
	})
}
