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
// soon as every operation under an older one has ended, and makes the background
// writes. It blocks until ctx ends, then refuses new operations, waits for those
// in flight and leaves the fleet. It returns an error if it could not leave cleanly.
func (i *Instance) Run(ctx context.Context) error {
	if !i.running.CompareAndSwap(false, true) {
		return errors.New("dual: Run was called before; Join makes another instance")
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
	group.Go(func() { i.watchMarks(work) })
	group.Go(func() { i.observe(work) })
	group.Go(func() { i.checkWrites(work) })
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
			// While the state is down, operations that request the route must not overload it.
			if failures > 0 || !i.due() {
				continue
			}
		}
		next, err := i.synchronize(ctx)
		if err != nil && ctx.Err() == nil {
			failures++
			// Retried faster than renewals are due: a lease has time for some failures, and an
			// instance that lapses loses reads from the target.
			next = min(100*time.Millisecond<<min(failures-1, 5), next)
			if failures == 1 {
				i.log.Warn("state database unreachable; keeping current route", "route", i.Route().String(), "epoch", i.Route().Epoch, "error", err, hint.Attr(err))
			}
		} else if err == nil && failures > 0 {
			failures = 0
			i.log.Info("state database reachable again", "route", i.Route().String(), "epoch", i.Route().Epoch)
		}
		// Spread by a tenth, so that a fleet that started together does not renew together.
		timer.Reset(next - next/10 + rand.N(next/5+1))
	}
}

// due reports whether the state must be asked before the next renewal is due.
func (i *Instance) due() bool {
	h := i.pinned.Load()
	if i.asked.Load() || i.notified.Load() > h.route.Epoch || h.lease.knownExpired() {
		return true
	}
	reached := i.reached()
	i.mu.Lock()
	defer i.mu.Unlock()
	return reached != i.acknowledged
}

