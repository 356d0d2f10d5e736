package dual

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/record"
)

// settle decides what becomes of a write that legacy has and the target lacks: it
// is journalled, and if somebody may read the target, the policy decides. The pin
// is released before a rollback is awaited, for it would hold that very rollback up.
func (i *Instance) settle(ctx context.Context, p *pin, lost []Lost, cause error) error {
	i.count.targetFailures.Add(uint64(len(lost)))
	ruling, err := i.record(ctx, lost)
	switch {
	case err != nil:
		// The application learns of it, and the journal as soon as it is back.
		if !i.pending.add(p, lost, false) {
			i.abandon(lost, true, "the journal can't be reached and too much waits for it")
		}
		return i.fail(lost, fmt.Errorf("%w (and it could not be journalled: %w)", cause, err))
	case ruling.Fenced:
		return i.fail(lost, fmt.Errorf("%w (authority has moved meanwhile)", cause))
	}
	failpoint.Here("dual.settle.journalled")
	i.count.journalled.Add(uint64(len(lost)))
	switch {
	case !p.h.lease.holds():
		return i.fail(lost, fmt.Errorf("%w (%w)", cause, ErrLeaseLost))
	case !ruling.TargetRead:
		return nil
	}
	switch i.set.Writing.OnTargetFailure {
	case Degrade:
		i.behind.add(lost)
		i.count.degraded.Add(1)
		return nil
	case RollBack:
		return i.rescue(ctx, p, lost, cause)
	default:
		return i.fail(lost, cause)
	}
}

func (i *Instance) fail(lost []Lost, cause error) error {
	i.count.failed.Add(1)
	keys := make([]record.Key, len(lost))
	for n, l := range lost {
		keys[n] = l.Key
	}
	return &TargetError{Keys: keys, Legacy: true, Cause: cause}
}

// record journals, within the write's deadline counted anew.
func (i *Instance) record(ctx context.Context, lost []Lost) (ruling Ruling, err error) {
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

var errNoRescuer = errors.New("this connection to the fleet can't take reads back to legacy")

// rescue commits the rollback and waits until nobody can read the target.
func (i *Instance) rescue(ctx context.Context, p *pin, lost []Lost, cause error) error {
	r, ok := i.fleet.(Rescuer)
	if !ok {
		return i.fail(lost, fmt.Errorf("%w (%w)", cause, errNoRescuer))
	}
	epoch := p.h.route.Epoch
	p.release() // nothing more is done under the route
	bounded := detach(ctx, i.set.Writing.RollbackBudget)
	defer bounded.stop()
	committed, err := false, error(nil)
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		if !committed {
			if err = r.Rescue(bounded, epoch, fmt.Sprintf("the target refused a write: %s", lost[0].Reason)); err == nil {
				failpoint.Here("dual.rescue.committed")
				committed = true
				i.ask() // this instance may be the one that is waited for
			}
		}
		if committed {
			if read, err := r.TargetRead(bounded); err == nil && !read {
				failpoint.Here("dual.rescue.settled")
				i.count.rescued.Add(1)
				return nil
			}
		}
		if !pause(bounded, wait) {
			break
		}
	}
	if !committed {
		return i.fail(lost, fmt.Errorf("%w (and reads could not be taken back to legacy: %w)", cause, err))
	}
	i.count.rescued.Add(1)
	i.count.unsettled.Add(1)
	i.log.Warn("a write was acknowledged before every instance had stopped reading the target", "budget", i.set.Writing.RollbackBudget)
	return nil
}

// awaitNext waits for an epoch after h's under which writes don't wait. Nothing
// must be pinned meanwhile: the very epoch that is waited for needs it.
func (i *Instance) awaitNext(ctx context.Context, h *held, until time.Time, cause error) error {
	i.count.fenceWaits.Add(1)
	over := time.NewTimer(time.Until(until))
	defer over.Stop()
	again := time.NewTicker(100 * time.Millisecond) // hints may be lost
	defer again.Stop()
	for {
		next := i.held.Load()
		if next.writes == writesNowhere {
			return ErrLeft
		}
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
