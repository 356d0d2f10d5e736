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
	return s.unclean(ctx, migration, why, `SELECT migrator.mark_unclean($1, $2)`)
}

// DoubtTarget is MarkUnclean because the target may have lost data.
func (s *Store) DoubtTarget(ctx context.Context, migration, why string) error {
	return s.unclean(ctx, migration, why, `SELECT migrator.doubt_target($1, $2)`)
}

// LoseLegacy is MarkUnclean because legacy may have lost transactions. An unfinished backfill is
// void: its barrier may be above legacy's present.
func (s *Store) LoseLegacy(ctx context.Context, migration, why string) error {
	return s.unclean(ctx, migration, why, `SELECT migrator.lose_legacy($1, $2)`)
}

func (s *Store) unclean(ctx context.Context, migration, why, mark string) error {
	return s.exclusive(ctx, migration, func(tx pgx.Tx) error {
		st, err := statedb.ReadStatus(ctx, tx, migration)
		if err != nil {
			return err
		}
		why = statedb.CleanText(why)
		// [store-unclean]: what was compared before may have been right for another state.
		if _, err := tx.Exec(ctx, mark, migration, why); err != nil || st.Unclean == why {
			return err
		}
		return note(ctx, tx, migration, phases.CauseLoss, why, struct{}{})
	})
}
