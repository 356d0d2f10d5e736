package dual

import (
	"context"
	"time"

	"github.com/stranglerfig/migrator/dual/telemetry"
)

// deleteAbsent completes a delete of a key that legacy does not have. The target may
// have a record nevertheless: an earlier delete did not reach it, or has not landed yet.
// A caller that retries a delete after an error must not get success while readers of
// the target still see the record. So it is removed as a repair removes extra records:
// the target's version is read first, then legacy is asked once more, and the record is
// deleted on condition that the target has not changed since.
func (w *Writer[K, V]) deleteAbsent(ctx context.Context, p *pin, o *operation[K, V], notAfter time.Time, clockErr error, committed stopwatch) (moved bool, err error) {
	until := time.Now().Add(p.h.writing.Deadline)
	cause := clockErr
	within := p.attempt(ctx, writeTarget)
	for attempt := 0; clockErr == nil; attempt++ {
		var seen Versioned[V]
		// [repair-target-first]: the target's version is read before legacy is asked again. The
		// other way round, a record that was inserted in between would be removed.
		if seen, cause = w.readTarget(within, o.key); cause == nil {
			// [delete-absent]: acknowledged only when the target is known to lack the record.
			if !seen.Found {
				p.h.observed.count(writeLegacy, wasOK, 1)
				p.uncounted(telemetry.OK, nil)
				return false, nil
			}
			// Legacy's delete runs again: it finds nothing, or a record that was written meanwhile,
			// which it then deletes at a version of its own.
			p.uncounted(telemetry.OK, nil)
			changes, err := o.run(p.attempt(ctx, writeLegacy))
			switch {
			case err != nil && w.fenced(err):
				p.uncounted("", err)
				return true, err
			case err != nil:
				p.observe(ctx, writeLegacy, err, committed)
				w.journalUnknownOutcome(p, o, err)
				return false, err
			case len(changes) > 0: // written meanwhile
				p.uncounted(telemetry.OK, nil)
				return false, w.follow(ctx, p, changes, notAfter, nil, committed)
			}
			p.uncounted(telemetry.OK, nil)
			within = p.attempt(ctx, writeTarget)
			// [repair-unchanged], [not-after-fixed]: the tombstone takes the version that was read
			// and replaces that one only: a record that was inserted since then stays.
			gone := Change[K, V]{Key: o.key, Deleted: true, Version: seen.Version}
			if cause = w.try(within, gone, ApplyOptions{NotAfter: notAfter, IfVersion: &seen.Version}, &retryBudget{until: until}, attempt > 0); cause == nil {
				p.wroteBoth(1, committed)
				return false, nil
			}
		}
		if !w.again(p.h, attempt, until) {
			break
		}
	}
	p.missed(1, 1, cause, committed)
	err = w.i.handleTargetFailure(ctx, p, []JournalEntry{{Key: w.key(o.key), Reason: cause.Error()}}, cause)
	p.added(err, committed)
	return false, err
}

// readTarget reads the target's record through the writer's breaker.
func (w *Writer[K, V]) readTarget(ctx context.Context, key K) (seen Versioned[V], err error) {
	passed, ok := w.guard.allow()
	if !ok {
		return seen, errBreakerOpen
	}
	defer func() { w.guard.report(passed, err) }()
	bounded := detach(ctx, w.attempt(&retryBudget{}))
	defer bounded.stop()
	return w.target.Get(bounded, key)
}
