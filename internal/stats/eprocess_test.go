package stats_test

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/stranglerfig/migrator/internal/stats"
)

func near(got, want, relative float64) bool {
	return math.Abs(got-want) <= relative*max(math.Abs(want), 1e-300)
}

// The sum of the formula itself, not its logarithm, taken with 50 digits (mpmath 1.3.0).
func TestLogEAgreesWithTheFormulaAtFiftyDigits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		k, n        int64
		limit, want float64
	}{
		{0, 1000, 0.001, 0.71013598012992603},
		{1, 10000, 0.001, 5.5830715336981841},
		{7, 20000, 0.001, 4.4116971792224009},
		{3, 100, 0.1, 2.8012108730660077},
		{25, 25000, 0.001, -2.5320115818103934},
		{0, 5, 0.5, 2.8001173052553991},
		{250, 1000000, 0.0005, 75.13502997400318},
		{0, 0, 0.001, 0},
	} {
		if got := stats.LogE(c.k, c.n, c.limit); !near(got, c.want, 1e-10) {
			t.Errorf("%d of %d at %v: %v, want %v", c.k, c.n, c.limit, got, c.want)
		}
	}
}

func TestSamplesNeededAgreeWithTheFormulaAtFiftyDigits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		limit, confidence float64
		want              int64
	}{
		{0.1, 0.95, 36},
		{0.01, 0.95, 379},
		{0.005, 0.95, 761},
		{0.001, 0.95, 3809},
		{0.0001, 0.95, 38107},
		{0.00001, 0.95, 381087},
		{0.001, 0.99, 5615},
		{0.001, 0.999, 8098},
	} {
		if got := stats.SampleNeeded(c.limit, c.confidence); got != c.want {
			t.Errorf("below %v with %v: %d samples, want %d", c.limit, c.confidence, got, c.want)
		}
	}
}

func TestAnytimeUpperAgreesWithTheFormulaAtFiftyDigits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		k, n             int64
		confidence, want float64
	}{
		{0, 1000, 0.95, 0.00380292375800964},
		{0, 812331, 0.95, 4.69128262778721e-6},
		{5, 10000, 0.95, 0.00142776313640608},
		{1, 3, 0.95, 0.932563993454459},
		{40, 1000000, 0.99, 6.69454990657478e-5},
		{0, 0, 0.95, 1},
		{4, 4, 0.95, 1},
	} {
		if got := stats.AnytimeUpper(c.k, c.n, c.confidence); !near(got, c.want, 1e-9) {
			t.Errorf("%d of %d: %v, want %v", c.k, c.n, got, c.want)
		}
	}
}

var counts = rapid.Custom(func(t *rapid.T) [2]int64 {
	n := rapid.Int64Range(1, 1<<rapid.IntRange(1, 40).Draw(t, "log n")).Draw(t, "n")
	return [2]int64{rapid.Int64Range(0, min(n, 1+n>>rapid.IntRange(0, 30).Draw(t, "log share"))).Draw(t, "k"), n}
})

// A bound that is valid at all evaluations can't be tighter than one for a single evaluation;
// and the gate on a limit passes exactly where the bound is at most that limit.
func TestAnytimeUpperIsTheGate(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := counts.Draw(t, "k of n")
		k, n := c[0], c[1]
		confidence := rapid.SampledFrom([]float64{0.5, 0.9, 0.95, 0.999}).Draw(t, "confidence")
		bound := stats.AnytimeUpper(k, n, confidence)
		if once := stats.ClopperPearsonUpper(k, n, confidence); !(bound >= once && bound <= 1) {
			t.Fatalf("%d of %d: bound %v, at one evaluation %v", k, n, bound, once)
		}
		for _, share := range []float64{0.5, 0.999999, 1.000001, 2} {
			limit := bound * share
			if limit >= 1 {
				continue
			}
			e := stats.EProcess{Limit: limit}
			e.Add(n, k)
			if got, want := e.Passes(confidence), share > 1; got != want {
				t.Fatalf("%d of %d: bound %v, the gate on %v passes: %v", k, n, bound, limit, got)
			}
		}
	})
}

// One mismatch more never raises E, one agreement more never lowers it.
func TestLogEIsMonotonic(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := counts.Draw(t, "k of n")
		k, n := c[0], c[1]
		limit := math.Pow(10, rapid.Float64Range(-7, -0.1).Draw(t, "log limit"))
		e := stats.LogE(k, n, limit)
		if more := stats.LogE(k, n+1, limit); more < e-1e-9*math.Abs(e) {
			t.Fatalf("an agreement takes log E from %v to %v", e, more)
		}
		if k < n {
			if worse := stats.LogE(k+1, n, limit); worse > e+1e-9*math.Abs(e) {
				t.Fatalf("a mismatch takes log E from %v to %v", e, worse)
			}
		}
	})
}

