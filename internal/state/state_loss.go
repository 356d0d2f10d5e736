package state

import (
	"context"

	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
)

// ReportStateLoss records a route that an instance has seen the migration on, if this
// database lacks its epoch. It is no error if the database has it.
func (s *Store) ReportStateLoss(ctx context.Context, migration, instance string, route phases.Route) error {
	// [loss-held]: the daemon reports as an instance does.
	return statedb.RecordStateLoss(ctx, s.pool, migration, instance, route)
}
