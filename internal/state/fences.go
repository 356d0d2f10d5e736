package state

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/record"
)

// FenceMark returns legacy's mark of the attempt's fence, "" if none is noted, and whether legacy was found
// without the fence, or a part of it, since then.
func (s *Store) FenceMark(ctx context.Context, migration, attempt string) (mark string, lost bool, err error) {
	err = s.pool.QueryRow(ctx, `SELECT mark, lost_at IS NOT NULL FROM migrator.fences WHERE migration = $1 AND attempt = $2`,
		migration, attempt).Scan(&mark, &lost)
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return mark, lost, statedb.Explain(err)
}

// NoteFence notes legacy's mark of the attempt's fence. lost: legacy was found without the fence, or
// a part of it. Otherwise a mark that is noted stays.
func (s *Store) NoteFence(ctx context.Context, migration, attempt, mark string, lost bool) error {
	_, err := s.pool.Exec(ctx, `SELECT migrator.note_fence($1, $2, $3, $4)`, migration, attempt, mark, lost)
	return statedb.Explain(err)
}

// Journaled returns which of the keys are in the return journal.
func (s *Store) Journaled(ctx context.Context, migration string, keys []record.Key) (map[record.Key]bool, error) {
	rows, err := s.pool.Query(ctx, `SELECT key FROM migrator.return_journal WHERE migration = $1 AND key = ANY ($2::bytea[])`,
		migration, statedb.KeyBytes(keys))
	if err != nil {
		return nil, statedb.Explain(err)
	}
	found := map[record.Key]bool{}
	var raw []byte
	_, err = pgx.ForEachRow(rows, []any{&raw}, func() error {
		found[record.Key(raw)] = true
		return nil
	})
	return found, statedb.Explain(err)
}