// At the limit E is 1 in expectation after any number of samples: summed over all outcomes.
// Above the limit it is less. Ville's inequality requires no more.
func TestEIsOneInExpectationAtTheLimit(t *testing.T) {
	t.Parallel()
	for _, limit := range []float64{0.001, 0.05, 0.4} {
		for _, rate := range []float64{limit, 1.5 * limit} {
			for _, n := range []int64{1, 10, 300} {
				mean := 0.0
				for k := range n + 1 {
					a, _ := math.Lgamma(float64(n) + 1)
					b, _ := math.Lgamma(float64(k) + 1)
					c, _ := math.Lgamma(float64(n-k) + 1)
					mean += math.Exp(a - b - c + float64(k)*math.Log(rate) + float64(n-k)*math.Log1p(-rate) + stats.LogE(k, n, limit))
				}
				if rate == limit && !near(mean, 1, 1e-9) || rate > limit && mean >= 1 {
					t.Errorf("limit %v, rate %v, %d samples: E is %v in expectation", limit, rate, n, mean)
				}
			}
		}
	}
}

func TestEProcessAddsBatches(t *testing.T) {
	t.Parallel()
	e := stats.EProcess{Limit: 0.001}
	for range 4 {
		e.Add(1000, 0)
	}
	if !e.Passes(0.95) || e.Passes(0.999) {
		t.Fatalf("after 4000 without a mismatch: E = e^%v", e.LogE())
	}
	passed := e.LogE()
	e.Add(1000, 9)
	if e.Passes(0.95) || e.Peak() != passed || e.LogE() != stats.LogE(9, 5000, 0.001) || e.Upper(0.95) != stats.AnytimeUpper(9, 5000, 0.95) {
		t.Errorf("after 9 of 5000: E = e^%v, peak e^%v, upper %v", e.LogE(), e.Peak(), e.Upper(0.95))
	}
}

func TestSampleExpectedNearTheLimit(t *testing.T) {
	t.Parallel()
	for _, share := range []float64{0, 0.1, 0.5, 0.8} {
		n, ok := stats.SampleExpected(0.001, 0.95, share*0.001)
		if !ok || n < stats.SampleNeeded(0.001, 0.95) {
			t.Errorf("at %v of the limit: %d, %v", share, n, ok)
		}
		if k := int64(share * 0.001 * float64(n)); stats.AnytimeUpper(k, n, 0.95) > 0.001 {
			t.Errorf("at %v of the limit %d samples are not enough", share, n)
		}
	}
	for _, share := range []float64{0.9, 1, 3} {
		if n, ok := stats.SampleExpected(0.001, 0.95, share*0.001); ok {
			t.Errorf("at %v of the limit %d samples are reported as enough", share, n)
		}
	}
}

func TestNonsenseProvesNothing(t *testing.T) {
	t.Parallel()
	for _, limit := range []float64{0, 1, -1, math.NaN(), math.Inf(1)} {
		e := stats.EProcess{Limit: limit}
		e.Add(1_000_000, 0)
		if e.Passes(0.95) || stats.SampleNeeded(limit, 0.95) != 0 || stats.RateExceeds(9, 10, limit, 0.95, 1) {
			t.Errorf("a limit of %v is accepted", limit)
		}
	}
	for _, confidence := range []float64{0, 1, -1, 2, math.NaN()} {
		e := stats.EProcess{Limit: 0.1}
		e.Add(1_000_000, 0)
		if e.Passes(confidence) || stats.SampleNeeded(0.1, confidence) != 0 || stats.RateExceeds(9, 10, 0.1, confidence, 1) {
			t.Errorf("a confidence of %v is accepted", confidence)
		}
	}
	for _, c := range [][2]int64{{-1, 5}, {6, 5}, {0, -1}} {
		if e := stats.LogE(c[0], c[1], 0.1); !math.IsNaN(e) || stats.RateExceeds(c[0], c[1], 0.1, 0.95, 1) {
			t.Errorf("%d of %d: log E %v", c[0], c[1], e)
		}
	}
}

// RateExceeds agrees with the lower bound.
func TestRateExceedsIsTheLowerBound(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := counts.Draw(t, "k of n")
		k, n := c[0], min(c[1], 1_000_000)
		k = min(k, n)
		evaluations := rapid.Int64Range(1, 1000).Draw(t, "evaluations")
		low := stats.ClopperPearsonLower(k, n, 1-0.05/float64(evaluations))
		for _, share := range []float64{0.999, 1.001} {
			if limit := low * share; limit > 0 && limit < 1 && stats.RateExceeds(k, n, limit, 0.95, evaluations) != (share < 1) {
				t.Fatalf("%d of %d, %d evaluations: lower bound %v, above %v: %v", k, n, evaluations, low, limit, share > 1)
			}
		}
	})
}
