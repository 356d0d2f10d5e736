package pgfleet

import (
	"context"
	"fmt"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
)

// RollBack rolls back to reads from legacy because the target refused a write. It does
// nothing if reads come from legacy already. It returns dual.ErrRouteMoved if authority
// is moving or has moved: then legacy can't serve the reads.
func (f *Fleet) RollBack(ctx context.Context, epoch int64, reason string) error {
	// In an outage every write calls this; all but the first find the rollback done.
	present, _, err := f.route(ctx, f.pool)
	if err != nil || !present.ReadsTarget() {
		return err
	}
	// [held-routes], [fence-attempt], [loss-epoch]: the function locks the row exclusively, and decides and
	// moves in one statement: an application that freezes keeps nothing locked.
	ctx = statedb.WithPatience(ctx, phases.EmergencyPatience+phases.StatementWithin)
	var undone string
	var held struct {
		phase   *string
		percent *int32
		epoch   *int64
	}
	err = f.oneTrip(ctx, foreground, `SELECT * FROM migrator.take_reads_back($1, $2, $3)`, []any{f.migration, epoch, statedb.CleanText(reason)},
		&present.Phase, &present.Percent, &present.Epoch, &undone, &held.phase, &held.percent, &held.epoch)
	switch {
	case err != nil:
		return err
	case undone == "held":
		return &phases.RouteConflictError{
			To:   phases.Route{Phase: phases.DualRead, Percent: phases.All},
			Live: phases.Route{Phase: phases.Phase(*held.phase), Percent: phases.Percent(*held.percent), Epoch: *held.epoch},
		}
	case undone == "moves": // authority: the fence may be up
		return fmt.Errorf("%w: it is at %s", dual.ErrRouteMoved, present)
	}
	failpoint.Here("state.rescue.committed")
	f.markSettled(ctx)
	return nil
}

// TargetRead reports whether an instance may still read the target.
func (f *Fleet) TargetRead(ctx context.Context) (bool, error) {
	present, live, err := f.route(ctx, f.pool)
	if err != nil {
		return false, err
	}
	// [journal-held]: every live route counts as much as the present one.
	return statedb.AnyReadsTarget(present, live), nil
}
