package dual

import (
	"context"
	"errors"
	"time"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/phases"
)

// KindRollback is the kind of an Operation that is a rollback: a write that begins one waits until no
// instance reads the target any more; an instance that follows one, until its own operations have
// left the former route. Telemetry counts none.
const KindRollback telemetry.Operation = "rollback"

// Operation is the argument of Config.OnOperation: an operation as a whole, or one attempt on a
// store within it. It has no keys and no values of records.
type Operation struct {
	Kind telemetry.Operation // Read, Write, Comparison or KindRollback
	// Store is the store of an attempt. It is empty for an operation as a whole, which is what pins
	// the route.
	Store telemetry.Store
	// Role is what an attempt's result is for, as it is counted. Of a comparison it is Shadow, or
	// Missed after a read whose record only legacy had.
	Role  telemetry.Role
	Route phases.Route // as pinned; the operation keeps to it. Of a rollback the one that is left
	To    phases.Route // of a rollback in the background: the one that it leads to
	// Background: work that outlives the operation which began it, under the same
	// route: a queued write or a comparison. A rollback in the background is the fleet's, which
	// this instance follows; another is waited for by the write that began it.
	Background bool
	// Lapsed: the lease had expired when the route was pinned.
	Lapsed bool
}

// Result is how an operation, or an attempt on a store, ended.
type Result struct {
	// Outcome is as it is counted. Empty: it proves nothing about a store and is not counted. The write
	// waits for the next route, or a function of the application ended it.
	Outcome telemetry.Outcome
	// Err may have keys of records in its text: a trace should show its class.
	Err error
	// Took is as it is counted: how long an attempt took; of a write as a whole, how long its
	// caller waited after legacy had it. 0: it is not part of the sample that is timed.
	Took time.Duration
}

// hook is the type of Config.OnOperation.
type hook func(ctx context.Context, o Operation) (context.Context, func(Result))

// call keeps the caller's context where the hook returns none.
func (f hook) call(ctx context.Context, o Operation) (context.Context, func(Result)) {
	within, end := f(ctx, o)
	if within == nil {
		within = ctx
	}
	if end == nil {
		end = func(Result) {}
	}
	return within, end
}

// errPanicked is the result of an operation that a panic of a closure ended.
var errPanicked = errors.New("panic in the operation")

// announced is an operation in flight of which OnOperation was notified.
type announced struct {
	ctx     context.Context // the caller's: whether it gave up decides the outcome
	lapsed  bool            // the lease had expired
	end     func(Result)
	attempt func(Result)  // of the attempt on a store that is under way; nil: there is none
	result  *Result       // of the operation, where its caller's error is not it
	added   time.Duration // of a write
}

// start begins a watched operation: it counts one that is timed, and announces it, if need be. It
// returns the context of what the operation does.
func (p *pin) start(ctx context.Context, of *sampling, kind telemetry.Operation) context.Context {
	p.watched = true
	if p.nth&of.skip.Load() == 0 {
		p.timed = true
		of.timed()
	}
	if p.h.onOperation == nil {
		return ctx
	}
	return p.announce(ctx, Operation{Kind: kind})
}

// announce calls the application's OnOperation for a pin that has just been taken.
func (p *pin) announce(ctx context.Context, o Operation) context.Context {
	o.Route, o.Lapsed = p.h.route, !p.h.lease.valid()
	within, end := p.h.onOperation.call(ctx, o)
	p.announced = &announced{ctx: ctx, lapsed: o.Lapsed, end: end}
	return within
}

// conclude calls the function that OnOperation returned, while the route is still pinned. err is
// the caller's; nil if resolve was called.
func (p *pin) conclude(err *error) {
	a := p.announced
	p.announced = nil
	defer p.release()
	if a.attempt != nil { // its closure has panicked
		a.attempted(Result{Outcome: telemetry.Failed, Err: errPanicked})
	}
	switch {
	case a.result != nil:
		a.end(*a.result)
	case err == nil:
		a.end(Result{Outcome: telemetry.Failed, Err: errPanicked})
	default:
		a.end(Result{Outcome: outcomes[classify(a.ctx, *err)], Err: *err, Took: a.added})
	}
}

// resolve sets the operation's result, where it is not the error of its caller.
func (p *pin) resolve(o telemetry.Outcome, err error) {
	if p.announced != nil {
		p.announced.result = &Result{Outcome: o, Err: err}
	}
}

// attempt announces an attempt on a store. It returns the context for the store. What counts the
// attempt ends it.
func (p *pin) attempt(ctx context.Context, k kind) context.Context {
	if !p.watched {
		return ctx
	}
	return p.announceAttempt(ctx, k)
}

func (p *pin) announceAttempt(ctx context.Context, k kind) context.Context {
	a := p.announced
	if a == nil {
		return ctx
	}
	s := kindNames[k]
	within, end := p.h.onOperation.call(ctx, Operation{Kind: s.Operation, Store: s.Store, Role: s.Role, Route: p.h.route, Lapsed: a.lapsed})
	a.attempt = end
	return within
}

// uncounted ends an attempt that is not counted.
func (p *pin) uncounted(o telemetry.Outcome, err error) {
	if p.announced != nil {
		p.announced.attempted(Result{Outcome: o, Err: err})
	}
}

func (a *announced) attempted(r Result) {
	if end := a.attempt; end != nil {
		a.attempt = nil
		end(r)
	}
}

// announceRollback announces that reads go back from old to legacy, if they do. The operation
// ends when old has drained.
func announceRollback(old, h *pinnedRoute) (end func(Result)) {
	if old == nil || old.onOperation == nil || h.reads == readsNowhere || !old.route.ReadsTarget() || h.route.ReadsTarget() {
		return nil
	}
	_, end = old.onOperation.call(context.Background(), Operation{Kind: KindRollback, Route: old.route, To: h.route, Background: true})
	return end
}
