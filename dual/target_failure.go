package dual

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/record"
)

// handleTargetFailure decides what becomes of a write that legacy has and the target lacks: it
// is journalled, and if somebody may read the target, the policy decides. The pin
// is released before a rollback is awaited, for it would hold that very rollback up.
func (i *Instance) handleTargetFailure(ctx context.Context, p *pin, lost []JournalEntry, cause error) error {
	i.count.targetFailures.Add(uint64(len(lost)))
	// [journal-serial]: one transaction journals the keys and reads which routes may be held. A
	// move that commits later finds the keys; one that committed earlier is in the ruling.
	ruling, err := i.record(ctx, lost)
	switch {
	case err != nil:
		// [no-journal-fails]: no repair knows of the change, and no move waits for it.
		// The application learns of it, and the journal as soon as it is back.
		if !i.pending.add(p, lost, false) {
			i.abandon(lost, true, "the journal can't be reached and too much waits for it")
		}
		return i.fail(lost, fmt.Errorf("%w (and it could not be journalled: %w)", cause, err))
	case ruling.Fenced:
		// [no-journal-fails]: behind a fence nothing repairs from legacy, so the journal takes no
		// key.
		return i.fail(lost, fmt.Errorf("%w (authority has moved meanwhile)", cause))
	}
	failpoint.Here("dual.settle.journalled")
	i.count.journalled.Add(uint64(len(lost)))
	switch {
	// [lapsed-reads]: with its lease over, the instance behaves as under fail. Its route may be one
	// that the fleet has left, and its own degraded reads protect no other instance.
	case !p.h.lease.holds():
		return i.fail(lost, fmt.Errorf("%w (%w)", cause, ErrLeaseLost))
	// [both-before-ack], [journal-held]: acknowledged with the journal alone only if neither the
	// present route nor one that a live lease may still hold reads the target.
	case !ruling.TargetRead:
		return nil
	}
	switch i.set.Writing.OnTargetFailure {
	case Degrade:
		// [degraded-read]: noted before the acknowledgment, or the next read of this instance shows
		// the old state.
		i.behind.add(lost)
		i.count.degraded.Add(1)
		return nil
	case RollBack:
		return i.rollbackOnWriteFailure(ctx, p, lost, cause)
	default:
		return i.fail(lost, cause)
	}
}

func (i *Instance) fail(lost []JournalEntry, cause error) error {
	i.count.failed.Add(1)
	keys := make([]record.Key, len(lost))
	for n, l := range lost {
		keys[n] = l.Key
	}
	return &TargetError{Keys: keys, Legacy: true, Cause: cause}
}

// record journals, within the write's deadline counted anew.
func (i *Instance) record(ctx context.Context, lost []JournalEntry) (ruling JournalResult, err error) {
	passed, ok := i.journal.allow()
	if !ok {
		return ruling, errBreakerOpen
	}
	defer func() { i.journal.report(passed, err) }()
	bounded := detach(ctx, i.set.Writing.Deadline)
	defer bounded.stop()
	for wait := 5 * time.Millisecond; ; wait *= 4 {
		if ruling, err = i.fleet.Journal(bounded, lost); err == nil || wait > 100*time.Millisecond {
			return ruling, err
		}
		if !pause(bounded, wait) {
			return ruling, err
		}
	}
}

var errNoEmergencyRollback = errors.New("this connection to the fleet can't take reads back to legacy")

// rollbackOnWriteFailure commits the rollback and waits until nobody can read the target.
func (i *Instance) rollbackOnWriteFailure(ctx context.Context, p *pin, lost []JournalEntry, cause error) error {
	r, ok := i.fleet.(EmergencyRollback)
	if !ok {
		return i.fail(lost, fmt.Errorf("%w (%w)", cause, errNoEmergencyRollback))
	}
	epoch := p.h.route.Epoch
	// The rollback settles only when this instance has acknowledged it, and this pin would hold
	// that up: a write that waits for itself.
	p.release() // nothing more is done under the route
	bounded := detach(ctx, i.set.Writing.RollbackBudget)
	defer bounded.stop()
	committed, err := false, error(nil)
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		if !committed {
			// Safe to repeat: if only the response was lost, the next attempt finds that the route
			// no longer reads the target and does nothing.
			if err = r.RollBack(bounded, epoch, fmt.Sprintf("the target refused a write: %s", lost[0].Reason)); err == nil {
				failpoint.Here("dual.rescue.committed")
				committed = true
				i.ask() // this instance may be the one that is waited for
			}
		}
		if committed {
			// [both-before-ack], [journal-held]: a committed rollback is not enough: instances read
			// the target until they have acknowledged it or their leases have run out.
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
		return i.fail(lost, fmt.Errorf("%w (and reads could not be taken back to legacy: %w)", cause, err))
	}
	i.count.emergencyRollbacks.Add(1)
	// The exception of promise 2, counted: the budget bounds how long a write waits for an instance
	// that does not answer, and that instance may read the old state until its lease ends.
	i.count.unsettled.Add(1)
	i.log.Warn("a write was acknowledged before every instance had stopped reading the target", "budget", i.set.Writing.RollbackBudget)
	return nil
}

// awaitNext waits for an epoch after h's under which writes don't wait. Nothing
// must be pinned meanwhile: the very epoch that is waited for needs it.
func (i *Instance) awaitNext(ctx context.Context, h *pinnedRoute, until time.Time, cause error) error {
	i.count.fenceWaits.Add(1)
	over := time.NewTimer(time.Until(until))
	defer over.Stop()
	again := time.NewTicker(100 * time.Millisecond) // hints may be lost
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
			return &WaitError{Route: h.route, After: i.set.Writing.FenceBudget, Cause: cause}
		case <-ctx.Done():
			return &WaitError{Route: h.route, After: i.set.Writing.FenceBudget, Cause: context.Cause(ctx)}
		}
	}
}
