package dual

import (
	"context"
	"sync"
	"time"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/record"
)

// pending is the queue of changes that the target did not take and that are still to
// be journaled. Each pins its route, so no later epoch is acknowledged before it: it is
// journaled, or the instance leaves uncleanly.
type pending struct {
	mu      sync.Mutex
	entries map[pendingKey]*pendingEntry
	more    chan struct{}
}

type pendingKey struct {
	h   *pinnedRoute
	key record.Key
}

type pendingEntry struct {
	entry        JournalEntry
	pin          pin
	acknowledged bool // the write was acknowledged to the application
	changes      int  // failed changes of the key that are in the entry
}

const journalBatch = 500

func (q *pending) init() {
	q.entries, q.more = map[pendingKey]*pendingEntry{}, make(chan struct{}, 1)
}

func (q *pending) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.entries)
}

// add queues the changes, under pins of their own; p must be pinned. It returns false if
// there is no room for some of them.
func (q *pending) add(p *pin, entries []JournalEntry, acknowledged bool) bool {
	room := true
	q.mu.Lock()
	for _, l := range entries {
		at := pendingKey{p.h, l.Key}
		if e := q.entries[at]; e != nil {
			// [journal-version]: two failed changes of one key are one entry, at the higher version.
			e.entry.Version = e.entry.Version.Max(l.Version)
			e.acknowledged = e.acknowledged || acknowledged
			e.changes++
			continue
		}
		if len(q.entries) >= max(10*p.h.writing.Queue, 1000) {
			room = false
			continue
		}
		// [drain-writes], [drain-queue], [leave-drained]: the entry's own pin keeps the epoch
		// unacknowledged and the instance in the fleet until the key is journaled.
		q.entries[at] = &pendingEntry{entry: l, pin: p.extend(), acknowledged: acknowledged, changes: 1}
	}
	q.mu.Unlock()
	select {
	case q.more <- struct{}{}:
	default:
	}
	return room
}

// pendingBatch is entries that are journaled together.
type pendingBatch struct {
	at           []pendingKey
	entries      []JournalEntry
	changes      []int // of each entry, when the batch was taken
	acknowledged bool  // a write of one of them was
}

func (q *pending) batch() (b pendingBatch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for k, e := range q.entries {
		b.at, b.entries, b.changes = append(b.at, k), append(b.entries, e.entry), append(b.changes, e.changes)
		b.acknowledged = b.acknowledged || e.acknowledged
		if len(b.at) == journalBatch {
			break
		}
	}
	return b
}

// remove removes the batch's entries, except those that have changed since.
func (q *pending) remove(b pendingBatch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for n, k := range b.at {
		// [journal-changes]: an entry that took another change while it was journaled stays, or no
		// repair would know of that change. Its count decides, not its version: a change whose
		// outcome is unknown has none.
		if e := q.entries[k]; e.changes == b.changes[n] {
			delete(q.entries, k)
			e.pin.release()
		}
	}
}

// journalPending journals until ctx ends, however long the state is unreachable.
func (i *Instance) journalPending(ctx context.Context) {
	failures := 0
	for {
		b := i.pending.batch()
		if len(b.at) == 0 {
			select {
			case <-ctx.Done():
				return
			case <-i.pending.more:
			}
			continue
		}
		bounded, cancel := context.WithTimeout(ctx, 5*time.Second)
		// Retried until the state answers, with growing pauses: to give up would lose changes that
		// were acknowledged. Journaling twice is harmless: the count of changes only grows.
		result, err := i.fleet.Journal(bounded, b.entries)
		cancel()
		if err != nil {
			if failures == 0 {
				i.log.Warn("journal unreachable; keys queued", "changes", i.pending.len(), "error", err, hint.Attr(err))
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
		if result.Fenced {
			// [unclean-mark]: the journal is closed behind a fence.
			i.abandon(b.entries, b.acknowledged, "authority has moved and the journal is closed")
		} else {
			i.count.journaled.Add(uint64(len(b.entries)))
			// [both-before-ack]: the write was acknowledged before its failure was known, and the target
			// is read by now: roll back.
			if result.TargetRead && b.acknowledged && i.writing().OnTargetFailure == RollBack {
				i.rollbackOnLateFailure(ctx, b.at[0].h.route.Epoch, b.entries)
			}
		}
		i.pending.remove(b)
	}
}

// rollbackOnLateFailure rolls back for writes that were acknowledged before their failure was known.
func (i *Instance) rollbackOnLateFailure(ctx context.Context, epoch int64, entries []JournalEntry) {
	r, ok := i.fleet.(EmergencyRollback)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := r.RollBack(ctx, epoch, entries[0].Reason); err != nil {
		i.log.Error("rollback failed", "changes", len(entries), "error", err, hint.Attr(err))
	}
	i.ask()
}

// abandon gives up on changes, and logs them. If their writes were acknowledged, the
// instance can no longer leave cleanly.
func (i *Instance) abandon(entries []JournalEntry, acknowledged bool, why string) {
	i.count.abandoned.Add(uint64(len(entries)))
	if acknowledged {
		i.mu.Lock()
		// [unclean-mark]: from here on the instance can't leave cleanly: its lease expires, and the
		// migration needs a full reconcile.
		i.unclean = true
		i.mu.Unlock()
	}
	for _, l := range entries[:min(len(entries), 10)] {
		i.log.Error("change reached neither target nor journal", "key", string(l.Key), "version", l.Version.String(), "why", why, "reason", l.Reason, "changes", len(entries))
	}
}
