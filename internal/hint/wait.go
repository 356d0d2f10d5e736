package hint

import (
	"context"
	"time"
)

type waitKey struct{}

// OnWait has f called with what work under ctx waits for, and with what can be done about it. It may be
// called by several goroutines at a time.
func OnWait(ctx context.Context, f func(what string, remedy Hint)) context.Context {
	return context.WithValue(ctx, waitKey{}, f)
}

// Waiting reports what work under ctx waits for, in words that follow "waiting for". A wait that goes on is
// reported again.
func Waiting(ctx context.Context, what string, remedy Hint) {
	if f, ok := ctx.Value(waitKey{}).(func(string, Hint)); ok {
		f(what, remedy)
	}
}

// WaitingSince reports a call that has not returned for each period of that length, until done is called. It costs nothing where
// no work listens.
func WaitingSince(ctx context.Context, each time.Duration, what func(took time.Duration) string, remedy Hint) (done func()) {
	if ctx.Value(waitKey{}) == nil {
		return func() {}
	}
	over, began := make(chan struct{}), time.Now()
	go func() {
		tick := time.NewTicker(each)
		defer tick.Stop()
		for {
			select {
			case <-over:
				return
			case <-tick.C:
				Waiting(ctx, what(time.Since(began)), remedy)
			}
		}
	}()
	return func() { close(over) }
}
