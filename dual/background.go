package dual

import (
	"context"
	"time"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/internal/failpoint"
)

// backgroundWrite is one queued change for the target. It pins its route until the
// target or the journal has the change.
type backgroundWrite[K comparable, V any] struct {
	w        *Writer[K, V]
	ctx      context.Context // the write's values, without its end; nil without OnOperation
	pin      pin
	change   Change[K, V]
	notAfter time.Time
}

// later queues the changes of a write that is acknowledged as soon as legacy has it.
// Changes that find no room in the queue, or no time of the target's clock, go to the journal.
func (w *Writer[K, V]) later(ctx context.Context, p *pin, changes []Change[K, V], notAfter time.Time, clockErr error) error {
	if clockErr != nil {
		entries, _ := w.journalEntries(changes, clockErr)
		return w.journalLater(p, entries, clockErr)
	}
	for n, c := range changes {
		// [drain-queue]: the queued change pins the route itself, since the caller's pin ends with
		// the acknowledgment. [not-after-fixed]: it keeps the time of its write, however long it
		// waits here.
		b := &backgroundWrite[K, V]{w: w, change: c, notAfter: notAfter}
		if p.h.onOperation == nil {
			b.pin = p.extend()
		} else {
			b.pin, b.ctx = p.outlive(context.WithoutCancel(ctx), telemetry.Write, telemetry.Shadow)
		}
		if !w.i.queue.add(b, p.h.writing.Queue) {
			b.pin.resolve(telemetry.Dropped, errQueueFull)
			b.pin.release()
			// [overflow-journaled]: the write is acknowledged, so a change that is dropped here
			// would be missing in the target, and no repair would know of it.
			w.i.count.overflowed.Add(uint64(len(changes) - n))
			entries, _ := w.journalEntries(changes[n:], errQueueFull)
			return w.journalLater(p, entries, errQueueFull)
		}
	}
	return nil
}

// journalLater queues changes for Run to journal. If that queue is full too, the write
// journals them itself. If it can't, it can't be acknowledged.
func (w *Writer[K, V]) journalLater(p *pin, entries []JournalEntry, cause error) error {
	p.h.observed.count(writeBehind, classify(context.Background(), cause), uint64(len(entries)))
	w.i.count.targetFailures.Add(uint64(len(entries)))
	if w.i.pending.add(p, entries, true) || w.i.journalNow(entries) {
		return nil
	}
	// [no-journal-fails]: the change can be neither queued nor journaled, so the write returns an
	// error, and the instance will not leave cleanly.
	w.i.abandon(entries, true, "the journal's queue is full")
	return w.i.fail(entries, cause)
}

// journalNow journals changes of acknowledged writes at once. It reports whether no instance may
// read the target: else the queue's own rollback is needed.
func (i *Instance) journalNow(entries []JournalEntry) bool {
	result, err := i.record(context.Background(), entries)
	if err != nil || result.Fenced || result.TargetRead {
		return false
	}
	i.count.journaled.Add(uint64(len(entries)))
	return true
}

func (b *backgroundWrite[K, V]) do(ctx context.Context) {
	// [drain-queue]: released only when the target has the change, the journal's queue has pinned
	// the route in its place, or the instance can no longer leave cleanly.
	defer b.pin.release()
	failpoint.Here("dual.queue.taken")
	changes := []Change[K, V]{b.change}
	within := ctx
	if b.ctx != nil {
		within = b.pin.attempt(b.ctx, writeBehind)
	}
	began := watch()
	entries, cause := b.w.applyAll(within, b.pin.h, changes, b.notAfter, nil)
	b.pin.beside(ctx, writeBehind, cause, began)
	b.pin.resolve(outcomes[classify(ctx, cause)], cause)
	failpoint.Here("dual.queue.applied")
	if len(entries) == 0 {
		return
	}
	i := b.w.i
	i.count.targetFailures.Add(uint64(len(entries)))
	// [overflow-journaled], [unclean-mark]: the write was acknowledged long ago. Its change is
	// journaled, or the instance leaves uncleanly and marks the migration.
	if !i.pending.add(&b.pin, entries, true) && !i.journalNow(entries) {
		i.abandon(entries, true, "the journal's queue is full")
	}
}

// background makes queued writes until ctx ends.
func (i *Instance) background(ctx context.Context) {
	// The context ends after leave, which has waited for the queue: what is left in it then
	// belongs to a lease that is left to expire ([unclean-mark]).
	for j := i.queue.take(ctx); j != nil; j = i.queue.take(ctx) {
		j.do(ctx)
	}
}
