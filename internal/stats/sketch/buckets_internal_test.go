package sketch

import (
	"math"
	"testing"
	"time"
)

// Every limit of every bucket, and the nanoseconds around it: the bucket is the one whose
// limits enclose the value, and its value is within the error of it.
func TestEveryBucketHoldsItsErrorBound(t *testing.T) {
	t.Parallel()
	worst, next := 0.0, 0
	for b := range buckets {
		low, high := limits(b)
		if b > 0 {
			if _, before := limits(b - 1); before != low {
				t.Fatalf("bucket %d begins at %v, the one before ends at %v", b, low, before)
			}
		}
		begin, end := time.Duration(math.Ceil(low)), time.Duration(most)
		if b < buckets-1 {
			end = time.Duration(math.Ceil(high)) - 1
		}
		if b == 0 {
			begin = 0
		} else if begin != time.Duration(next) {
			t.Fatalf("bucket %d begins at %d, want %d", b, begin, next)
		}
		next = int(end) + 1
		for _, d := range []time.Duration{begin, begin + 1, begin + (end-begin)/3, (begin + end) / 2, end - 1, end} {
			if got := bucket(d); got != b {
				t.Fatalf("%d ns is in bucket %d, want %d (%v to %v)", d, got, b, low, high)
			}
			if d >= least {
				worst = max(worst, math.Abs(float64(value(b)-d))/float64(d))
			}
		}
	}
	if worst > RelativeError {
		t.Errorf("the largest relative error is %v, want at most %v", worst, RelativeError)
	}
	t.Logf("%d buckets, largest relative error %.5f", buckets, worst)
}

// All of the first million nanoseconds, against the logarithm itself.
func TestBucketsAgreeWithTheLogarithm(t *testing.T) {
	t.Parallel()
	for ns := least; ns < 1_000_000; ns++ {
		if got, want := bucket(time.Duration(ns)), int(math.Floor(math.Log2(float64(ns))*perOctave))-first; got != want {
			t.Fatalf("%d ns: bucket %d, want %d", ns, got, want)
		}
	}
}

func TestBucketsAtTheEnds(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]int{
		math.MinInt64: 0, -1: 0, 0: 0, 1: 0, time.Microsecond: 0, 985: 0, 987: 0,
		17 * time.Minute: 1107, 1<<40 - 1: buckets - 1, 1 << 40: buckets - 1, math.MaxInt64: buckets - 1,
	} {
		if got := bucket(d); got != want {
			t.Errorf("%d ns: bucket %d, want %d", d, got, want)
		}
	}
}

// A counter that wraps around loses no count.
func TestRecorderCountsPastItsCounters(t *testing.T) {
	t.Parallel()
	var r Recorder
	r.counts[bucket(time.Millisecond)].Store(math.MaxUint32)
	for range 3 {
		r.Record(time.Millisecond)
	}
	var s Sketch
	r.Drain(&s)
	if want := uint64(math.MaxUint32 + 3); s.Count() != want {
		t.Errorf("drained %d, want %d", s.Count(), want)
	}
}
