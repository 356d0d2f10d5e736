package statedb

import (
	"context"

	"github.com/stranglerfig/migrator/phases"
)

func RecordStateLoss(ctx context.Context, q Querier, migration, instance string, held phases.Route) error {
	// [loss-held], [loss-epoch]: migrator.witness adds the route as an epoch above the present one:
	// it counts as held, and every move takes a higher epoch. It does nothing if the state knows
	// that epoch.
	_, err := q.Exec(ctx, `SELECT migrator.witness($1, $2, $3, $4, $5)`,
		migration, held.Epoch, string(held.Phase), int32(held.Percent), CleanText(instance))
	return Explain(err)
}
