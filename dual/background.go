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
		lost, _ := w.loseAll(changes, clockErr)
		return w.journalLater(p, lost, clockErr)
	}
	for n, c := range changes {
		b := &backgroundWrite[K, V]{w: w, pin: p.outlive(true), change: c, notAfter: notAfter}
		select {
		case w.i.queue <- b:
		default:
			b.pin.release()
			w.i.count.overflowed.Add(uint64(len(changes) - n))
			lost, _ := w.loseAll(changes[n:], errQueueFull)
			return w.journalLater(p, lost, errQueueFull)
		}
	}
	return nil
}

// journalLater hands changes to Run, which journals them. When even that has no
// room the write can't be acknowledged.
func (w *Writer[K, V]) journalLater(p *pin, lost []Lost, cause error) error {
	p.h.saw.count(writeBehind, classify(context.Background(), cause), uint64(len(lost)))
	w.i.count.targetFailures.Add(uint64(len(lost)))
	if w.i.pending.add(p, lost, true) {
		return nil
	}
	w.i.abandon(lost, true, "too much waits for the journal")
	return w.i.fail(lost, cause)
}

func (b *backgroundWrite[K, V]) do(ctx context.Context) {
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
	if !i.pending.add(&b.pin, lost, true) {
		i.abandon(lost, true, "too much waits for the journal")
	}
}

// background makes queued writes until ctx ends.
func (i *Instance) background(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case j := <-i.queue:
			j.do(ctx)
		}
	}
}
