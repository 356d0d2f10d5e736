package stats

import (
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/stats/sketch"
)

// The error rates that docs/statistics.md promises, simulated. MIGRATOR_SIMULATE=1 takes as
// many runs as the document's numbers rest on (minutes), else a few:
//
//	MIGRATOR_SIMULATE=1 go test -count=1 -v -run Simulated ./internal/stats

// scale returns how much is simulated; MIGRATOR_SIMULATE selects full.
func scale(quick, full int) int {
	if os.Getenv("MIGRATOR_SIMULATE") != "" {
		return full
	}
	return quick
}

// simulation draws errors at a rate, one after the other, without drawing the successes
// between.
type simulation struct {
	*rand.Rand
	perSuccess float64 // -log of the probability of a success
}

func simulate(seed uint64, rate float64) simulation {
	return simulation{rand.New(rand.NewPCG(seed, 1)), -math.Log1p(-rate)}
}

// gap is the number of successes until the next error.
func (s simulation) gap() int64 { return int64(s.ExpFloat64() / s.perSuccess) }

// atMostBy is the allowance for chance in a simulated share: four standard deviations.
func atMostBy(share float64, runs int) float64 {
	return share + 4*math.Sqrt(share*(1-share)/float64(runs))
}

const (
	gateLimit      = 0.001
	gateConfidence = 0.95
)

// needed returns, for each number of mismatches, the samples with which the e-process passes.
func needed(mismatches int) []int64 {
	table := make([]int64, mismatches)
	n := int64(1)
	for k := range table {
		step := int64(1)
		for n = max(n, int64(k)); logE(float64(k), float64(n), gateLimit) < logNeeded(gateConfidence); step *= 2 {
			n += step
		}
		for low := n - step; n-low > 1; {
			if middle := (n + low) / 2; middle >= int64(k) && logE(float64(k), float64(middle), gateLimit) >= logNeeded(gateConfidence) {
				n = middle
			} else {
				low = middle
			}
		}
		table[k] = n
	}
	return table
}

// passesAt is the sample at which the e-process, evaluated after each, passes; horizon+1 if it
// does not.
func passesAt(s simulation, need []int64, horizon int64) int64 {
	seen := int64(0)
	for k := 0; seen <= horizon; k++ {
		next := seen + s.gap() + 1 // the next mismatch
		if at := max(need[k], seen); at < next && at <= horizon {
			return at
		}
		seen = next
	}
	return horizon + 1
}

func TestSimulatedGateAtTheLimit(t *testing.T) {
	t.Parallel()
	runs, horizon := scale(2_000, 20_000), int64(scale(200_000, 2_000_000))
	const every, naiveHorizon = 500, 200_000
	need := needed(int(horizon)*2/1000 + 1000)
	allowed := make([]int64, naiveHorizon/every+1) // that Clopper-Pearson allows at an evaluation
	for tick := range allowed {
		n := int64(tick * every)
		for allowed[tick] = -1; n > 0 && atMost(allowed[tick]+1, n, gateLimit) <= 1-gateConfidence; {
			allowed[tick]++
		}
	}
	for _, share := range []float64{1, 1.5} {
		var e, clopperPearson, point, once int
		s := simulate(1, share*gateLimit)
		for range runs {
			if passesAt(s, need, horizon) <= horizon {
				e++
			}
			var k, next int64 = 0, s.gap() + 1
			var cp, pt bool
			for tick := 1; tick < len(allowed); tick++ {
				n := int64(tick * every)
				for ; next <= n; next += s.gap() + 1 {
					k++
				}
				cp = cp || k <= allowed[tick]
				pt = pt || float64(k) < gateLimit*float64(n)
				if tick == 20 && k <= allowed[tick] {
					once++
				}
			}
			if cp {
				clopperPearson++
			}
			if pt {
				point++
			}
		}
		percent := func(n int) float64 { return 100 * float64(n) / float64(runs) }
		t.Logf("gate at %.1f × the limit of %v, %d runs: e-process evaluated after each of %d samples passes %.2f %%;"+
			" every %d up to %d: repeated Clopper-Pearson %.1f %%, point estimate %.1f %%; one evaluation at %d: Clopper-Pearson %.2f %%",
			share, gateLimit, runs, horizon, percent(e), every, naiveHorizon, percent(clopperPearson), percent(point), 20*every, percent(once))
		if got := float64(e) / float64(runs); got > atMostBy(0.05, runs) {
			t.Errorf("a gate at %v of its limit passes in %v", share, got)
		}
		if share == 1 && (float64(clopperPearson) < 0.2*float64(runs) || float64(point) < 0.9*float64(runs)) {
			t.Error("the naive rules err less than they should: check the simulated rate")
		}
	}
}

// singleLook is the smallest sample, fixed beforehand, with which Clopper-Pearson passes with
// the given probability at a true rate.
func singleLook(rate, power float64) int64 {
	for allowed := int64(0); ; allowed++ {
		low, n := int64(1), int64(1)
		for ; atMost(allowed, n, gateLimit) > 1-gateConfidence; n *= 2 {
			low = n
		}
		for n-low > 1 {
			if middle := (n + low) / 2; atMost(allowed, middle, gateLimit) <= 1-gateConfidence {
				n = middle
			} else {
				low = middle
			}
		}
		if atMost(allowed, n, rate) >= power {
			return n
		}
	}
}

