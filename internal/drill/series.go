package drill

import (
	"slices"
	"sync"
	"time"
)

// series counts a load's operations by the second.
type series struct {
	mu     sync.Mutex
	began  time.Time
	totals Totals
	all    []second
}

type second struct {
	Second
	reads, writes []time.Duration
}

// maxTimed bounds the durations that are recorded of one second.
const maxTimed = 2000

func (s *series) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.began = time.Now()
}

// add counts one operation that has ended now.
func (s *series) add(write bool, took time.Duration, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := int(time.Since(s.began) / time.Second)
	for len(s.all) <= at {
		s.all = append(s.all, second{Second: Second{At: s.began.Add(time.Duration(len(s.all)) * time.Second)}})
	}
	one := &s.all[at]
	timed := &one.reads
	switch {
	case !ok:
		one.Failed++
		s.totals.Failed++
	case write:
		one.Writes++
		s.totals.Writes++
		timed = &one.writes
	default:
		one.Reads++
		s.totals.Reads++
	}
	if ok && len(*timed) < maxTimed {
		*timed = append(*timed, took)
	}
}

func (s *series) sum() Totals {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.totals
}

// Series implements Recorder.
func (s *series) Series() []Second {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Second, len(s.all))
	for i, one := range s.all {
		list[i] = one.Second
		list[i].ReadP99, list[i].WriteP99 = p99(one.reads), p99(one.writes)
	}
	return list
}

// p99 is in milliseconds; 0 of nothing.
func p99(all []time.Duration) float64 {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return float64(sorted[(len(sorted)*99-1)/100]) / float64(time.Millisecond)
}
