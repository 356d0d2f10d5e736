package testenv

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// The pause between two looks at a condition is a multiple of what a look takes, so that tests
// which wait beside each other leave the processors to what they wait for.
const (
	looksOne      = 4 // of this many parts of the time, and one
	shortestPause = 2 * time.Millisecond
	longestPause  = time.Second
	patience      = 5 * time.Minute // far longer than a loaded machine needs
)

// Await waits until holds returns true. After five minutes the test fails: "in vain for" and what.
func Await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	if !Reached(t.Context(), holds) {
		t.Fatalf("in vain for %s", what)
	}
}

// Reached waits until holds returns true, and returns whether it did so within five minutes, before
// ctx ended.
func Reached(ctx context.Context, holds func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		began := time.Now()
		if holds() {
			return true
		}
		pause.Reset(min(max(looksOne*time.Since(began), shortestPause), longestPause))
		select {
		case <-ctx.Done():
			return false
		case <-pause.C:
		}
	}
}

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
