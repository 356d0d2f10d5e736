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
func (l *Legacy) Barrier(ctx context.Context, timeout time.Duration) (record.Version, error) {
	var v record.Version
	// [backfill-barrier]: every open writer has committed; every later one waits, and takes its
	// version after this one.
	err := l.locked(ctx, timeout, "SHARE", func(tx pgx.Tx) error {
		var fence *int64
		if err := tx.QueryRow(ctx, "SELECT fence_era FROM migrator_legacy.migration WHERE name = $1", l.name).Scan(&fence); err != nil {
			if errors.Is(err, pgx.ErrNoRows) {
				return errNotInstalled
			}
			return err
		}
		if err := l.refuseSharing(ctx, tx); err != nil {
			return err
		}
		if fence != nil {
			return fmt.Errorf("legacy is fenced: nothing can be copied from it")
		}
		if l.version != "" {
			// [backfill-barrier]: a version column has no highest value to read, so a new era
			// divides the writes.
			era, err := l.startEra(ctx, tx, 0)
			v = record.MakeVersion(era, 0, 0)
			return err
		}
		var text string
		if err := tx.QueryRow(ctx, "SELECT "+VersionExpr(l.name)).Scan(&text); err != nil {
			return err
		}
		var err error
		v, err = record.ParseVersion(text)
		return err
	})
	if errors.Is(err, errBusy) {
		err = fmt.Errorf("no barrier within %s: %w", timeout, err)
	}
	return v, err
}
