package state

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
)

// NoteServer records the server that the state database is on, and returns how that differs from
// the one that was recorded last; "": not at all. Every migration is then unclean: journalled keys
// may be lost, though the epoch is the same. Until the call, every Status says so.
func (s *Store) NoteServer(ctx context.Context) (changed string, err error) {
	var writable bool
	err = s.pool.QueryRow(ctx, `SELECT migrator.changed_server(), NOT pg_is_in_recovery()`).Scan(&changed, &writable)
	if err != nil || changed == "" || !writable || IsDryRun(ctx) {
		return changed, statedb.Explain(err)
	}
	rows, err := s.pool.Query(ctx, `SELECT name FROM migrator.migrations ORDER BY name`)
	if err != nil {
		return changed, statedb.Explain(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return changed, statedb.Explain(err)
	}
	for _, name := range names {
		if err := s.suspect(ctx, name, statedb.ChangedServer+changed); err != nil {
			return changed, err
		}
	}
	// [state-server]: last, and only the server that was compared: one that was promoted meanwhile may
	// lack the marks. Unless this is reached, the next call marks all again.
	_, err = s.pool.Exec(ctx, `SELECT migrator.note_server() WHERE migrator.changed_server() = $1`, changed)
	return changed, statedb.Explain(err)
}

// suspect marks a migration unclean, and its return journal as one that may lack keys.
func (s *Store) suspect(ctx context.Context, migration, why string) error {
	return s.exclusive(ctx, migration, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT migrator.suspect_state($1, $2)`, migration, why); err != nil {
			return err
		}
		return note(ctx, tx, migration, phases.CauseLoss, why, struct{}{})
	})
}
