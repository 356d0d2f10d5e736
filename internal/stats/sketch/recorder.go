package sketch

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Recorder is a Sketch that operations write to while they pass: lock-free, without
// allocation. The zero value is ready. It takes 4 KiB and must not be copied.
type Recorder struct {
	counts [buckets]atomic.Uint32
	// A counter that comes round to 0 hands 2^32 over to here: that is once in
	// four thousand million records, so a lock costs nobody anything.
	mu    sync.Mutex
	spilt *Sketch
}

// Record counts one duration. It may be called from any number of goroutines, also
// while another drains.
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

// Drain moves what was recorded into the sketch. Each record is moved exactly once,
// also if several drain; one that is made meanwhile is moved now or by a later Drain.
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
