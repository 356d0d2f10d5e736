package state

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
)

// SeenLegacy returns what legacy's server was when it was last looked at; "": it never was.
func (s *Store) SeenLegacy(ctx context.Context, migration string) (seen string, err error) {
	err = s.pool.QueryRow(ctx, `SELECT seen FROM migrator.legacies WHERE migration = $1`, migration).Scan(&seen)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	return seen, statedb.Explain(err)
}

// SeeLegacy notes what legacy's server is now, unless another process has noted something else
// since it was as given.
func (s *Store) SeeLegacy(ctx context.Context, migration, was, now string) error {
	_, err := s.pool.Exec(ctx, `SELECT migrator.see_legacy($1, $2, $3)`, migration, was, now)
	return statedb.Explain(err)
}

// LoseLegacy marks the migration unclean because legacy may have lost transactions, and voids its
// unfinished backfill: its barrier may be above legacy's present.
func (s *Store) LoseLegacy(ctx context.Context, migration, why string) error {
	return s.exclusive(ctx, migration, func(tx pgx.Tx) error {
		st, err := statedb.ReadStatus(ctx, tx, migration)
		if err != nil {
			return err
		}
		why = statedb.CleanText(why)
		if _, err := tx.Exec(ctx, `SELECT migrator.lose_legacy($1, $2)`, migration, why); err != nil || st.Unclean == why {
			return err
		}
		return note(ctx, tx, migration, phases.CauseLoss, why, struct{}{})
	})
}
