package store

import (
	"context"
	"errors"
	"time"

	"github.com/stranglerfig/migrator/record"
)

// ErrRecentColumn refuses a column that can't tell when records changed.
var ErrRecentColumn = errors.New("reconcile.recent.column")

// RecentFinder is a legacy store that finds records by when they last changed.
type RecentFinder interface {
	// CheckRecent tells why the column can't serve, by ErrRecentColumn: it is no
	// timestamp, or has no index.
	CheckRecent(ctx context.Context, column string) error
	// RecentKeys draws so large a share (0 to 1) of the keys of the records whose
	// column is at most within old by the store's clock; up to limit keys. A
	// timestamp without time zone is taken as UTC.
	RecentKeys(ctx context.Context, column string, within time.Duration, share float64, limit int) ([]record.Key, error)
}
