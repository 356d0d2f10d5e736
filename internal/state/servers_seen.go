package state

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
)

// Side is one of a migration's two stores.
type Side string

// The sides.
const (
	Legacy Side = "legacy"
	Target Side = "target"
)

// SeenServers returns what a store's servers were when they were last looked at; "": they never
// were.
func (s *Store) SeenServers(ctx context.Context, migration string, side Side) (seen string, err error) {
	err = s.pool.QueryRow(ctx, `SELECT seen FROM migrator.servers_seen WHERE migration = $1 AND side = $2`, migration, string(side)).Scan(&seen)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	return seen, statedb.Explain(err)
}

// SeeServers notes what a store's servers are now, unless another process has noted something else
// since they were as given.
func (s *Store) SeeServers(ctx context.Context, migration string, side Side, was, now string) error {
	_, err := s.pool.Exec(ctx, `SELECT migrator.see_servers($1, $2, $3, $4)`, migration, string(side), was, now)
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
