package dual

import (
	"context"
	"sync"
	"time"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/record"
)

// pending holds changes that the target did not take and that are still to be
// journalled. Each holds its route, so no epoch is acknowledged over it: it is
// journalled, or the instance leaves uncleanly.
type pending struct {
	mu      sync.Mutex
	entries map[pendingKey]*pendingEntry
	bound   int
	more    chan struct{}
}

type pendingKey struct {
	h   *pinnedRoute
	key record.Key
}

type pendingEntry struct {
	entry        JournalEntry
	pin          pin
	acknowledged bool // the application was told that all is well
}

const journalBatch = 500

func (q *pending) init(queue int) {
	q.entries, q.bound, q.more = map[pendingKey]*pendingEntry{}, max(10*queue, 1000), make(chan struct{}, 1)
}

func (q *pending) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.entries)
}

// add takes the changes over, under pins of their own; p must be held. False: there is no room
// for some of them.
func (q *pending) add(p *pin, lost []JournalEntry, acknowledged bool) bool {
	room := true
	q.mu.Lock()
	for _, l := range lost {
		at := pendingKey{p.h, l.Key}
		if e := q.entries[at]; e != nil {
			// [journal-version]: two losses of one key are one entry, at the higher version.
			e.entry.Version = e.entry.Version.Max(l.Version)
			e.acknowledged = e.acknowledged || acknowledged
			continue
		}
		if len(q.entries) >= q.bound {
			room = false
			continue
		}
		// [drain-writes], [drain-queue], [leave-drained]: the entry's own pin keeps the epoch
		// unacknowledged and the instance in the fleet until the key is journaled.
		q.entries[at] = &pendingEntry{entry: l, pin: p.share(), acknowledged: acknowledged}
	}
	q.mu.Unlock()
	select {
	case q.more <- struct{}{}:
	default:
	}
	return room
}

func (q *pending) batch() (at []pendingKey, lost []JournalEntry, acknowledged bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for k, e := range q.entries {
		at, lost = append(at, k), append(lost, e.entry)
		acknowledged = acknowledged || e.acknowledged
		if len(at) == journalBatch {
			break
		}
	}
	return at, lost, acknowledged
}

// settled forgets the entries, but for those that have changed again since.
func (q *pending) settled(at []pendingKey, lost []JournalEntry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for n, k := range at {
		// [journal-changes]: an entry that took a newer version while it was journaled stays, or no
		// repair would know of that version. Losses without a version can't be told apart this way.
		if e := q.entries[k]; e.entry.Version == lost[n].Version {
			delete(q.entries, k)
			e.pin.release()
		}
	}
}

// journalPending journals until ctx ends, however long the state is away.
func (i *Instance) journalPending(ctx context.Context) {
	failures := 0
	for {
		at, lost, acknowledged := i.pending.batch()
		if len(at) == 0 {
			select {
			case <-ctx.Done():
				return
			case <-i.pending.more:
			}
			continue
		}
		bounded, cancel := context.WithTimeout(ctx, 5*time.Second)
		// Tried until the state answers, with growing pauses: to give up would lose changes that
		// were acknowledged. Journaling twice is harmless: the count of changes only grows.
		ruling, err := i.fleet.Journal(bounded, lost)
		cancel()
		if err != nil {
			if failures == 0 {
				i.log.Warn("changes that the target lacks can't be journalled yet", "changes", i.pending.len(), "error", err, hint.Attr(err))
			}
			failures++
			if !pause(ctx, min(50*time.Millisecond<<min(failures, 6), 2*time.Second)) {
				return
			}
			continue
		}
		failpoint.Here("dual.pending.journalled")
		failures = 0
		i.journal.reset()
		if ruling.Fenced {
			// [unclean-mark]: the journal is closed behind a fence.
			i.abandon(lost, acknowledged, "authority has moved and the journal is closed")
		} else {
			i.count.journalled.Add(uint64(len(lost)))
			// [both-before-ack]: the write was acknowledged before its loss was known, and the
			// target is read by now: reads go back to legacy.
			if ruling.TargetRead && acknowledged && i.set.Writing.OnTargetFailure == RollBack {
				i.rollbackOnLateFailure(ctx, at[0].h.route.Epoch, lost)
			}
		}
		i.pending.settled(at, lost)
	}
}

// rollbackOnLateFailure takes reads back for writes that were acknowledged before their loss was known.
func (i *Instance) rollbackOnLateFailure(ctx context.Context, epoch int64, lost []JournalEntry) {
	r, ok := i.fleet.(EmergencyRollback)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := r.RollBack(ctx, epoch, lost[0].Reason); err != nil {
		i.log.Error("reads could not be taken back to legacy", "changes", len(lost), "error", err, hint.Attr(err))
	}
	i.ask()
}

// abandon gives up on changes, aloud. If their writes were acknowledged, the
// instance no longer leaves cleanly.
func (i *Instance) abandon(lost []JournalEntry, acknowledged bool, why string) {
	i.count.abandoned.Add(uint64(len(lost)))
	if acknowledged {
		i.mu.Lock()
		// [unclean-mark]: from here on the instance can't leave cleanly: its lease runs out, and
		// the migration needs a full reconcile.
		i.unclean = true
		i.mu.Unlock()
	}
	for _, l := range lost[:min(len(lost), 10)] {
		i.log.Error("a change in legacy reached neither the target nor the journal", "key", string(l.Key), "version", l.Version.String(), "why", why, "reason", l.Reason, "changes", len(lost))
	}
}
