package dual

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/phases"
)

// Run keeps the lease, follows the migration's route, acknowledges each epoch as
// soon as every operation under an older one is over, and makes the background
// writes. It blocks until ctx ends, then refuses new operations, waits for those
// under way and leaves the fleet. The error says that it could not leave cleanly.
func (i *Instance) Run(ctx context.Context) error {
	if !i.running.CompareAndSwap(false, true) {
		return errors.New("dual: Run was called before; join anew for another instance")
	}
	// The workers outlive ctx: what is queued when it ends must reach the target or the journal
	// before the lease is given back ([leave-drained]).
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	var group sync.WaitGroup
	defer group.Wait()
	defer stop()
	if h, ok := i.fleet.(Notifier); ok {
		group.Go(func() { i.listen(work, h) })
	}
	for range i.set.Workers {
		group.Go(func() { i.background(work) })
	}
	group.Go(func() { i.journalPending(work) })
	group.Go(func() { i.sampleClocks(work) })
	group.Go(func() { i.observe(work) })
	// Renewal ends with ctx; leave keeps the lease alive while operations drain.
	i.maintain(ctx)
	return i.leave(work)
}

// maintain renews until ctx ends.
func (i *Instance) maintain(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	failures := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-i.wake:
			// While the state is down, operations that ask must not hammer it.
			if failures > 0 || !i.due() {
				continue
			}
		}
		next, err := i.turn(ctx)
		if err != nil && ctx.Err() == nil {
			failures++
			// Retried faster than renewals are due: a lease has time for some failures, and an
			// instance that lapses loses reads from the target.
			next = min(100*time.Millisecond<<min(failures-1, 5), next)
			if failures == 1 {
				i.log.Warn("the migration's state can't be reached; going on with the present route", "route", i.Route().String(), "epoch", i.Route().Epoch, "error", err, hint.Attr(err))
			}
		} else if err == nil && failures > 0 {
			failures = 0
			i.log.Info("the migration's state is reached again", "route", i.Route().String(), "epoch", i.Route().Epoch)
		}
		// Spread by a tenth, so that a fleet that started together does not renew together.
		timer.Reset(next - next/10 + rand.N(next/5+1))
	}
}

// due tells whether something must be told or asked before the next renewal.
func (i *Instance) due() bool {
	h := i.pinned.Load()
	if i.asked.Load() || i.notified.Load() > h.route.Epoch || h.lease.over() {
		return true
	}
	reached := i.reached()
	i.mu.Lock()
	defer i.mu.Unlock()
	return reached != i.acknowledged
}

// turn renews the lease, or takes a new one, until there is nothing more to
// acknowledge. It returns the time to the next renewal, or of the longest pause
// after a failure.
func (i *Instance) turn(ctx context.Context) (time.Duration, error) {
	for {
		i.asked.Store(false)
		// Read before the request: a hint that arrives during it is newer than the response, and
		// asks again.
		hinted := i.notified.Load()
		l := i.pinned.Load().lease
		var g Grant
		err := ErrLeaseLost
		if l.holds() {
			g, err = i.renew(ctx, l)
		}
		if errors.Is(err, ErrLeaseLost) {
			// [lapsed-reads]: ended before the request for a new lease: an instance that the state
			// no longer counts must not read the target while it waits for the response.
			l.end() // from here on every operation under it is lapsed
			g, err = i.rejoin(ctx)
		}
		if err != nil {
			i.count.renewalFailures.Add(1)
			return 3 * time.Second, err
		}
		i.notified.CompareAndSwap(hinted, 0) // what it said is known now
		i.journal.reset()                    // the state answers
		reached := i.reached()
		i.mu.Lock()
		// Operations may have drained during the request: the fleet should not wait for the next
		// renewal to hear of it.
		more := reached != i.acknowledged
		i.mu.Unlock()
		if !more {
			i.askFault(ctx, g.Lease)
			return g.Renew, nil
		}
	}
}

// patience bounds one request to the state: it may take as long as the lease has.
func patience(l *lease) time.Duration { return max(l.remaining(), time.Second) }

// renew must only be called while the lease holds: its deadline then never covers
// a time in which the state may have given it up.
func (i *Instance) renew(ctx context.Context, l *lease) (Grant, error) {
	reached := i.reached()
	ctx, cancel := context.WithTimeout(ctx, min(patience(l), phases.RequestMost))
	defer cancel()
	// [lease-own-clock]: read before the request is sent, since the state begins to count while it
	// is on its way.
	sent := i.clock()
	// [lease-final]: a lease that has run out here is not extended, even if the state still holds
	// it: reads have been answered as lapsed, and a new lease begins with the present route.
	if int64(sent) >= l.deadline.Load() {
		return Grant{}, ErrLeaseLost
	}
	g, err := i.fleet.Renew(ctx, l.id, reached)
	if err != nil {
		return g, fmt.Errorf("renew the lease: %w", err)
	}
	if err := i.accept(&g); err != nil {
		return g, err // and the lease is left to run out
	}
	i.count.renewals.Add(1)
	i.mu.Lock()
	i.acknowledged = reached
	i.mu.Unlock()
	// The acknowledged epoch was sent before the lease is extended: until the next renewal the
	// state counts every route since that epoch as held ([held-routes]).
	l.extend(sent, g.TTL)
	h := i.pinned.Load()
	if g.Route != h.route || g.FenceEra != h.fenceEra || g.Reversible != h.reversible || g.ConfigHash != h.configHash {
		i.swap(newPinnedRoute(i, g, l))
		i.log.Info("new route", "route", g.Route.String(), "epoch", g.Route.Epoch, "before", h.route.String())
	}
	return g, nil
}

