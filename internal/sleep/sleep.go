// Package sleep sleeps until a time has passed or a context ends.
package sleep

import (
	"context"
	"time"
)

// For returns nil after d, or ctx's error as soon as ctx is done. If both have happened,
// it returns the error.
func For(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
	return ctx.Err()
}
