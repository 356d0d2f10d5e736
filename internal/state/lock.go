package state

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
)

// DryRun returns a context in which the Store's changes are made, and rolled back: what would be refused
// is refused.
func DryRun(ctx context.Context) context.Context { return statedb.DryRun(ctx) }

// IsDryRun reports whether the context is one of DryRun. What is changed elsewhere than in the state is
// left out by it.
func IsDryRun(ctx context.Context) bool { return statedb.IsDryRun(ctx) }

// exclusive runs f in a transaction that has the migration's row exclusively: no instance
// joins, renews or journals meanwhile, and f sees every instance that did before. If the
// process freezes in it, the database ends it after patience; the fleet waits that long.
func (s *Store) exclusive(ctx context.Context, migration string, f func(tx pgx.Tx) error) error {
	// [journal-serial], [join-locked]: the exclusive side of the lock that Join, Renew, Journal and
	// Return share.
	return statedb.Exclusive(ctx, s.pool, migration, phases.TransitionPatience, f)
}