func TestSimulatedGateFarBelowTheLimit(t *testing.T) {
	t.Parallel()
	runs := scale(4_000, 100_000)
	for _, share := range []float64{0.1, 0.25, 0.5} {
		const horizon = 10_000_000
		need := needed(horizon / 1000)
		s := simulate(2, share*gateLimit)
		took, sum := make([]int64, runs), 0.0
		for i := range took {
			took[i] = passesAt(s, need, horizon)
			sum += float64(took[i])
		}
		slices.Sort(took)
		mean, median, most := sum/float64(runs), took[runs/2], took[runs*9/10]
		half, nine := singleLook(share*gateLimit, 0.5), singleLook(share*gateLimit, 0.9)
		expected, _ := SampleExpected(gateLimit, gateConfidence, share*gateLimit)
		t.Logf("gate at %.2f × the limit, %d runs: passes after %d samples at the median, %.0f on average, %d in nine of ten"+
			" (SampleExpected: %d); a single evaluation needs %d to pass in half of all cases, %d in nine of ten; ratios %.2f, %.2f",
			share, runs, median, mean, most, expected, half, nine, float64(median)/float64(half), float64(most)/float64(nine))
		if share == 0.1 && (float64(median) > 1.5*float64(half) || float64(most) > 2*float64(nine)) {
			t.Errorf("passing takes %d and %d, a single evaluation %d and %d", median, most, half, nine)
		}
		if float64(expected) < 0.95*mean || float64(expected) > 1.3*mean {
			t.Errorf("SampleExpected is %d, it takes %.0f", expected, mean)
		}
	}
}

// The whole gate, evaluated every five minutes for thirty days.
func TestSimulatedConsistency(t *testing.T) {
	t.Parallel()
	migrations := scale(40, 4_000)
	const days, perBucket = 30, 50
	c := Consistency{}.withDefaults()
	for _, share := range []float64{0.1, 0.5, 1} {
		s := simulate(7, share*c.Limit)
		var passed, passedOnTime, runs int
		for range migrations {
			r := run{Consistency: c, cause: CauseFirst}
			start := time.Unix(0, 0)
			runs++
			for i := range days * 24 * slotsPerHour {
				b := Bucket{Start: start.Add(time.Duration(i) * BucketLength), N: perBucket}
				b.K = s.binomial(b.N)
				now := b.Start.Add(BucketLength)
				r.add(b, now)
				if r.since.IsZero() {
					runs++
				} else if r.remaining(r.covered, r.missing) == 0 && logE(float64(r.k), float64(r.n), c.Limit) >= logNeeded(c.Confidence) {
					passed++
					if now.Sub(start) <= c.For {
						passedOnTime++
					}
					break
				}
			}
		}
		t.Logf("consistency at %v × the limit, %d comparisons a day, %d migrations of %d days: %.2f %% pass, %.2f %% after exactly %v; %d breaches",
			share, perBucket*24*slotsPerHour, migrations, days, 100*float64(passed)/float64(migrations), 100*float64(passedOnTime)/float64(migrations), c.For, runs-migrations)
		if got := float64(passed) / float64(runs); share == 1 && got > atMostBy(0.05, runs) {
			t.Errorf("at the limit %v of the runs pass", got)
		}
		if share == 0.1 && passedOnTime < migrations*99/100 {
			t.Errorf("at a tenth of the limit %d of %d pass after %v", passedOnTime, migrations, c.For)
		}
	}
}

func TestSimulatedQuantiles(t *testing.T) {
	t.Parallel()
	runs := scale(100, 4_000)
	r := rand.New(rand.NewPCG(8, 1))
	p99 := 10e6 * math.Exp(2.3263478740408408) // of a lognormal whose median is 10 ms
	sample := func(n int, times float64) *sketch.Sketch {
		var s sketch.Sketch
		for range n {
			s.Add(time.Duration(10e6*times*math.Exp(r.NormFloat64())), 1)
		}
		return &s
	}
	for _, n := range []int{300, 1000, 5000} {
		for _, times := range []float64{1, 1.2, 1.5, 2} {
			var exceeds, point, low, high int
			for range runs {
				target, legacy := sample(n, times), sample(n, 1)
				ratio := RatioExceeds(target, legacy, 0.99, 1.2, 0.95)
				if ratio.Exceeds {
					exceeds++
				}
				a, _ := target.Quantile(0.99)
				b, _ := legacy.Quantile(0.99)
				if float64(a) > 1.2*float64(b) {
					point++
				}
				if float64(ratio.Legacy.Low) > p99 {
					low++
				}
				if float64(ratio.Legacy.High) < p99 {
					high++
				}
			}
			percent := func(n int) float64 { return 100 * float64(n) / float64(runs) }
			t.Logf("p99 of the target %v × legacy's, windows of %d, %d runs: > 1.2 × is proved in %.2f %%, seen in the plain quantiles in %.1f %%; legacy's bounds miss in %.2f %% and %.2f %%",
				times, n, runs, percent(exceeds), percent(point), percent(low), percent(high))
			if times <= 1.2 && float64(exceeds) > atMostBy(0.01, runs)*float64(runs) {
				t.Errorf("at %v × with %d %d of %d runs report more than 1.2 ×", times, n, exceeds, runs)
			}
			if limit := atMostBy(0.05, runs) * float64(runs); float64(low) > limit || float64(high) > limit {
				t.Errorf("bounds of %d miss %d and %d times of %d", n, low, high, runs)
			}
		}
	}
}
