package stats

import (
	"math"
	"slices"
	"testing"
	"time"
)

// firesAfter is the number of requests until a CUSUM fed by batches fires.
func firesAfter(s simulation, limit float64, batch int64) int64 {
	c := CUSUM{Limit: limit}
	failure := s.gap() // requests before the next failure
	for n := int64(0); ; {
		if batch == 1 {
			// all successes up to it at once give the same score, since it never goes below 0
			c.Add(failure, 0)
			c.Add(1, 1)
			n += failure + 1
			failure = s.gap()
		} else {
			k := int64(0)
			for left := batch; ; failure = s.gap() {
				if failure >= left {
					failure -= left
					break
				}
				left -= failure + 1
				k++
			}
			c.Add(batch, k)
			n += batch
		}
		if c.Fires() {
			return n
		}
	}
}

func TestSimulatedTriggerDetects(t *testing.T) {
	t.Parallel()
	runs := scale(4_000, 100_000)
	for _, rate := range []float64{0.01, 0.02, 0.05} {
		for _, batch := range []int64{1, 10, 100, 1000} {
			s := simulate(3, rate)
			took, sum := make([]int64, runs), 0.0
			for i := range took {
				took[i] = firesAfter(s, 0.005, batch)
				sum += float64(took[i])
			}
			slices.Sort(took)
			t.Logf("trigger on 0.5 %%, errors %v %%, batches of %d, %d runs: fires after %d requests at the median, %.0f on average, %d in 95 of 100",
				100*rate, batch, runs, took[runs/2], sum/float64(runs), took[runs*95/100])
			if rate == 0.02 && took[runs/2] > 1000 {
				t.Errorf("2 %% errors in batches of %d are found after %d requests at the median", batch, took[runs/2])
			}
		}
	}
}

func TestSimulatedTriggerAtHalfTheLimit(t *testing.T) {
	t.Parallel()
	requests := int64(scale(500_000_000, 50_000_000_000))
	s := simulate(4, 0.0025)
	c := CUSUM{Limit: 0.005}
	alarms, highest := 0, 0.0
	for n := int64(0); n < requests; {
		gap := s.gap()
		c.Add(gap, 0)
		c.Add(1, 1)
		n += gap + 1
		highest = max(highest, c.Score)
		if c.Fires() {
			alarms++
			c.Score = 0
		}
	}
	length := c.RunLength(0.0025)
	t.Logf("trigger on 0.5 %%, errors 0.25 %%: %d false alarms in %d requests, %.3f in 10⁷; computed: one in %.3g requests; highest score %.1f",
		alarms, requests, float64(alarms)/float64(requests)*1e7, length, highest)
	if float64(alarms)*1e7 >= float64(requests) || length <= 1e7 {
		t.Error("more than one false alarm in ten million requests")
	}
	if expected := float64(requests) / length; math.Abs(float64(alarms)-expected) > 4*math.Sqrt(expected)+1+0.02*expected {
		t.Errorf("%d false alarms, computed are %.1f", alarms, expected)
	}
}

func TestSimulatedRunLengths(t *testing.T) {
	t.Parallel()
	runs := scale(2_000, 40_000)
	for _, c := range []struct{ limit, share float64 }{{0.005, 0.9}, {0.005, 1}, {0.005, 2}, {0.005, 4}, {0.001, 1}, {0.01, 1}, {0.01, 4}} {
		s := simulate(5, c.limit*c.share)
		var sum, squares float64
		for range runs {
			n := float64(firesAfter(s, c.limit, 1))
			sum += n
			squares += n * n
		}
		mean := sum / float64(runs)
		deviation := math.Sqrt((squares/float64(runs) - mean*mean) / float64(runs))
		trigger := CUSUM{Limit: c.limit}
		computed := trigger.RunLength(c.limit * c.share)
		t.Logf("trigger on %v, errors %v × that, %d runs: fires after %.0f ± %.0f requests on average, computed %.0f", c.limit, c.share, runs, mean, deviation, computed)
		if math.Abs(mean-computed) > 0.02*mean+4*deviation {
			t.Errorf("trigger on %v, errors %v × that: computed %.0f, simulated %.0f", c.limit, c.share, computed, mean)
		}
	}
}

// The slow trigger evaluates the last 5 and 30 minutes every 10 s; beside it the usual rules
// on the same windows.
func TestSimulatedSlowTrigger(t *testing.T) {
	t.Parallel()
	const limit, confidence = 0.005, 0.99
	const short, long, ticksPerDay = 30, 180, 8640
	days := scale(40, 2_000)
	for _, perTick := range []int64{20, 200, 2000} { // requests in 10 s
		fires := func(n int64, evaluations int64) int64 { // from how many errors on
			k := int64(1)
			for !RateExceeds(k, n, limit, confidence, evaluations) {
				k++
			}
			return k
		}
		evaluations := EvaluationsPerDay(10*time.Second, 2)
		shortAt, longAt := fires(short*perTick, evaluations), fires(long*perTick, evaluations)
		naiveAt := fires(short*perTick, 1)
		for _, share := range []float64{0.5, 1} {
			s := simulate(6, share*limit)
			var slow, repeated, point int // days with an alarm
			for range days {
				var errors [long]int64
				var inShort, inLong int64
				var a, b, c bool
				failure := s.gap()
				for tick := range ticksPerDay {
					k := int64(0)
					for left := perTick; ; failure = s.gap() {
						if failure >= left {
							failure -= left
							break
						}
						left -= failure + 1
						k++
					}
					inShort += k - errors[(tick+long-short)%long]
					inLong += k - errors[tick%long]
					errors[tick%long] = k
					a = a || inShort >= shortAt || inLong >= longAt
					b = b || inShort >= naiveAt
					c = c || tick >= short && float64(inShort) > limit*float64(short*perTick)
				}
				for day, fired := range map[*int]bool{&slow: a, &repeated: b, &point: c} {
					if fired {
						*day++
					}
				}
			}
			t.Logf("slow trigger on 0.5 %%, errors %v × that, %d requests a second, %d days: fires from %.2f %% in 5 min, %.2f %% in 30 min, on %.2f %% of days; without the allowance for repeated evaluation (5 min) %.1f %%, point estimate (5 min) %.1f %%",
				share, perTick/10, days, 100*float64(shortAt)/float64(short*perTick), 100*float64(longAt)/float64(long*perTick), 100*float64(slow)/float64(days), 100*float64(repeated)/float64(days), 100*float64(point)/float64(days))
			if float64(slow)/float64(days) > atMostBy(1-confidence, days) {
				t.Errorf("at %v × the limit it fires on %d of %d days", share, slow, days)
			}
		}
	}
}

// binomial draws the errors among n requests.
func (s simulation) binomial(n int64) (k int64) {
	for at := s.gap(); at < n; at += s.gap() + 1 {
		k++
	}
	return k
}
