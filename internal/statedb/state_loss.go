package statedb

import (
	"context"

	"github.com/stranglerfig/migrator/phases"
)

func RecordStateLoss(ctx context.Context, q Querier, migration, instance string, held phases.Route) error {
	_, err := q.Exec(ctx, `SELECT migrator.witness($1, $2, $3, $4, $5)`,
		migration, held.Epoch, string(held.Phase), int32(held.Percent), CleanText(instance))
	return Explain(err)
}
