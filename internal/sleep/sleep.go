// Package sleep sleeps as long as a context lasts.
package sleep

import (
	"context"
	"time"
)

// For returns after d, or with ctx's error as soon as ctx is done; with it too where
// both are over.
func For(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
	return ctx.Err()
}
