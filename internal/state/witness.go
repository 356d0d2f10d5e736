package state

import (
	"context"

	"github.com/stranglerfig/migrator/phases"
)

// Witness remembers a route that somebody has seen the migration on, if this
// database has forgotten it; it is not an error if it hasn't.
func (s *Store) Witness(ctx context.Context, migration, instance string, held phases.Route) error {
	return witness(ctx, s.pool, migration, instance, held)
}

func witness(ctx context.Context, q querier, migration, instance string, held phases.Route) error {
	_, err := q.Exec(ctx, `SELECT migrator.witness($1, $2, $3, $4, $5)`,
		migration, held.Epoch, string(held.Phase), int32(held.Percent), clean(instance))
	return explain(err)
}
