package state

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
)

// MarkUnclean records that a store has lost data: from then on reads move to the target only after
// a clean, full reconcile that begins later. The history gets an entry for each reason that
// differs from the one before.
func (s *Store) MarkUnclean(ctx context.Context, migration, why string) error {
	return s.exclusive(ctx, migration, func(tx pgx.Tx) error {
		st, err := statedb.ReadStatus(ctx, tx, migration)
		if err != nil {
			return err
		}
		why = statedb.CleanText(why)
		// [store-unclean]: what was compared before may have been right for another state.
		if _, err := tx.Exec(ctx, `SELECT migrator.mark_unclean($1, $2)`, migration, why); err != nil || st.Unclean == why {
			return err
		}
		return note(ctx, tx, migration, phases.CauseLoss, why, struct{}{})
	})
}
