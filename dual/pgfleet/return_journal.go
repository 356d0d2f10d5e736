package pgfleet

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// codeTargetLost is the SQLSTATE of migrator.refuse_lost_target.
const codeTargetLost = "MG012"

// Return records keys that are about to be written to the target and that legacy lacks.
// It requires the phase retain and the epoch. Otherwise it returns dual.ErrRouteMoved,
// and the write must not be made.
func (f *Fleet) Return(ctx context.Context, epoch int64, keys []record.Key) error {
	var g dual.Grant
	err := f.oneTrip(ctx, &g, func(b *pgx.Batch) {
		// [mark-lost]: a write of retain on a target that was emptied would rest on nothing.
		b.Queue(`SELECT migrator.refuse_lost_target($1)`, f.migration)
		// [return-journal]: the phase and the epoch are compared in the same statement: once a
		// rollback has committed returning, no key enters and no write follows.
		b.Queue(`INSERT INTO migrator.return_journal AS j (migration, key, changes, first_at, last_at)
			SELECT m.name, k.key, 1, clock_timestamp(), clock_timestamp()
			FROM migrator.migrations m, unnest($3::bytea[]) AS k (key)
			WHERE m.name = $1 AND m.phase = 'retain' AND m.epoch = $2
			ORDER BY k.key
			ON CONFLICT (migration, key) DO UPDATE SET changes = j.changes + 1, last_at = excluded.last_at`,
			f.migration, epoch, statedb.KeyBytes(keys))
	})
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &pg) && pg.Code == codeTargetLost:
		return fmt.Errorf("%w: %s", dual.ErrTargetLost, pg.Message)
	case err != nil:
		return err
	}
	// [return-journal]: nothing was journaled; to write the target now would be a write that the
	// rollback does not replay.
	if g.Route.Phase != phases.Retain || g.Route.Epoch != epoch {
		return fmt.Errorf("%w: it is at %s, epoch %d", dual.ErrRouteMoved, g.Route, g.Route.Epoch)
	}
	return nil
}
