package load

import (
	"math"
	"sync/atomic"
	"time"
)

const (
	bucketsPerDoubling = 8 // so a quantile is at most 9 % too high
	bucketCount        = 28 * bucketsPerDoubling
)

// histogram counts durations from a microsecond to four minutes. The zero value
// is ready; it is safe for concurrent use.
type histogram struct {
	buckets [bucketCount]atomic.Uint64
}

func (h *histogram) add(d time.Duration) {
	at := int(math.Ceil(math.Log2(float64(max(d, time.Microsecond))/float64(time.Microsecond)) * bucketsPerDoubling))
	h.buckets[min(at, bucketCount-1)].Add(1)
}

// counts is a histogram at one moment.
type counts [bucketCount]uint64

func (h *histogram) counts() (c counts) {
	for i := range h.buckets {
		c[i] = h.buckets[i].Load()
	}
	return c
}

// since returns the counts after the earlier moment.
func (c counts) since(earlier counts) counts {
	for i := range c {
		c[i] -= earlier[i]
	}
	return c
}

func (c counts) total() (n uint64) {
	for _, b := range c {
		n += b
	}
	return n
}

// quantile returns the upper bound of the quantile's bucket; 0 for an empty histogram.
func (c counts) quantile(q float64) time.Duration {
	total := c.total()
	if total == 0 {
		return 0
	}
	rank := uint64(math.Ceil(q * float64(total)))
	var sum uint64
	for i, b := range c {
		if sum += b; sum >= max(rank, 1) {
			return time.Duration(math.Exp2(float64(i)/bucketsPerDoubling) * float64(time.Microsecond))
		}
	}
	return 0
}
