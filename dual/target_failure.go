package dual

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/record"
)

// handleTargetFailure handles a write that legacy has and the target lacks. The write is
// journaled, and if an instance may read the target, the policy decides. The pin is
// released before a rollback is awaited, since it would block that very rollback.
func (i *Instance) handleTargetFailure(ctx context.Context, p *pin, entries []JournalEntry, cause error) error {
	i.count.targetFailures.Add(uint64(len(entries)))
	// [journal-serial]: one transaction journals the keys and reads the live routes. A move that
	// commits later finds the keys; one that committed earlier is in the result.
	result, err := i.record(ctx, entries)
	switch {
	case err != nil:
		// [no-journal-fails]: no repair knows of the change, and no move waits for it. The application
		// gets an error, and the journal gets the key once it is reachable.
		if !i.pending.add(p, entries, false) {
			i.abandon(entries, true, "the journal is unreachable and its queue is full")
		}
		return i.fail(entries, fmt.Errorf("%w (and it could not be journaled: %w)", cause, err))
	case result.Fenced:
		// [no-journal-fails]: behind a fence nothing repairs from legacy, so the journal takes no
		// key.
		return i.fail(entries, fmt.Errorf("%w (authority has moved meanwhile)", cause))
	}
	failpoint.Here("dual.settle.journalled")
	if result.Route.Epoch < p.h.route.Epoch {
		// [epoch-grows]: the state has lost transactions, so its answer on who reads the target is of
		// routes that the fleet has left. Nothing may be acknowledged on it.
		i.ask()
		return i.fail(entries, fmt.Errorf("%w (the state is at epoch %d, this instance at %d: the state has lost transactions)", cause, result.Route.Epoch, p.h.route.Epoch))
	}
	i.count.journaled.Add(uint64(len(entries)))
	switch {
	// [lapsed-reads]: with its lease expired, the instance behaves as under the policy fail. The
	// fleet may have left its route, and its own degraded reads protect no other instance.
	case !p.h.lease.valid():
		return i.fail(entries, fmt.Errorf("%w (%w)", cause, ErrLeaseLost))
	// [both-before-ack], [journal-held]: acknowledged with the journal alone only if neither the
	// present route nor another live route reads the target.
	case !result.TargetRead:
		return nil
	}
	// [write-fault]: the target works, so its reads stay.
	if isWriteFault(cause) {
		return i.fail(entries, cause)
	}
	switch p.h.writing.OnTargetFailure {
	case Degrade:
		// [degraded-read]: recorded before the acknowledgment, or the next read of this instance
		// returns the old state.
		i.degraded.add(entries)
		i.count.degraded.Add(1)
		return nil
	case RollBack:
		return i.rollbackOnWriteFailure(ctx, p, entries, cause)
	default:
		return i.fail(entries, cause)
	}
}

// recordsPerDeadline is how many more records double the deadline of a write's target.
const recordsPerDeadline = 500

func (i *Instance) deadline(records int) time.Duration {
	w := i.writing()
	return max(w.Deadline, min(w.Deadline+w.Deadline*time.Duration(records)/recordsPerDeadline, w.NotAfter))
}

func (i *Instance) fail(entries []JournalEntry, cause error) error {
	i.count.failed.Add(1)
	keys := make([]record.Key, len(entries))
	for n, l := range entries {
		keys[n] = l.Key
	}
	return &TargetError{Keys: keys, Legacy: true, Cause: cause}
}

// record journals the changes, within the write's deadline counted from now.
func (i *Instance) record(ctx context.Context, entries []JournalEntry) (result JournalResult, err error) {
	passed, ok := i.journal.allow()
	if !ok {
		return result, errBreakerOpen
	}
	defer func() { i.journal.report(passed, err) }()
	bounded := detach(ctx, i.deadline(len(entries)))
	defer bounded.stop()
	for wait := 5 * time.Millisecond; ; wait *= 4 {
		if result, err = i.fleet.Journal(bounded, entries); err == nil || wait > 100*time.Millisecond {
			return result, err
		}
		if !pause(bounded, wait) {
			return result, err
		}
	}
}

var errNoEmergencyRollback = errors.New("this connection to the fleet can't roll back")

