package stats_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/stats"
)

var begin = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// history appends buckets one after the other, starting at begin.
type history struct {
	buckets []stats.Bucket
	now     time.Time
	config  string
	epoch   int64
}

func newHistory() *history { return &history{now: begin, config: "a", epoch: 7} }

func (h *history) every(d time.Duration, n, k int64) *history {
	for end := h.now.Add(d); h.now.Before(end); h.now = h.now.Add(stats.BucketLength) {
		h.buckets = append(h.buckets, stats.Bucket{Start: h.now, N: n, K: k, Epoch: h.epoch, Config: h.config})
	}
	return h
}

func (h *history) silent(d time.Duration) *history {
	h.now = h.now.Add(d)
	return h
}

func (h *history) evaluate(t *testing.T) stats.Clock {
	t.Helper()
	c, err := stats.Consistency{}.Evaluate(h.buckets, h.epoch, h.config, h.now)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (h *history) since(t *testing.T, d time.Duration, cause stats.Cause) stats.Clock {
	t.Helper()
	c := h.evaluate(t)
	if !c.Since.Equal(begin.Add(d)) || c.Cause != cause {
		t.Errorf("the clock has run since %v (%s), want %v (%s)", c.Since.Sub(begin), c.Cause, d, cause)
	}
	return c
}

const hour, day = time.Hour, 24 * time.Hour

func TestConsistencyPassesAfterThreeDays(t *testing.T) {
	t.Parallel()
	h := newHistory().every(3*day-stats.BucketLength, 100, 0)
	c := h.since(t, 0, stats.CauseFirst)
	if c.Passes || c.Remaining != stats.BucketLength || !c.Due.Equal(begin.Add(3*day)) {
		t.Errorf("five minutes early: %+v", c)
	}
	c = h.every(stats.BucketLength, 100, 0).since(t, 0, stats.CauseFirst)
	if !c.Passes || c.Covered != 3*day || c.Buckets != 864 || c.Missing != 0 || c.N != 86_400 || c.K != 0 ||
		c.Bound != stats.AnytimeUpper(0, 86_400, 0.95) || c.LogE != stats.LogE(0, 86_400, 0.001) || !c.Due.Equal(h.now) {
		t.Errorf("after three days: %+v", c)
	}
}

func TestConsistencyWaitsForTheSample(t *testing.T) {
	t.Parallel()
	h := newHistory().every(3*day, 2, 0) // 1,728 of the 3,809 that are needed
	c := h.since(t, 0, stats.CauseFirst)
	if c.Passes || c.Remaining != 0 {
		t.Errorf("with too few: %+v", c)
	}
	if wait, want := c.Due.Sub(h.now), 5*time.Minute*(3809-1728)/2; wait < want-time.Second || wait > want+time.Second {
		t.Errorf("due in %v, want %v", wait, want)
	}
	// At the limit or beyond it is never due.
	h = newHistory().every(3*day, 1000, 1)
	if c := h.evaluate(t); c.Passes || !c.Due.IsZero() || c.Bound <= 0.001 {
		t.Errorf("at the limit: %+v", c)
	}
}

func TestConsistencyClockStopsWithoutData(t *testing.T) {
	t.Parallel()
	h := newHistory().every(day, 100, 0).silent(3 * hour)
	c := h.since(t, 0, stats.CauseFirst)
	if c.Covered != day || c.Missing != 36 || c.Remaining != 2*day {
		t.Errorf("in the gap: %+v", c)
	}
	// Three hours of 75 are 4 %.
	c = h.every(2*day, 100, 0).since(t, 0, stats.CauseFirst)
	if !c.Passes || c.Covered != 3*day || c.Buckets != 900 {
		t.Errorf("after three days of data: %+v", c)
	}
	// Empty buckets are the same as none.
	h = newHistory().every(day, 100, 0).every(3*hour, 0, 0).every(2*day, 100, 0)
	if again := h.evaluate(t); again != c {
		t.Errorf("with empty buckets %+v, without %+v", again, c)
	}
}

func TestConsistencyRestartsAfterLongGap(t *testing.T) {
	t.Parallel()
	// Five hours of 77 are more than 5 %: a hundred hours are needed.
	h := newHistory().every(2*day, 100, 0).silent(5*hour).every(day, 100, 0)
	c := h.since(t, 0, stats.CauseFirst)
	if c.Passes || c.Remaining != 100*hour-77*hour {
		t.Errorf("after five hours without data: %+v", c)
	}
	if c := h.every(23*hour, 100, 0).evaluate(t); !c.Passes {
		t.Errorf("after a hundred hours: %+v", c)
	}
	// Seven hours need 140: 85 more, where a new run needs 72.
	h = newHistory().every(2*day, 100, 0).silent(7*hour).every(hour, 100, 0)
	c = h.since(t, 55*hour, stats.CauseGap)
	if c.Covered != hour || c.N != 1200 || c.Missing != 0 {
		t.Errorf("after seven hours without data: %+v", c)
	}
}

func TestConsistencyRestartsAfterBreach(t *testing.T) {
	t.Parallel()
	h := newHistory().every(2*day, 100, 0).every(10*time.Minute, 100, 5) // ten of the hour's 1,200
	c := h.evaluate(t)
	if !c.Breached.Equal(begin.Add(2*day+5*time.Minute)) || c.Cause != stats.CauseBreach || !c.Since.IsZero() || c.N != 0 {
		t.Errorf("at a breach: %+v", c)
	}
	h.every(3*day-5*time.Minute, 100, 0)
	if c = h.since(t, 2*day+10*time.Minute, stats.CauseBreach); c.Passes || c.K != 0 || c.Remaining != stats.BucketLength {
		t.Errorf("not yet three days later: %+v", c)
	}
	h.every(5*time.Minute, 100, 0)
	if c = h.since(t, 2*day+10*time.Minute, stats.CauseBreach); !c.Passes {
		t.Errorf("three days later: %+v", c)
	}
	// One mismatch in a quiet night proves nothing.
	h = newHistory().every(day, 100, 0).every(5*time.Minute, 1, 1).every(6*hour, 1, 0)
	h.since(t, 0, stats.CauseFirst)
	// An hour slightly above the limit is not proved to be above it.
	h = newHistory().every(day, 100, 0).every(hour, 1000, 1).every(hour, 1000, 2)
	h.since(t, 0, stats.CauseFirst)
}

func TestConsistencyEvaluatesCompleteHours(t *testing.T) {
	t.Parallel()
	h := newHistory().every(hour, 100, 0).every(5*time.Minute, 100, 20)
	h.now = h.now.Add(-time.Minute)
	if c := h.since(t, 0, stats.CauseFirst); c.K != 20 || c.Covered != hour || c.Buckets != 12 {
		t.Errorf("before the bucket is over: %+v", c)
	}
	h.now = h.now.Add(time.Minute)
	if c := h.evaluate(t); c.Cause != stats.CauseBreach || !c.Since.IsZero() || c.N != 0 {
		t.Errorf("after: %+v", c)
	}
}

func TestConsistencyRestartsWithConfigurationAndEpoch(t *testing.T) {
	t.Parallel()
	h := newHistory().every(3*day, 100, 0)
	h.config = "b"
	if c := h.evaluate(t); c.Passes || c.Cause != stats.CauseConfiguration || !c.Since.IsZero() {
		t.Errorf("no comparison under the new configuration: %+v", c)
	}
	h.every(day, 100, 0)
	h.since(t, 3*day, stats.CauseConfiguration)
	h.config = "a"
	h.every(day, 100, 0)
	h.since(t, 4*day, stats.CauseConfiguration)

	h.epoch++
	if c := h.evaluate(t); c.Passes || c.Cause != stats.CauseNone || !c.Since.IsZero() {
		t.Errorf("no comparison in the new epoch: %+v", c)
	}
	h.every(hour, 100, 0)
	// A late instance continues in the old epoch for a while.
	h.buckets = append(h.buckets, stats.Bucket{Start: h.now.Add(-stats.BucketLength), N: 100, K: 100, Epoch: 7, Config: "a"})
	if c := h.since(t, 5*day, stats.CauseFirst); c.N != 1200 || c.K != 0 {
		t.Errorf("in the new epoch: %+v", c)
	}
}

func TestConsistencyWithoutTelemetry(t *testing.T) {
	t.Parallel()
	c := newHistory().silent(day).evaluate(t)
	if want := (stats.Clock{Bound: 1, Remaining: 3 * day}); c != want {
		t.Errorf("without telemetry: %+v", c)
	}
}

func TestConsistencySettings(t *testing.T) {
	t.Parallel()
	h := newHistory().every(hour, 1000, 50)
	strict := stats.Consistency{Limit: 0.1, For: 58 * time.Minute, Confidence: 0.999999, Coverage: 1}
	c, err := strict.Evaluate(h.buckets, h.epoch, h.config, h.now)
	if err != nil || !c.Passes {
		t.Errorf("5 %% of 12,000: %+v, %v", c, err)
	}
	h.silent(5*time.Minute).every(5*time.Minute, 1000, 0)
	c, err = strict.Evaluate(h.buckets, h.epoch, h.config, h.now)
	if err != nil || c.Passes || c.Cause != stats.CauseGap {
		t.Errorf("no gap is allowed: %+v, %v", c, err)
	}
}

func TestConsistencyRefusesInvalidBuckets(t *testing.T) {
	t.Parallel()
	good := stats.Bucket{Start: begin, N: 10, K: 1}
	for want, second := range map[string]stats.Bucket{
		"11 mismatches of 10":     {Start: begin, N: 10, K: 11},
		"-1 mismatches of 10":     {Start: begin, N: 10, K: -1},
		"not at a multiple of 5m": {Start: begin.Add(time.Minute), N: 10},
		"in the future":           {Start: begin.Add(2 * time.Hour), N: 10},
		"comes after that":        {Start: begin.Add(-time.Hour), N: 10},
	} {
		_, err := stats.Consistency{}.Evaluate([]stats.Bucket{good, second}, 0, "", begin.Add(time.Hour))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", second, err, want)
		}
	}
}
