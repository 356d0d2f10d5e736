package state

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/statedb"
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
