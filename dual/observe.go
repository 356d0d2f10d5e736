package dual

import (
	"context"
	"errors"
	"time"

	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// The usual outcome of an operation is counted by its shard, which costs nothing in
// addition to the release of its pin. Every other outcome is counted here.

// begin announces an attempt on a store, if need be, and reads the clock if the operation is timed.
func (p *pin) begin(ctx context.Context, k kind) (context.Context, stopwatch) {
	if !p.watched {
		return ctx, 0
	}
	return p.beginWatched(ctx, k)
}

func (p *pin) beginWatched(ctx context.Context, k kind) (context.Context, stopwatch) {
	return p.announceAttempt(ctx, k), p.watch()
}

// watch reads the clock if the operation is timed.
func (p *pin) watch() stopwatch {
	if !p.timed {
		return 0
	}
	return watch()
}

// lap records the time since began, ends the attempt, and begins the next time.
func (p *pin) lap(k kind, result outcomeOf, err error, began stopwatch) stopwatch {
	if !p.watched {
		return 0
	}
	return p.record(k, result, err, began)
}

func (p *pin) record(k kind, result outcomeOf, err error, began stopwatch) (now stopwatch) {
	var took time.Duration
	if p.timed {
		now = watch()
		took = now.since(began)
		p.h.observed.time(k, result, took)
	}
	switch a := p.announced; {
	case a == nil:
	case k == writeAdded:
		a.added = took
	default:
		a.attempted(Result{Outcome: outcomes[result], Err: err, Took: took})
	}
	return now
}

// beside counts and times an attempt that is made beside the caller's operation.
func (p *pin) beside(ctx context.Context, k kind, err error, began stopwatch) {
	result, took := p.h.observed.beside(ctx, k, err, began)
	if p.announced != nil {
		p.announced.attempted(Result{Outcome: outcomes[result], Err: err, Took: took})
	}
}

// compared counts how the comparison of this pin ended.
func (p *pin) compared(v verdictOf, afterMiss bool, err error) {
	p.h.observed.compared(v, afterMiss)
	p.resolve(verdicts[v], err)
}

// observe counts an attempt on a store that is not counted by a shard.
func (p *pin) observe(ctx context.Context, k kind, err error, began stopwatch) {
	result := classify(ctx, err)
	p.h.observed.count(k, result, 1)
	p.lap(k, result, err, began)
}

// answered counts a read's attempt on the store that the route usually reads.
func (p *pin) answered(ctx context.Context, k kind, err error, began stopwatch) {
	if err != nil || p.watched {
		p.answeredSlowPath(ctx, k, err, began)
		return
	}
	p.slot = slotReadOK
}

func (p *pin) answeredSlowPath(ctx context.Context, k kind, err error, began stopwatch) {
	if err != nil {
		p.observe(ctx, k, err, began)
		return
	}
	p.slot = slotReadOK
	p.record(k, wasOK, nil, began)
}

// wroteBoth counts a write of some records that both stores have.
func (p *pin) wroteBoth(records int, committed stopwatch) {
	if records == 1 && p.h.writes == phases.WritesBoth {
		p.slot = slotWriteOK
	} else {
		p.h.observed.count(writeLegacy, wasOK, 1)
		p.h.observed.count(changedRow, wasOK, uint64(records))
		p.h.observed.count(writeTarget, wasOK, uint64(records))
		p.h.observed.count(writeAdded, wasOK, 1)
	}
	if p.watched {
		p.record(writeTarget, wasOK, nil, committed)
		p.record(writeAdded, wasOK, nil, committed)
	}
}

// missed counts a write of some records of which the target lacks some. The caller calls
// added when the write returns.
func (p *pin) missed(records, lacking int, cause error, committed stopwatch) {
	result := classify(context.Background(), cause) // the caller's end doesn't reach the target
	p.h.observed.count(writeLegacy, wasOK, 1)
	p.h.observed.count(changedRow, wasOK, uint64(records))
	p.h.observed.count(writeTarget, wasOK, uint64(records-lacking))
	p.h.observed.count(writeTarget, result, uint64(lacking))
	p.lap(writeTarget, result, cause, committed)
}

// added counts the time that a write's caller waited after legacy had the write. The pin
// may have been released.
func (p *pin) added(err error, committed stopwatch) {
	result := wasOK
	if err != nil {
		result = wasError
	}
	p.h.observed.count(writeAdded, result, 1)
	p.lap(writeAdded, result, err, committed)
}

// wroteBehind counts a write of some records that the target gets in the background.
func (p *pin) wroteBehind(records int, err error, committed stopwatch) {
	if err == nil && records == 1 {
		p.slot = slotWriteOK
		p.lap(writeAdded, wasOK, nil, committed)
		return
	}
	p.h.observed.count(writeLegacy, wasOK, 1)
	p.h.observed.count(changedRow, wasOK, uint64(records))
	p.added(err, committed)
}

// wroteLegacy counts a write of some records that legacy alone gets.
func (p *pin) wroteLegacy(records int, began stopwatch) {
	if records == 1 {
		p.slot = slotWriteOK
	} else {
		p.h.observed.count(writeLegacy, wasOK, 1)
		p.h.observed.count(changedRow, wasOK, uint64(records))
	}
	p.lap(writeLegacy, wasOK, nil, began)
}

// failedLegacy counts a write that legacy refused, or that failed. It may have changed its records
// before it was rolled back.
func (p *pin) failedLegacy(ctx context.Context, records int, err error, began stopwatch) {
	result := classify(ctx, err)
	if result == wasError && store.IsRefusal(err) {
		result = wasFaulty
	}
	p.h.observed.count(writeLegacy, result, 1)
	p.lap(writeLegacy, result, err, began)
	p.h.observed.count(changedRow, wasError, uint64(max(records, 1)))
}

// wroteAlone counts a write of the target alone. A refusal by the application's own
// closure is not an attempt on the store.
func (p *pin) wroteAlone(ctx context.Context, moved bool, err error, began stopwatch) {
	switch {
	case moved:
		p.uncounted("", err)
	case err == nil:
		p.slot = slotWriteOK
		p.lap(writeTarget, wasOK, nil, began)
	case isTargetError(err):
		p.observe(ctx, writeTarget, err, began)
	default:
		p.uncounted("", err)
	}
}

func isTargetError(err error) bool {
	var refused *TargetError
	return errors.As(err, &refused)
}