// rejoin takes a new lease in the place of the one that has run out. The operations
// under that are still the instance's: until they are over, it acknowledges no
// later epoch than theirs.
func (i *Instance) rejoin(ctx context.Context) (Grant, error) {
	ctx, cancel := context.WithTimeout(ctx, phases.RequestMost)
	defer cancel()
	i.mu.Lock()
	who := i.identity
	// [rejoin-epoch]: the new lease starts at the epoch that the former one had acknowledged, since
	// operations under older routes still run.
	who.Previous = i.previous
	i.mu.Unlock()
	// [lease-own-clock]: as in renew.
	sent := i.clock()
	g, err := i.fleet.Join(ctx, who)
	if err != nil {
		return g, fmt.Errorf("join anew: %w", err)
	}
	if err := i.accept(&g); err != nil {
		i.mu.Lock()
		i.previous = g.Lease // and it is left to run out: what is under way is under no lease
		i.mu.Unlock()
		return g, err
	}
	before := i.Route()
	i.enter(g, sent)
	i.count.rejoins.Add(1)
	i.log.Warn("the lease had run out; joined anew", "route", g.Route.String(), "epoch", g.Route.Epoch, "before", before.String())
	return g, nil
}

// accept refuses to go back in time: a state that has lost transactions must not
// take the instance to a route that others have left.
func (i *Instance) accept(g *Grant) error {
	err := acceptable(g)
	switch held := i.Route(); {
	case err != nil:
	// [epoch-grows]: the state has lost transactions. To follow it would lead back to a route that
	// the fleet has left, perhaps with reads from a store that lacks writes.
	case g.Route.Epoch < held.Epoch:
		// [loss-held]: until this is reported, the state takes routes for possible that must not
		// run beside this one.
		err = hint.Errorf(hint.Hint{Do: hint.Doctor}, "the state says epoch %d, this instance has been at %d: the state has lost transactions", g.Route.Epoch, held.Epoch)
		i.reportStateLoss(held)
	case g.Route.Epoch == held.Epoch && g.Route != held:
		// [epoch-route]: it lost transactions and went on. To take this route for the one held would be
		// to acknowledge it while operations of the other are under way.
		err = hint.Errorf(hint.Hint{Do: hint.Rollback, Text: "which begins another epoch"},
			"the state says that epoch %d is %s, this instance has it as %s: the state has lost transactions", g.Route.Epoch, g.Route, held)
	}
	if err != nil {
		i.count.refusedRoutes.Add(1)
		i.log.Error("refused a route", "route", g.Route.String(), "epoch", g.Route.Epoch, "error", err, hint.Attr(err))
	}
	return err
}

// reportStateLoss tells the state what it has forgotten. A failure is tried again with the
// next renewal.
func (i *Instance) reportStateLoss(held phases.Route) {
	w, ok := i.fleet.(StateLossReporter)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), phases.RequestMost)
	defer cancel()
	if err := w.ReportStateLoss(ctx, held); err != nil {
		i.count.stateLossReportFailures.Add(1)
		i.log.Warn("the state could not be told what it has lost", "error", err, hint.Attr(err))
	}
}

func (i *Instance) listen(ctx context.Context, h Notifier) {
	for ctx.Err() == nil {
		err := h.Notifications(ctx, func(epoch int64) {
			for {
				known := i.notified.Load()
				// Only upwards: a hint that arrives late must not hide a newer one. A hint moves
				// nothing, it only makes Run ask.
				if epoch <= known || i.notified.CompareAndSwap(known, epoch) {
					break
				}
			}
			i.wakeUp()
		})
		if ctx.Err() != nil {
			return
		}
		i.count.notificationFailures.Add(1)
		i.log.Debug("no hints of new routes; renewals tell", "error", err)
		// Without hints a new epoch arrives with the next renewal: late, but in time for every
		// lease.
		pause(ctx, time.Second+rand.N(time.Second))
	}
}

// sampleClocks keeps a lower bound of each target's clock at hand, where writes need one.
func (i *Instance) sampleClocks(ctx context.Context) {
	ticker := time.NewTicker(5 * time.Second)
	defer ticker.Stop()
	for {
		h := i.pinned.Load()
		if h.writes != phases.WritesLegacy {
			i.mu.Lock()
			clocks := i.clocks
			i.mu.Unlock()
			for _, c := range clocks {
				_ = c.fetch(ctx, i.set.Writing.Deadline, true) // the writes that need it will say so
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-h.over.Done():
		case <-ticker.C:
		}
	}
}

// pause waits; it tells whether the whole time has passed.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
