package sketch

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Recorder is a Sketch for concurrent writers: lock-free, without allocation. The zero value
// is ready. It takes 4 KiB and must not be copied.
type Recorder struct {
	counts [buckets]atomic.Uint32
	// A counter that wraps around to 0 moves 2^32 to here: once in four thousand million
	// records, so the lock costs nothing.
	mu    sync.Mutex
	spilt *Sketch
}

// Record counts one duration. It may be called from any number of goroutines, also during a
// Drain.
func (r *Recorder) Record(d time.Duration) {
	if i := bucket(d); r.counts[i].Add(1) == 0 {
		r.spill(i)
	}
}

func (r *Recorder) spill(bucket int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.spilt == nil {
		r.spilt = new(Sketch)
	}
	r.spilt.add(bucket, math.MaxUint32+1)
}

// Drain moves the recorded counts into the sketch. Each record is moved exactly once, also
// with several drains at a time; a concurrent record is moved by this Drain or a later one.
func (r *Recorder) Drain(into *Sketch) {
	for i := range r.counts {
		if c := &r.counts[i]; c.Load() != 0 {
			into.add(i, uint64(c.Swap(0)))
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.spilt != nil {
		into.Merge(r.spilt)
		r.spilt = nil
	}
}
