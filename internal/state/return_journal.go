package state

import (
	"context"
	"fmt"

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
//
// lost of the keys are not in legacy again: the target has lost their records. That many must
// have been accepted, and the migration is marked unclean in the same transaction.
func (s *Store) ClearReturn(ctx context.Context, migration string, keys []record.Key, lost int64) error {
	return s.exclusive(ctx, migration, func(tx pgx.Tx) error {
		st, err := statedb.ReadStatus(ctx, tx, migration)
		if err != nil {
			return err
		}
		// [return-clear]: in retain the key may have been written again since it was replayed.
		if st.Route.Phase == phases.Retain {
			return hint.Errorf(hint.Hint{Do: hint.RollbackToGrace}, "the return journal can't be cleared in retain: writes may be journalled again at any time")
		}
		if lost > 0 {
			// [return-lost]: refused if more are lost than were accepted.
			if _, err := tx.Exec(ctx, `SELECT migrator.leave_missing($1, $2)`, migration, lost); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, `DELETE FROM migrator.return_journal WHERE migration = $1 AND key = ANY ($2::bytea[])`, migration, statedb.KeyBytes(keys))
		return err
	})
}

// AcceptMissing sets how many records the return that at is may leave as legacy has them,
// because the target has lost them.
func (s *Store) AcceptMissing(ctx context.Context, migration string, at phases.Route, records int64) error {
	return s.exclusive(ctx, migration, func(tx pgx.Tx) error {
		st, err := statedb.ReadStatus(ctx, tx, migration)
		switch {
		case err != nil:
			return err
		case st.Route != at:
			return moved(ctx, tx, st, at)
		}
		_, err = tx.Exec(ctx, `SELECT migrator.accept_missing($1, $2)`, migration, records)
		if err != nil {
			return err
		}
		return note(ctx, tx, migration, phases.CauseRollback, fmt.Sprintf("%d lost records accepted", records), map[string]int64{"accept_missing": records})
	})
}
