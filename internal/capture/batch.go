package capture

import (
	"context"
	"sync"

	"github.com/stranglerfig/migrator/record"
)

// versioned is a change at its transaction's version.
type versioned struct {
	change
	version record.Version
}

// batch is what several transactions in a row have made of each key; a large one, or a TRUNCATE, is alone.
type batch struct {
	states map[record.Key]versioned
	size   int
	rows   int64 // that were changed
	alone  *transaction
	at     record.Version // of the last transaction
	after  Progress       // once the target has the batch
}

func (b *batch) empty() bool { return b.after.Resume == 0 }

// add puts a transaction behind the others.
func (b *batch) add(t *transaction, at record.Version, after Progress) {
	b.at, b.after, b.rows = at, after, b.rows+t.changes
	if t.heavy() {
		b.alone = t
		return
	}
	if b.states == nil {
		b.states = make(map[record.Key]versioned, len(t.states))
	}
	if t.single {
		b.state(t.key, t.state, at)
	}
	for key, c := range t.states {
		b.state(key, c, at)
	}
}

func (b *batch) state(key record.Key, c change, at record.Version) {
	earlier, there := b.states[key]
	c = c.after(earlier.change, !there)
	b.states[key] = versioned{c, at}
	b.size += c.size(key)
	if there {
		b.size -= earlier.size(key)
	}
}

// queue holds the batch that is being gathered while another one is applied: so many transactions share a
// flush as are committed meanwhile.
type queue struct {
	limit int // of a batch's size

	mu           sync.Mutex
	next         batch
	ready, space chan struct{}
}

func newQueue(limit int) *queue {
	return &queue{limit: limit, ready: make(chan struct{}, 1), space: make(chan struct{}, 1)}
}

// put waits while the batch is full.
func (q *queue) put(ctx context.Context, t *transaction, at record.Version, after Progress) error {
	for {
		q.mu.Lock()
		if q.next.empty() || q.next.alone == nil && !t.heavy() && q.next.size < q.limit {
			q.next.add(t, at, after)
			q.mu.Unlock()
			signal(q.ready)
			return nil
		}
		q.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-q.space:
		}
	}
}

// take waits for a batch.
func (q *queue) take(ctx context.Context) (batch, error) {
	for {
		q.mu.Lock()
		b := q.next
		q.next = batch{}
		q.mu.Unlock()
		if !b.empty() {
			signal(q.space)
			return b, nil
		}
		select {
		case <-ctx.Done():
			return b, ctx.Err()
		case <-q.ready:
		}
	}
}

// close removes what was not taken.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.next.alone != nil {
		q.next.alone.close()
	}
	q.next = batch{}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
