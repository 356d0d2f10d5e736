package hint

import "context"

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
