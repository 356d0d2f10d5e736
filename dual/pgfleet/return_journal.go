package pgfleet

import (
	"context"
	"errors"
	"fmt"

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
	var at phases.Route
	// [mark-lost], [return-journal]: in the function.
	err := f.oneTrip(ctx, foreground, `SELECT * FROM migrator.return_keys($1, $2, $3)`, []any{f.migration, epoch, statedb.KeyBytes(keys)},
		&at.Phase, &at.Percent, &at.Epoch, statedb.ScanShadow(&at.Shadow))
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &pg) && pg.Code == codeTargetLost:
		return fmt.Errorf("%w: %s", dual.ErrTargetLost, pg.Message)
	case err != nil:
		return err
	}
	// [return-journal]: nothing was journaled; to write the target now would be a write that the
	// rollback does not replay.
	if at.Phase != phases.Retain || at.Epoch != epoch {
		return fmt.Errorf("%w: it is at %s, epoch %d", dual.ErrRouteMoved, at, at.Epoch)
	}
	return nil
}
