package stats

import "math"

// bets are the alternatives that the e-process bets on, as shares of the limit; each with the
// same weight. 0 wins fastest where nothing differs, ¾ still wins close to the limit.
var bets = [...]float64{0, 1. / 8, 1. / 4, 1. / 2, 3. / 4}

// EProcess accumulates evidence that a rate is below a limit, and may be evaluated after every
// sample, without end: while the rate is at the limit or above, the probability that E ever
// reaches 1/(1-confidence) is at most 1-confidence. The same is true of a rate that changes,
// so long as it never goes below the limit.
//
// E is a mixture of likelihood ratios, Σ ⅕ (pⱼ/p₀)^k ((1-pⱼ)/(1-p₀))^(n-k) with pⱼ in {0, ⅛,
// ¼, ½, ¾}·p₀. Each is at most 1 in expectation for a rate of p₀ or more, at every step
// whatever came before, and so by Ville's inequality (1939) rarely gets large.
//
// Hence a pass once reached may be reported as "passed then", whatever E does later: that is
// Peak. It proves nothing about a rate that has changed since. So the present E (Passes)
// decides a step forward, and after a change of what is compared a new EProcess begins: each
// new one has its own 1-confidence.
//
// A nonsensical limit or count makes E NaN, which passes nothing.
type EProcess struct {
	Limit float64 // p₀, between 0 and 1
	N, K  int64   // samples, and those of them that count against
	peak  float64
}

// Add counts n further samples of which k count against. Their order doesn't matter.
func (e *EProcess) Add(n, k int64) {
	e.N += n
	e.K += k
	e.peak = max(e.peak, e.LogE())
}

// LogE is the natural logarithm of E, 0 at the beginning.
func (e *EProcess) LogE() float64 { return LogE(e.K, e.N, e.Limit) }

// Peak is the largest LogE after any Add.
func (e *EProcess) Peak() float64 { return e.peak }

// Passes reports whether the rate is now proved to be below the limit.
func (e *EProcess) Passes(confidence float64) bool { return e.LogE() >= logNeeded(confidence) }

// Upper is AnytimeUpper of the counts. It is at most Limit exactly if Passes.
func (e *EProcess) Upper(confidence float64) float64 { return AnytimeUpper(e.K, e.N, confidence) }

// LogE is the natural logarithm of the E that EProcess describes, after n samples of
// which k count against.
func LogE(k, n int64, limit float64) float64 {
	if !(limit > 0 && limit < 1) || k < 0 || k > n {
		return math.NaN()
	}
	return logE(float64(k), float64(n), limit)
}

// logNeeded is the logarithm of 1/(1-confidence).
func logNeeded(confidence float64) float64 {
	if !(confidence > 0 && confidence < 1) {
		return math.NaN()
	}
	return -math.Log1p(-confidence)
}

func logE(k, n, limit float64) float64 {
	var terms [len(bets)]float64
	top := math.Inf(-1)
	for i, share := range bets {
		terms[i] = (n - k) * (math.Log1p(-share*limit) - math.Log1p(-limit))
		if k > 0 {
			terms[i] += k * math.Log(share)
		}
		top = max(top, terms[i])
	}
	if math.IsInf(top, 0) {
		return top
	}
	sum := 0.0
	for _, t := range terms {
		sum += math.Exp(t - top)
	}
	return top + math.Log(sum/float64(len(bets)))
}

// AnytimeUpper is an upper bound of a rate of which k of n were seen, that is valid at all
// evaluations at once: with the given confidence the true rate is never above any of the
// bounds of a growing sample. It is the smallest limit for which the e-process passes, so it
// is below a limit exactly if the gate on that limit passes; and never below
// ClopperPearsonUpper, which is valid at one evaluation. It returns 1 where the sample proves
// nothing, and NaN where ClopperPearsonUpper does.
func AnytimeUpper(k, n int64, confidence float64) float64 {
	low := ClopperPearsonUpper(k, n, confidence)
	if math.IsNaN(low) || low >= 1 {
		return low
	}
	passes := func(limit float64) bool { return logE(float64(k), float64(n), limit) >= logNeeded(confidence) }
	// E grows with the limit.
	high := low
	for high < 1 && !passes(high) {
		low, high = high, min(1, 2*high)
	}
	for {
		middle := low + (high-low)/2
		if middle <= low || middle >= high {
			return high
		}
		if passes(middle) {
			high = middle
		} else {
			low = middle
		}
	}
}

// SampleNeeded is the number of samples with which the e-process passes if none counts
// against; 0 for a limit or a confidence that makes no sense.
func SampleNeeded(limit, confidence float64) int64 {
	n, _ := SampleExpected(limit, confidence, 0)
	return n
}

// SampleExpected is the approximate number of samples with which the e-process passes if they
// count against at the given rate throughout: up to a quarter more than the average. It is
// false if no number is enough: the rate is too close to the limit (above 0.86 of it) or
// beyond.
func SampleExpected(limit, confidence, rate float64) (int64, bool) {
	if !(limit > 0 && limit < 1 && rate >= 0 && rate < 1) || math.IsNaN(logNeeded(confidence)) {
		return 0, false
	}
	passes := func(n int64) bool { return logE(rate*float64(n), float64(n), limit) >= logNeeded(confidence) }
	// LogE is convex in n and 0 at 0: once it passes, it stays passed.
	const most = int64(1) << 53
	high := int64(1)
	for !passes(high) {
		if high *= 2; high > most {
			return 0, false
		}
	}
	low := high / 2
	for high-low > 1 {
		if middle := low + (high-low)/2; passes(middle) {
			high = middle
		} else {
			low = middle
		}
	}
	return high, true
}
