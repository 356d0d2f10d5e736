package testenv

import (
	"context"
	"fmt"
	"time"
)

// await calls cond every interval until it returns true or an error, or ctx ends. what
// completes "waiting for …" in the error.
func await(ctx context.Context, every time.Duration, what string, cond func() (bool, error)) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		ok, err := cond()
		if err != nil {
			return err
		}
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, context.Cause(ctx))
		case <-tick.C:
		}
	}
}
