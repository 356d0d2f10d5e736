package dual

import (
	"context"
	"time"

	"github.com/stranglerfig/migrator/internal/failpoint"
)

// backgroundWrite is one change on its way to the target. It holds its route
// until the target or the journal has it.
type backgroundWrite[K comparable, V any] struct {
	w        *Writer[K, V]
	pin      pin
	change   Change[K, V]
	notAfter time.Time
}

// later queues the changes of a write that is acknowledged as soon as legacy has
// it. What finds no room, or no time of the target's to carry, goes to the journal.
func (w *Writer[K, V]) later(p *pin, changes []Change[K, V], notAfter time.Time, clockErr error) error {
	if clockErr != nil {
		lost, _ := w.journalEntries(changes, clockErr)
		return w.journalLater(p, lost, clockErr)
	}
	for n, c := range changes {
		// [drain-queue]: the queued change pins the route itself, since the caller's pin ends with
		// the acknowledgment. [not-after-fixed]: it keeps the time of its write, however long it
		// waits here.
		b := &backgroundWrite[K, V]{w: w, pin: p.outlive(true), change: c, notAfter: notAfter}
		select {
		case w.i.queue <- b:
		default:
			b.pin.release()
			// [overflow-journaled]: the write is acknowledged, so a change that is dropped here
			// would be missing in the target, and no repair would know of it.
			w.i.count.overflowed.Add(uint64(len(changes) - n))
			lost, _ := w.journalEntries(changes[n:], errQueueFull)
			return w.journalLater(p, lost, errQueueFull)
		}
	}
	return nil
}

// journalLater hands changes to Run, which journals them. When even that has no
// room the write can't be acknowledged.
func (w *Writer[K, V]) journalLater(p *pin, lost []JournalEntry, cause error) error {
	p.h.saw.count(writeBehind, classify(context.Background(), cause), uint64(len(lost)))
	w.i.count.targetFailures.Add(uint64(len(lost)))
	if w.i.pending.add(p, lost, true) {
		return nil
	}
	// [no-journal-fails]: the change can be neither queued nor journaled, so the write returns an
	// error, and the instance will not leave cleanly.
	w.i.abandon(lost, true, "too much waits for the journal")
	return w.i.fail(lost, cause)
}

func (b *backgroundWrite[K, V]) do(ctx context.Context) {
	// [drain-queue]: released only when the target has the change, the journal's queue has pinned
	// the route in its place, or the instance can no longer leave cleanly.
	defer b.pin.release()
	failpoint.Here("dual.queue.taken")
	changes := []Change[K, V]{b.change}
	began := watch()
	lost, cause := b.w.applyAll(ctx, b.pin.h, changes, b.notAfter, nil)
	b.pin.h.saw.beside(ctx, writeBehind, cause, began)
	failpoint.Here("dual.queue.applied")
	if len(lost) == 0 {
		return
	}
	i := b.w.i
	i.count.targetFailures.Add(uint64(len(lost)))
	// [overflow-journaled], [unclean-mark]: the write was acknowledged long ago. Its change is
	// journaled, or the instance leaves uncleanly and marks the migration.
	if !i.pending.add(&b.pin, lost, true) {
		i.abandon(lost, true, "too much waits for the journal")
	}
}

// background makes queued writes until ctx ends.
func (i *Instance) background(ctx context.Context) {
	for {
		select {
		// The context ends after leave, which has waited for the queue: what is left in it then
		// belongs to a lease that is left to run out ([unclean-mark]).
		case <-ctx.Done():
			return
		case j := <-i.queue:
			j.do(ctx)
		}
	}
}
