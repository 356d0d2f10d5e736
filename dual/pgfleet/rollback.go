package pgfleet

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

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
	present, err := f.present(ctx, f.pool)
	if err != nil || !present.ReadsTarget() {
		return err
	}
	// [held-routes]: the row is locked exclusively: the route, the attempt and the live routes are
	// read and decided on as one. If the process freezes here, the database aborts the transaction
	// after EmergencyPatience, before leases expire behind it.
	err = statedb.Exclusive(ctx, f.pool, f.migration, phases.EmergencyPatience, func(tx pgx.Tx) error {
		var at phases.Route
		var attempt string
		err := tx.QueryRow(ctx, `SELECT phase, percent, epoch, attempt FROM migrator.migrations WHERE name = $1`, f.migration).
			Scan(&at.Phase, &at.Percent, &at.Epoch, &attempt)
		switch {
		case err != nil:
			return err
		case !at.ReadsTarget():
			return nil
		// [fence-attempt]: dual-read behind a fence would be a route whose writes legacy refuses
		// and that no command lifts.
		case statedb.Fenced(at.Phase), attempt != "": // with an attempt recorded, the fence may be up
			return fmt.Errorf("%w: it is at %s", dual.ErrRouteMoved, at)
		}
		return f.rollBack(ctx, tx, at, epoch, reason)
	})
	if err == nil {
		failpoint.Here("state.rescue.committed")
		statedb.MarkSettled(ctx, f.pool, f.migration)
	}
	return err
}

func (f *Fleet) rollBack(ctx context.Context, tx pgx.Tx, at phases.Route, epoch int64, reason string) error {
	rows, err := tx.Query(ctx, statedb.LiveRoutesSQL, f.migration)
	if err != nil {
		return err
	}
	live, err := pgx.CollectRows(rows, statedb.ScanRoute)
	if err != nil {
		return err
	}
	// [held-routes]: a rollback must not commit a route beside an incompatible one either.
	if err := phases.Legal(at, phases.Route{Phase: phases.DualRead, Percent: phases.All}, live); err != nil {
		return err
	}
	details, err := json.Marshal(map[string]any{"write_epoch": epoch, "held": live})
	if err != nil {
		return err
	}
	// internal/state/schema.sql has the function as it is now.
	// [loss-epoch]: migrator.rescue moves by migrator.move, whose epoch is above all that are
	// known; it refuses if the epoch is not at.Epoch any more.
	_, err = tx.Exec(ctx, `SELECT migrator.rescue($1, $2, $3, $4::jsonb)`, f.migration, at.Epoch, statedb.CleanText(reason), string(details))
	return err
}

// TargetRead reports whether an instance may still read the target.
func (f *Fleet) TargetRead(ctx context.Context) (bool, error) {
	present, err := f.present(ctx, f.pool)
	if err != nil || present.ReadsTarget() {
		return present.ReadsTarget(), err
	}
	rows, err := f.pool.Query(ctx, statedb.LiveRoutesSQL, f.migration)
	if err != nil {
		return false, statedb.Explain(err)
	}
	live, err := pgx.CollectRows(rows, statedb.ScanRoute)
	// [journal-held]: every live route counts as much as the present one.
	return statedb.AnyReadsTarget(present, live), statedb.Explain(err)
}
