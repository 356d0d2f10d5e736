package stats_test

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/stranglerfig/migrator/internal/stats"
)

func TestCUSUMCounts(t *testing.T) {
	t.Parallel()
	c := stats.CUSUM{Limit: 0.005}
	c.Add(1000, 0)
	if c.Score != 0 {
		t.Errorf("a thousand successes make %v", c.Score)
	}
	c.Add(1, 1)
	if want := math.Log(4); !near(c.Score, want, 1e-12) {
		t.Errorf("an error makes %v, want %v", c.Score, want)
	}
	before := c.Score
	c.Add(1, 0)
	if got := before - c.Score; math.Abs(got-0.00755) > 5e-6 {
		t.Errorf("a success takes %v, want 0.00755", got)
	}
	c.Add(9, 9)
	if c.Fires() {
		t.Errorf("ten errors fire at %v", c.Score)
	}
	c.Add(1, 1)
	if !c.Fires() {
		t.Errorf("eleven errors in a row don't fire at %v", c.Score)
	}
}

func TestCUSUMOfNonsenseNeverFires(t *testing.T) {
	t.Parallel()
	for _, limit := range []float64{0, -1, 0.5, 2, math.NaN()} {
		c := stats.CUSUM{Limit: limit}
		c.Add(1000, 1000)
		if c.Fires() || !math.IsNaN(c.RunLength(0.1)) {
			t.Errorf("a limit of %v fires at %v", limit, c.Score)
		}
	}
	for _, n := range [][2]int64{{1, 2}, {-5, 0}, {3, -1}} {
		c := stats.CUSUM{Limit: 0.005, Score: 20}
		c.Add(n[0], n[1])
		if c.Fires() {
			t.Errorf("%d of %d fire at %v", n[1], n[0], c.Score)
		}
	}
}

// Whatever the order within batches: at the end of each the score is not above the score of
// single requests, and a batch with the same start ends at most its successes' share below.
func TestBatchesFireNoSoonerThanRequests(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		single, batched := stats.CUSUM{Limit: 0.005}, stats.CUSUM{Limit: 0.005}
		for _, batch := range rapid.SliceOfN(rapid.SliceOfN(rapid.SampledFrom([]int64{0, 0, 0, 0, 1}), 0, 50), 1, 30).Draw(t, "batches") {
			start, k := batched.Score, int64(0)
			for _, failed := range batch {
				single.Add(1, failed)
				k += failed
			}
			batched.Add(int64(len(batch)), k)
			if batched.Score > single.Score+1e-9 {
				t.Fatalf("batched %v, single %v", batched.Score, single.Score)
			}
			alone := stats.CUSUM{Limit: 0.005, Score: start}
			for _, failed := range batch {
				alone.Add(1, failed)
			}
			if short := alone.Score - batched.Score; short > 0.00756*float64(int64(len(batch))-k)+1e-9 {
				t.Fatalf("a batch of %d, %d failed: short by %v", len(batch), k, short)
			}
		}
	})
}
