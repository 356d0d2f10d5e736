package state

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
)

// Pause closes the gate not-paused until Resume. Rollbacks stay possible. Pausing
// again for another reason replaces the reason.
func (s *Store) Pause(ctx context.Context, migration, reason string) error {
	if strings.TrimSpace(reason) == "" {
		return errors.New("a pause needs a reason")
	}
	return s.setPaused(ctx, migration, reason, phases.CausePause, reason)
}

// Resume ends a pause; it is no error if there is none.
func (s *Store) Resume(ctx context.Context, migration, reason string) error {
	return s.setPaused(ctx, migration, "", phases.CauseResume, reason)
}

func (s *Store) setPaused(ctx context.Context, migration, paused string, cause phases.Cause, reason string) error {
	return s.exclusive(ctx, migration, func(tx pgx.Tx) error {
		// The statement compares: pausing twice for one reason writes one entry of the history.
		tag, err := tx.Exec(ctx, `UPDATE migrator.migrations SET paused = $2 WHERE name = $1 AND paused <> $2`, migration, statedb.CleanText(paused))
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		return note(ctx, tx, migration, cause, reason, struct{}{})
	})
}
