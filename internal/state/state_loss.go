package state

import (
	"context"

	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
)

// Witness remembers a route that somebody has seen the migration on, if this
// database has forgotten it; it is not an error if it hasn't.
func (s *Store) ReportStateLoss(ctx context.Context, migration, instance string, route phases.Route) error {
	// [loss-held]: the daemon reports as an instance does.
	return statedb.RecordStateLoss(ctx, s.pool, migration, instance, route)
}
