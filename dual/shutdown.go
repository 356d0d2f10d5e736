package dual

import (
	"context"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/humanize"
)

// leave refuses new operations, waits for those in flight, and ends the lease. If they do
// not drain in time, the instance leaves uncleanly: it does not end the lease, which lapses
// in the state and so marks that writes may be missing.
func (i *Instance) leave(ctx context.Context) error {
	bound := time.NewTimer(i.set.LeaveWithin)
	defer bound.Stop()
	// Closed first, then counted: an operation that begins in between finds the closed route and is
	// refused.
	last := i.close()
	renew := time.NewTicker(time.Second)
	defer renew.Stop()
	// [leave-drained]: reads, writes, queued writes and changes that wait for the journal all pin a
	// route. The lease is renewed meanwhile.
	for left := i.inFlight(); left > 0; left = i.inFlight() {
		select {
		case <-i.wake:
		case <-renew.C:
			i.prolong(ctx, last)
		// [unclean-mark]: the lease is not ended. It lapses in the state, and that blocks advances
		// until an eviction or a rejoin marks the migration.
		case <-bound.C:
			last.end()
			return fmt.Errorf("left uncleanly: after %s in flight: %s (%s queued, %s to be journaled); the migration needs a full reconcile before cutover",
				i.set.LeaveWithin, humanize.Counted(left, "operation"), humanize.Counted(i.queue.len(), "background write"), humanize.Counted(i.pending.len(), "key"))
		}
	}
	i.report(ctx)
	i.mu.Lock()
	unclean := i.unclean
	i.mu.Unlock()
	// [unclean-mark]: everything has drained, but a change was abandoned: to leave would declare it
	// delivered.
	if unclean {
		last.end()
		return fmt.Errorf("left uncleanly: %s reached neither the target nor the journal; the migration needs a full reconcile before cutover", humanize.Counted(i.count.abandoned.Load(), "change"))
	}
	last.end()
	failpoint.Here("dual.leave.drained")
	ctx, cancel := context.WithTimeout(ctx, min(i.set.LeaveWithin, 5*time.Second))
	defer cancel()
	// [leave-drained]: only from here. Leave clears the mark of a possible loss, which only a
	// drained instance may.
	if err := i.fleet.Leave(ctx, last.id); err != nil {
		return fmt.Errorf("left uncleanly, with nothing in flight: %w", err)
	}
	return nil
}

// close replaces the present route by one that refuses every operation.
func (i *Instance) close() *lease {
	h := i.pinned.Load()
	end := &pinnedRoute{
		route: h.route, reads: readsNowhere, writes: writesNowhere, lease: h.lease, writing: h.writing,
		instance: i, mask: h.mask, shards: make([]shard, i.shards),
	}
	end.over, end.cancel = context.WithCancel(context.Background())
	i.swap(end)
	return h.lease
}

// prolong renews the lease while the instance drains. The route no longer matters.
func (i *Instance) prolong(ctx context.Context, l *lease) {
	if !l.valid() {
		return
	}
	reached := i.reached()
	ctx, cancel := context.WithTimeout(ctx, min(patience(l), time.Second))
	defer cancel()
	// [lease-own-clock]: read before the request is sent.
	sent := i.clock()
	// [epoch-grows]: a state that is behind this instance does not extend its lease.
	if g, err := i.fleet.Renew(ctx, l.id, reached); err == nil && acceptable(&g) == nil && g.Route.Epoch >= i.Route().Epoch {
		l.extend(sent, g.TTL)
	}
}

// inFlight counts the operations in flight on replaced routes.
func (i *Instance) inFlight() uint64 {
	i.reached()
	i.mu.Lock()
	defer i.mu.Unlock()
	n := uint64(0)
	for _, h := range i.retired {
		n += h.inFlight()
	}
	if len(i.retired) > 0 {
		// Not 0 before reached has retired the route: only then has the instance left every epoch.
		return max(n, 1) // the last operation has just ended
	}
	return 0
}
