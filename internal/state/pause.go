package state

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/statedb"
)

// Pause closes the gate not-paused until Resume. Rollbacks stay possible. Pausing
// again for another reason replaces the reason.
func (s *Store) Pause(ctx context.Context, migration, reason string) error {
	if strings.TrimSpace(reason) == "" {
		return errors.New("a pause needs a reason")
	}
	return s.setPaused(ctx, migration, reason, reason)
}

// Resume ends a pause; it is no error if there is none.
func (s *Store) Resume(ctx context.Context, migration, reason string) error {
	return s.setPaused(ctx, migration, "", reason)
}

func (s *Store) setPaused(ctx context.Context, migration, paused, reason string) error {
	return s.exclusive(ctx, migration, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT migrator.pause($1, $2, $3)`, migration, statedb.CleanText(paused), statedb.CleanText(reason))
		return err
	})
}
