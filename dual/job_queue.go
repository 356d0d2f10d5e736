package dual

import (
	"context"
	"sync"
)

// jobQueue is the queue of background writes. Its bound may change while it is in use.
type jobQueue struct {
	mu    sync.Mutex
	jobs  []job
	first int           // of jobs; those before it have been taken
	more  chan struct{} // holds one element while jobs may wait
}

func (q *jobQueue) init() { q.more = make(chan struct{}, 1) }

// add returns false if the queue has bound jobs, or more.
func (q *jobQueue) add(j job, bound int) bool {
	q.mu.Lock()
	room := len(q.jobs)-q.first < bound
	if room {
		if q.first > 0 && len(q.jobs) == cap(q.jobs) {
			n := copy(q.jobs, q.jobs[q.first:])
			clear(q.jobs[n:])
			q.jobs, q.first = q.jobs[:n], 0
		}
		q.jobs = append(q.jobs, j)
	}
	q.mu.Unlock()
	if room {
		q.signal()
	}
	return room
}

func (q *jobQueue) signal() {
	select {
	case q.more <- struct{}{}:
	default:
	}
}

// take waits for a job, the oldest one. It returns nil when ctx has ended.
func (q *jobQueue) take(ctx context.Context) job {
	for ctx.Err() == nil {
		if j := q.next(); j != nil {
			return j
		}
		select {
		case <-ctx.Done():
		case <-q.more:
		}
	}
	return nil
}

func (q *jobQueue) next() job {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.first == len(q.jobs) {
		q.jobs, q.first = q.jobs[:0], 0
		return nil
	}
	j := q.jobs[q.first]
	q.jobs[q.first] = nil
	q.first++
	if q.first < len(q.jobs) {
		q.signal() // another worker may sleep: one element stands for any number of jobs
	}
	return j
}

func (q *jobQueue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.jobs) - q.first
}
