package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/record"
)

// Barrier implements store.Barrier.
//
// With a version column there is no greatest version to read, so the barrier starts a
// new era.
func (l *Legacy) Barrier(ctx context.Context, timeout time.Duration) (v record.Version, err error) {
	err = l.locked(ctx, timeout, "SHARE", func(tx pgx.Tx) error {
		v, err = l.barrier(ctx, tx)
		return err
	})
	if errors.Is(err, errBusy) {
		err = fmt.Errorf("no barrier within %s: %w", timeout, err)
	}
	return v, err
}

// [backfill-barrier]: under the table's lock every open writer has committed; every later one waits, and
// takes its version after this one.
func (l *Legacy) barrier(ctx context.Context, tx pgx.Tx) (v record.Version, err error) {
	var fence *int64
	if err := tx.QueryRow(ctx, "SELECT fence_era FROM migrator_legacy.migration WHERE name = $1", l.name).Scan(&fence); err != nil {
		if errors.Is(err, pgx.ErrNoRows) {
			return v, errNotInstalled
		}
		return v, err
	}
	if err := l.refuseSharing(ctx, tx); err != nil {
		return v, err
	}
	if fence != nil {
		return v, fmt.Errorf("legacy is fenced: nothing can be copied from it")
	}
	if l.version != "" {
		// [backfill-barrier]: a version column has no highest value to read, so a new era
		// divides the writes.
		era, err := l.startEra(ctx, tx, 0)
		if err != nil {
			return v, err
		}
		v = record.MakeVersion(era, 0, 0)
		return v, l.mark(ctx, tx, Marker{Kind: MarkBarrier, Era: era, Version: v})
	}
	if err := tx.QueryRow(ctx, "SELECT "+VersionExpr(l.name)).Scan(&v); err != nil {
		return v, err
	}
	return v, l.mark(ctx, tx, Marker{Kind: MarkBarrier, Era: v.Era(), Version: v})
}
