package dual

import (
	"context"
	"errors"

	"github.com/stranglerfig/migrator/phases"
)

// What an operation came to is counted by its shard where all went as usual: that
// costs nothing beside the release of its pin. Everything else is counted here.

// watch reads the clock if the operation is timed.
func (p *pin) watch() stopwatch {
	if !p.timed {
		return 0
	}
	return watch()
}

// lap records the time since began, and begins the next one.
func (p *pin) lap(k kind, came outcomeOf, began stopwatch) stopwatch {
	if !p.timed {
		return 0
	}
	return p.record(k, came, began)
}

func (p *pin) record(k kind, came outcomeOf, began stopwatch) stopwatch {
	now := watch()
	p.h.saw.time(k, came, now.since(began))
	return now
}

// observe counts an attempt on a store that no shard counts.
func (p *pin) observe(ctx context.Context, k kind, err error, began stopwatch) {
	came := classify(ctx, err)
	p.h.saw.count(k, came, 1)
	p.lap(k, came, began)
}

// answered counts an attempt of a read on the store that the route usually asks.
func (p *pin) answered(ctx context.Context, k kind, err error, began stopwatch) {
	if err != nil || p.timed {
		p.answeredAside(ctx, k, err, began)
		return
	}
	p.slot = readsOK
}

func (p *pin) answeredAside(ctx context.Context, k kind, err error, began stopwatch) {
	if err != nil {
		p.observe(ctx, k, err, began)
		return
	}
	p.slot = readsOK
	p.record(k, wasOK, began)
}

// wroteBoth counts a write of some records that both stores have.
func (p *pin) wroteBoth(records int, committed stopwatch) {
	if records == 1 && p.h.writes == phases.WritesBoth {
		p.slot = writesOK
	} else {
		p.h.saw.count(writeLegacy, wasOK, 1)
		p.h.saw.count(writeTarget, wasOK, uint64(records))
		p.h.saw.count(writeAdded, wasOK, 1)
	}
	if p.timed {
		p.record(writeTarget, wasOK, committed)
		p.record(writeAdded, wasOK, committed)
	}
}

// missed counts a write of some records of which the target lacks some; added
// follows when its caller has been told.
func (p *pin) missed(records, lost int, cause error, committed stopwatch) {
	came := classify(context.Background(), cause) // the caller's end doesn't reach the target
	p.h.saw.count(writeLegacy, wasOK, 1)
	p.h.saw.count(writeTarget, wasOK, uint64(records-lost))
	p.h.saw.count(writeTarget, came, uint64(lost))
	p.lap(writeTarget, came, committed)
}

// added counts what a write cost its caller after legacy had it. The pin may be released.
func (p *pin) added(err error, committed stopwatch) {
	came := wasOK
	if err != nil {
		came = wasError
	}
	p.h.saw.count(writeAdded, came, 1)
	p.lap(writeAdded, came, committed)
}

// wroteBehind counts a write that the target gets in the background.
func (p *pin) wroteBehind(err error, committed stopwatch) {
	if err == nil {
		p.slot = writesOK
		p.lap(writeAdded, wasOK, committed)
		return
	}
	p.h.saw.count(writeLegacy, wasOK, 1)
	p.added(err, committed)
}

// wroteAlone counts a write of the target alone. What the application's own
// closure refused is no attempt on the store.
func (p *pin) wroteAlone(ctx context.Context, moved bool, err error, began stopwatch) {
	switch {
	case moved:
	case err == nil:
		p.slot = writesOK
		p.lap(writeTarget, wasOK, began)
	case isTargetError(err):
		p.observe(ctx, writeTarget, err, began)
	}
}

func isTargetError(err error) bool {
	var refused *TargetError
	return errors.As(err, &refused)
}