// synchronize renews the lease, or takes a new one, until nothing more is to be
// acknowledged. It returns the time to the next renewal, or the longest pause after
// a failure.
func (i *Instance) synchronize(ctx context.Context) (time.Duration, error) {
	for {
		i.asked.Store(false)
		// Read before the request: a notification that arrives during it is newer than the response,
		// and causes another request.
		notified := i.notified.Load()
		l := i.pinned.Load().lease
		var g Grant
		err := ErrLeaseLost
		if l.valid() {
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
		i.notified.CompareAndSwap(notified, 0) // the response is as new
		i.journal.reset()                      // the state answers
		reached := i.reached()
		i.mu.Lock()
		// Operations may have drained during the request: the fleet should not wait until the next
		// renewal for the acknowledgment.
		more := reached != i.acknowledged
		i.mu.Unlock()
		if !more {
			i.askFault(ctx, g.Lease)
			return g.Renew, nil
		}
	}
}

// patience bounds one request to the state: it may take as long as the lease lasts.
func patience(l *lease) time.Duration { return max(l.remaining(), time.Second) }

// renew must only be called while the lease is valid: its deadline then never covers a
// time in which the state may have counted it as expired.
func (i *Instance) renew(ctx context.Context, l *lease) (Grant, error) {
	reached := i.reached()
	ctx, cancel := context.WithTimeout(ctx, min(patience(l), phases.RequestMost))
	defer cancel()
	// [lease-own-clock]: read before the request is sent, since the state begins to count before
	// the response arrives.
	sent := i.clock()
	// [lease-final]: a lease that has expired here is not extended, even if it is still valid in the
	// state: reads have been answered as lapsed, and a new lease begins with the present route.
	if int64(sent) >= l.deadline.Load() {
		return Grant{}, ErrLeaseLost
	}
	g, err := i.fleet.Renew(ctx, l.id, reached)
	if err != nil {
		return g, fmt.Errorf("renew the lease: %w", err)
	}
	if err := i.accept(&g); err != nil {
		return g, err // the lease is left to expire
	}
	i.count.renewals.Add(1)
	i.mu.Lock()
	i.acknowledged = reached
	i.mu.Unlock()
	// The acknowledged epoch was sent before the lease is extended: until the next renewal the
	// state counts every route since that epoch as live ([held-routes]).
	l.extend(sent, g.TTL)
	i.marks.expect(&g)
	i.noteOther(&g)
	w := i.follows(ctx, &g)
	h := i.pinned.Load()
	if g.Route != h.route || g.FenceEra != h.fenceEra || g.Reversible != h.reversible || g.ConfigHash != h.configHash {
		i.swap(newPinnedRoute(i, g, l, w))
		i.log.Info("new route", "route", g.Route.String(), "epoch", g.Route.Epoch, "before", h.route.String())
	}
	return g, nil
}

// rejoin takes a new lease in the place of the expired one. The operations under the
// expired one are still the instance's: until they have ended, it acknowledges no later
// epoch than theirs.
func (i *Instance) rejoin(ctx context.Context) (Grant, error) {
	ctx, cancel := context.WithTimeout(ctx, phases.RequestMost)
	defer cancel()
	i.mu.Lock()
	identity := i.identity
	// [rejoin-epoch]: the new lease starts at the epoch that the former one had acknowledged, since
	// operations under older routes still run.
	identity.Previous = i.previous
	i.mu.Unlock()
	// [lease-own-clock]: as in renew.
	sent := i.clock()
	g, err := i.fleet.Join(ctx, identity)
	if err != nil {
		return g, fmt.Errorf("rejoin: %w", err)
	}
	if err := i.accept(&g); err != nil {
		i.mu.Lock()
		i.previous = g.Lease // left to expire: no operation is under it
		i.mu.Unlock()
		return g, err
	}
	before := i.Route()
	i.enter(g, sent, i.follows(ctx, &g))
	i.count.rejoins.Add(1)
	i.log.Warn("lease expired; rejoined", "route", g.Route.String(), "epoch", g.Route.Epoch, "before", before.String())
	return g, nil
}

// accept refuses a route of an earlier epoch: a state that has lost transactions must
// not take the instance to a route that other instances have left.
func (i *Instance) accept(g *Grant) error {
	err := acceptable(g)
	switch pinned := i.Route(); {
	case err != nil:
	// [epoch-grows]: the state has lost transactions. To follow it would lead back to a route that
	// the fleet has left, perhaps with reads from a store that lacks writes.
	case g.Route.Epoch < pinned.Epoch:
		// [loss-held]: until this is reported, the state permits routes that must not run beside
		// this one.
		err = hint.Errorf(hint.Hint{Do: hint.Doctor}, "the state is at epoch %d, this instance has been at %d: the state has lost transactions", g.Route.Epoch, pinned.Epoch)
		i.reportStateLoss(pinned)
	case g.Route.Epoch == pinned.Epoch && g.Route != pinned:
		// [epoch-route]: the state lost transactions and then moved. To follow it would acknowledge
		// this route while operations under the other one are in flight.
		err = hint.Errorf(hint.Hint{Do: hint.Rollback, Text: "which begins another epoch"},
			"epoch %d is %s in the state, and %s on this instance: the state has lost transactions", g.Route.Epoch, g.Route, pinned)
	}
	if err != nil {
		i.count.refusedRoutes.Add(1)
		i.log.Error("route refused", "route", g.Route.String(), "epoch", g.Route.Epoch, "error", err, hint.Attr(err))
	}
	return err
}

// reportStateLoss reports to the state that it has lost transactions. After a failure,
// the next renewal reports it again.
func (i *Instance) reportStateLoss(route phases.Route) {
	r, ok := i.fleet.(StateLossReporter)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), phases.RequestMost)
	defer cancel()
	if err := r.ReportStateLoss(ctx, route); err != nil {
		i.count.stateLossReportFailures.Add(1)
		i.log.Warn("state loss report failed", "error", err, hint.Attr(err))
	}
}

func (i *Instance) listen(ctx context.Context, h Notifier) {
	for ctx.Err() == nil {
		err := h.Notifications(ctx, func(epoch int64) {
			for {
				known := i.notified.Load()
				// Only upwards: a notification that arrives late must not hide a newer one. It changes
				// no route: it only makes Run ask for it.
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
		i.log.Debug("notifications of new epochs failed; waiting for renewals", "error", err)
		// Without notifications a new epoch arrives with the next renewal: late, but before any
		// lease expires.
		pause(ctx, time.Second+rand.N(time.Second))
	}
}

// sampleClocks keeps a lower bound of each target's clock while writes need one.
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
				_ = c.fetch(ctx, h.writing.Deadline, true) // the writes that need it report the failure
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

// pause waits for d. It reports whether the whole time has passed.
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
