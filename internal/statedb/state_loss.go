package statedb

import (
	"context"

	"github.com/stranglerfig/migrator/phases"
)

// RecordStateLoss records the route that an instance has, if the state database has lost
// its epoch.
func RecordStateLoss(ctx context.Context, q Querier, migration, instance string, route phases.Route) error {
	// [loss-held], [loss-epoch]: migrator.witness adds the route as an epoch above the present one:
	// it counts as a live route, and every move takes a higher epoch. It does nothing if the state
	// has that epoch.
	_, err := q.Exec(ctx, `SELECT migrator.witness($1, $2, $3, $4, $5)`,
		migration, route.Epoch, string(route.Phase), int32(route.Percent), CleanText(instance))
	return Explain(err)
}
