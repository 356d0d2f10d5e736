package state

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// Return records keys that the target is about to take and legacy lacks. It
// requires the phase retain and the epoch; dual.ErrRouteMoved otherwise, and then
// the write must not be made.
func (f *Fleet) Return(ctx context.Context, epoch int64, keys []record.Key) error {
	var g dual.Grant
	err := f.oneTrip(ctx, &g, func(b *pgx.Batch) {
		b.Queue(`INSERT INTO migrator.return_journal AS j (migration, key, changes, first_at, last_at)
			SELECT m.name, k.key, 1, clock_timestamp(), clock_timestamp()
			FROM migrator.migrations m, unnest($3::bytea[]) AS k (key)
			WHERE m.name = $1 AND m.phase = 'retain' AND m.epoch = $2
			ORDER BY k.key
			ON CONFLICT (migration, key) DO UPDATE SET changes = j.changes + 1, last_at = excluded.last_at`,
			f.migration, epoch, keyBytes(keys))
	})
	if err != nil {
		return err
	}
	if g.Route.Phase != phases.Retain || g.Route.Epoch != epoch {
		return fmt.Errorf("%w: it is at %s, epoch %d", dual.ErrRouteMoved, g.Route, g.Route.Epoch)
	}
	return nil
}

// ReturnKeys returns up to limit keys of the return journal greater than after, in
// the order of their bytes; "" starts, and is itself returned first if it is there.
func (s *Store) ReturnKeys(ctx context.Context, migration string, after record.Key, limit int) ([]record.Key, error) {
	rows, err := s.pool.Query(ctx, `SELECT key FROM migrator.return_journal
		WHERE migration = $1 AND (key > $2 OR $2 = ''::bytea) ORDER BY key LIMIT $3`, migration, []byte(after), limit)
	if err != nil {
		return nil, explain(err)
	}
	keys, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (record.Key, error) {
		var raw []byte
		err := row.Scan(&raw)
		return record.Key(raw), err
	})
	return keys, explain(err)
}

// ClearReturn forgets keys that legacy has again. It is refused in retain, where
// another write of the same key may have been journalled since.
func (s *Store) ClearReturn(ctx context.Context, migration string, keys []record.Key) error {
	return s.alone(ctx, migration, func(tx pgx.Tx) error {
		st, err := standing(ctx, tx, migration)
		if err != nil {
			return err
		}
		if st.Route.Phase == phases.Retain {
			return errors.New("the return journal can't be cleared in retain: writes may be journalled again at any time; try: migrator phase rollback --to grace")
		}
		_, err = tx.Exec(ctx, `DELETE FROM migrator.return_journal WHERE migration = $1 AND key = ANY ($2::bytea[])`, migration, keyBytes(keys))
		return err
	})
}