// rollbackOnWriteFailure commits the rollback and waits until no instance can read the target.
func (i *Instance) rollbackOnWriteFailure(ctx context.Context, p *pin, entries []JournalEntry, cause error) error {
	r, ok := i.fleet.(EmergencyRollback)
	if !ok {
		return i.fail(entries, fmt.Errorf("%w (%w)", cause, errNoEmergencyRollback))
	}
	// The rollback settles only when this instance has acknowledged it, and this pin would block
	// that: the write would wait for itself.
	p.resolve(outcomes[classify(context.Background(), cause)], cause)
	p.release() // nothing more is done under the route
	ctx, end := announceOwnRollback(ctx, p)
	err := i.awaitRollback(ctx, r, p.h, entries, cause)
	end(err)
	return err
}

// announceOwnRollback announces the rollback that a write has begun. The write itself has ended:
// its route is released.
func announceOwnRollback(ctx context.Context, p *pin) (context.Context, func(error)) {
	if p.h.onOperation == nil {
		return ctx, func(error) {}
	}
	within, end := p.h.onOperation.call(ctx, Operation{Kind: KindRollback, Route: p.h.route})
	return within, func(err error) {
		end(Result{Outcome: outcomes[classify(context.Background(), err)], Err: err})
	}
}

// awaitRollback commits the rollback and waits. Nothing of the instance is pinned.
func (i *Instance) awaitRollback(ctx context.Context, r EmergencyRollback, h *pinnedRoute, entries []JournalEntry, cause error) error {
	epoch := h.route.Epoch
	bounded := detach(ctx, h.writing.RollbackBudget)
	defer bounded.stop()
	committed, err := false, error(nil)
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		if !committed {
			// Safe to repeat: if only the response did not arrive, the next attempt finds that the route
			// no longer reads the target and does nothing.
			if err = r.RollBack(bounded, epoch, fmt.Sprintf("the target refused a write: %s", entries[0].Reason)); err == nil {
				failpoint.Here("dual.rescue.committed")
				committed = true
				i.ask() // this instance may be the last that has to acknowledge
			}
		}
		if committed {
			// [both-before-ack], [journal-held]: a committed rollback is not enough: instances read
			// the target until they have acknowledged it or their leases have expired.
			if read, err := r.TargetRead(bounded); err == nil && !read {
				failpoint.Here("dual.rescue.settled")
				i.count.emergencyRollbacks.Add(1)
				return nil
			}
		}
		if !pause(bounded, wait) {
			break
		}
	}
	if !committed {
		// [both-before-ack]: reads still come from a target that lacks the write: it is not
		// acknowledged.
		return i.fail(entries, fmt.Errorf("%w (and the rollback failed: %w)", cause, err))
	}
	i.count.emergencyRollbacks.Add(1)
	// The exception of promise 2, counted: the budget bounds how long a write waits for an instance
	// that does not respond, and that instance may read the old state until its lease expires.
	i.count.unsettled.Add(1)
	i.log.Warn("write acknowledged before the rollback settled", "budget", h.writing.RollbackBudget)
	return nil
}

// awaitNext waits for an epoch after h's under which writes don't wait. The caller must
// not have a route pinned: that would block the epoch that it waits for.
func (i *Instance) awaitNext(ctx context.Context, h *pinnedRoute, until time.Time, cause error) error {
	i.count.fenceWaits.Add(1)
	over := time.NewTimer(time.Until(until))
	defer over.Stop()
	again := time.NewTicker(100 * time.Millisecond) // a notification may not arrive
	defer again.Stop()
	for {
		next := i.pinned.Load()
		if next.writes == writesNowhere {
			return ErrLeft
		}
		// Only a later epoch ends the wait. The refusal came under h: a write that tried again
		// under the same epoch would be refused again, or overtake the fence that refused it.
		if next.route.Epoch > h.route.Epoch && next.writes != writesWait {
			return nil
		}
		i.ask()
		select {
		case <-next.over.Done():
		case <-again.C:
		case <-over.C:
			return &WaitError{Route: h.route, After: h.writing.FenceBudget, Cause: cause}
		case <-ctx.Done():
			return &WaitError{Route: h.route, After: h.writing.FenceBudget, Cause: context.Cause(ctx)}
		}
	}
}
