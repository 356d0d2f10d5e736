package stats

import (
	"math"
	"sort"
	"time"

	"github.com/stranglerfig/migrator/internal/stats/sketch"
)

// Bounds are the bounds of a quantile. Where the sample proves nothing, Low is 0 and High is
// the largest Duration.
type Bounds struct {
	Low, High time.Duration
	N         uint64 // durations in the sample
}

// QuantileBounds are a lower and an upper bound of the q-quantile of what the sketch is
// a sample of, each with the given confidence (both at once with 2·confidence-1). They
// are order statistics, whose ranks the binomial distribution of n and q gives: true of any
// distribution of independent durations. The sketch's own error is in them: Low is the lower
// limit of its bucket, High the upper limit. They are empty bounds for a q or a
// confidence outside (0, 1).
//
// Wilks, Annals of Mathematical Statistics 12 (1941); David and Nagaraja, Order
// Statistics, 7.1.
func QuantileBounds(s *sketch.Sketch, q, confidence float64) Bounds {
	b := Bounds{High: math.MaxInt64, N: s.Count()}
	lower, upper := quantileRanks(int64(s.Count()), q, confidence)
	if lower > 0 {
		b.Low, _ = s.Limits(uint64(lower))
	}
	if upper > 0 {
		_, b.High = s.Limits(uint64(upper))
	}
	return b
}

// quantileRanks returns the ranks of the order statistics that bound the q-quantile of
// a sample of n from below and above, 0 where there is none.
func quantileRanks(n int64, q, confidence float64) (lower, upper int64) {
	if !(q > 0 && q < 1 && confidence > 0 && confidence < 1) {
		return 0, 0
	}
	// The lower-th smallest is not above the quantile if at least that many are below
	// it: the largest for which that is sure enough. sort.Search counts from rank 1.
	lower = int64(sort.Search(int(n), func(i int) bool { return atMost(int64(i), n, q) > 1-confidence }))
	upper = 1 + int64(sort.Search(int(n), func(i int) bool { return atMost(int64(i), n, q) >= confidence }))
	if upper > n {
		upper = 0
	}
	return lower, upper
}

// QuantileSample is the smallest sample for which QuantileBounds has both bounds: 299
// for the 99th percentile with 95 %, 59 for the 95th. It is 0 for a q or a confidence
// outside (0, 1).
func QuantileSample(q, confidence float64) int64 {
	if !(q > 0 && q < 1 && confidence > 0 && confidence < 1) {
		return 0
	}
	return int64(math.Ceil(math.Log1p(-confidence) / math.Log(max(q, 1-q))))
}

// Ratio compares a quantile of two stores.
type Ratio struct {
	Target, Legacy Bounds
	Exceeds        bool
}

// RatioExceeds reports whether the target's q-quantile is proved to be more than factor (1.2)
// times legacy's in the same window: its lower bound is above factor times legacy's upper one.
// If it is not, Exceeds is wrong with a probability of at most 2·(1-confidence) at one
// evaluation (far less in simulations: docs/statistics.md). Without a bound of legacy's
// nothing is proved.
func RatioExceeds(target, legacy *sketch.Sketch, q, factor, confidence float64) Ratio {
	r := Ratio{Target: QuantileBounds(target, q, confidence), Legacy: QuantileBounds(legacy, q, confidence)}
	r.Exceeds = r.Legacy.High < math.MaxInt64 && float64(r.Target.Low) > factor*float64(r.Legacy.High)
	return r
}
