package stats_test

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/stranglerfig/migrator/internal/stats"
	"github.com/stranglerfig/migrator/internal/stats/sketch"
)

// spread returns a sample whose values are so far apart that the bounds identify their ranks.
func spread(n int) *sketch.Sketch {
	var s sketch.Sketch
	for i := range n {
		s.Add(rankAt(i+1), 1)
	}
	return &s
}

func rankAt(i int) time.Duration {
	return time.Duration(1000 * math.Pow(1.05, float64(i)))
}

// Ranks from the usual tables for the median (two-sided 95 %; Conover, Practical Nonparametric
// Statistics, and many others).
func TestQuantileBoundsAgreeWithTheTablesOfTheMedian(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ n, low, high int }{{6, 1, 6}, {10, 2, 9}, {20, 6, 15}, {30, 10, 21}, {50, 18, 33}, {100, 40, 61}} {
		b := stats.QuantileBounds(spread(c.n), 0.5, 0.975)
		low, high := rankAt(c.low), rankAt(c.high)
		if b.Low > low || b.Low < low*98/100 || b.High < high || b.High > high*102/100 {
			t.Errorf("n = %d: %v to %v, want the %dth %v and the %dth %v", c.n, b.Low, b.High, c.low, low, c.high, high)
		}
	}
	if b := stats.QuantileBounds(spread(5), 0.5, 0.975); b.Low != 0 || b.High != math.MaxInt64 {
		t.Errorf("five durations bound the median by %v", b)
	}
}

// Ranks from the binomial distribution summed with 50 digits (mpmath 1.3.0). All of a sample
// below a rank is 1 ms and the rest is 1 s, so the bound shows the side.
func TestQuantileBoundsAgreeWithTheBinomialAtFiftyDigits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		n             uint64
		q, confidence float64
		low, high     uint64
	}{
		{298, 0.99, 0.95, 292, 0},
		{299, 0.99, 0.95, 293, 299},
		{1000, 0.99, 0.95, 985, 996},
		{5000, 0.99, 0.95, 4938, 4962},
		{2000, 0.95, 0.975, 1880, 1920},
		{10, 0.5, 0.975, 2, 9},
	} {
		at := func(rank uint64) stats.Bounds {
			var s sketch.Sketch
			s.Add(time.Millisecond, rank-1)
			s.Add(time.Second, c.n-rank+1)
			return stats.QuantileBounds(&s, c.q, c.confidence)
		}
		slow := func(d time.Duration) bool { return d > 100*time.Millisecond }
		if !slow(at(c.low).Low) || slow(at(c.low+1).Low) {
			t.Errorf("n = %d, q = %v: the lower bound is not the %dth", c.n, c.q, c.low)
		}
		if c.high == 0 {
			if h := at(1).High; h != math.MaxInt64 {
				t.Errorf("n = %d, q = %v: there is an upper bound, %v", c.n, c.q, h)
			}
		} else if !slow(at(c.high).High) || slow(at(c.high+1).High) {
			t.Errorf("n = %d, q = %v: the upper bound is not the %dth", c.n, c.q, c.high)
		}
	}
}

// Wilks: 59, 299, 2995 for the 95th, 99th, 99.9th percentile with 95 %; 459 with 99 %.
func TestQuantileSampleAgreesWithWilks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		q, confidence float64
		want          int64
	}{{0.95, 0.95, 59}, {0.99, 0.95, 299}, {0.999, 0.95, 2995}, {0.99, 0.99, 459}, {0.5, 0.975, 6}, {0.01, 0.95, 299}, {0, 0.95, 0}, {0.9, 1, 0}} {
		got := stats.QuantileSample(c.q, c.confidence)
		if got != c.want {
			t.Errorf("%v with %v: %d, want %d", c.q, c.confidence, got, c.want)
		}
		for n, want := range map[int64]bool{got: true, got - 1: false} {
			if n <= 0 {
				continue
			}
			var s sketch.Sketch
			s.Add(time.Second, uint64(n))
			b := stats.QuantileBounds(&s, c.q, c.confidence)
			if both := b.Low > 0 && b.High < math.MaxInt64; both != want {
				t.Errorf("%v with %v: %d durations give both bounds: %v", c.q, c.confidence, n, both)
			}
		}
	}
}

func TestQuantileBoundsEncloseTheSketchsQuantile(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := sketchOf(rapid.SliceOfN(durations, 1, 500).Draw(t, "durations"))
		q := rapid.Float64Range(0.01, 0.99).Draw(t, "q")
		b := stats.QuantileBounds(s, q, 0.95)
		if got, _ := s.Quantile(q); b.Low > got || b.High < got {
			t.Fatalf("quantile %v of %d is %v, outside %v", q, s.Count(), got, b)
		}
		wide := stats.QuantileBounds(s, q, 0.999)
		if wide.Low > b.Low || wide.High < b.High {
			t.Fatalf("with 0.999 %v, with 0.95 %v", wide, b)
		}
	})
}

func TestQuantileBoundsOfSlowerThanTheSketchKnows(t *testing.T) {
	t.Parallel()
	var s sketch.Sketch
	s.Add(time.Hour, 1000)
	if b := stats.QuantileBounds(&s, 0.99, 0.95); b.High != math.MaxInt64 || b.Low < 17*time.Minute {
		t.Errorf("an hour is between %v and %v", b.Low, b.High)
	}
	s = sketch.Sketch{}
	s.Add(time.Nanosecond, 1000)
	if b := stats.QuantileBounds(&s, 0.99, 0.95); b.Low != 0 || b.High > 1100 {
		t.Errorf("a nanosecond is between %v and %v", b.Low, b.High)
	}
}

func TestRatioExceeds(t *testing.T) {
	t.Parallel()
	constant := func(d time.Duration, n uint64) *sketch.Sketch {
		var s sketch.Sketch
		s.Add(d, n)
		return &s
	}
	for name, c := range map[string]struct {
		target, legacy *sketch.Sketch
		want           bool
	}{
		"half as slow again":          {constant(15*time.Millisecond, 1000), constant(10*time.Millisecond, 1000), true},
		"25 % slower":                 {constant(12500*time.Microsecond, 1000), constant(10*time.Millisecond, 1000), true},
		"within the sketches' errors": {constant(12100*time.Microsecond, 1000), constant(10*time.Millisecond, 1000), false},
		"as fast":                     {constant(10*time.Millisecond, 1000), constant(10*time.Millisecond, 1000), false},
		"too few of legacy":           {constant(time.Second, 1000), constant(10*time.Millisecond, 298), false},
		"enough of legacy":            {constant(time.Second, 1000), constant(10*time.Millisecond, 299), true},
		"nothing of legacy":           {constant(time.Second, 1000), &sketch.Sketch{}, false},
		"nothing of the target":       {&sketch.Sketch{}, constant(10*time.Millisecond, 1000), false},
		"nothing":                     {&sketch.Sketch{}, &sketch.Sketch{}, false},
	} {
		if got := stats.RatioExceeds(c.target, c.legacy, 0.99, 1.2, 0.95); got.Exceeds != c.want {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

var durations = rapid.Custom(func(t *rapid.T) time.Duration {
	return time.Duration(math.Exp(rapid.Float64Range(math.Log(1e3), math.Log(1e12)).Draw(t, "ln ns")))
})

func sketchOf(ds []time.Duration) *sketch.Sketch {
	s := new(sketch.Sketch)
	for _, d := range ds {
		s.Add(d, 1)
	}
	return s
}
