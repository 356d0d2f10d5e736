package sketch_test

import (
	"bytes"
	"math"
	"slices"
	"sync"
	"testing"
	"time"
	"unsafe"

	"pgregory.net/rapid"

	"github.com/stranglerfig/migrator/internal/stats/sketch"
)

var durations = rapid.Custom(func(t *rapid.T) time.Duration {
	return time.Duration(math.Exp(rapid.Float64Range(math.Log(1e3), math.Log(1e12)).Draw(t, "ln ns")))
})

func sketchOf(ds []time.Duration) *sketch.Sketch {
	var s sketch.Sketch
	for _, d := range ds {
		s.Add(d, 1)
	}
	return &s
}

func encoded(t interface{ Fatal(...any) }, s *sketch.Sketch) []byte {
	b, err := s.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSketchQuantilesAreWithinTheirError(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		ds := rapid.SliceOfN(durations, 1, 300).Draw(t, "durations")
		q := rapid.Float64Range(0, 1).Draw(t, "q")
		got, ok := sketchOf(ds).Quantile(q)
		slices.Sort(ds)
		want := ds[max(0, int(math.Ceil(q*float64(len(ds))))-1)]
		if !ok || math.Abs(float64(got-want)) > sketch.RelativeError*float64(want) {
			t.Fatalf("quantile %v of %v: %v, %v", q, ds, got, ok)
		}
	})
}

// A sample may be cut anywhere: the parts' sketches merge to the whole's, in either order, and
// survive encoding and decoding unchanged.
func TestSketchesMergeAndEncodeExactly(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		ds := rapid.SliceOf(durations).Draw(t, "durations")
		cut := rapid.IntRange(0, len(ds)).Draw(t, "cut")
		whole := encoded(t, sketchOf(ds))
		for _, parts := range [][2][]time.Duration{{ds[:cut], ds[cut:]}, {ds[cut:], ds[:cut]}} {
			a, b := new(sketch.Sketch), sketchOf(parts[1])
			if err := a.UnmarshalBinary(encoded(t, sketchOf(parts[0]))); err != nil {
				t.Fatal(err)
			}
			a.Merge(b)
			if got := encoded(t, a); !bytes.Equal(got, whole) || a.Count() != uint64(len(ds)) {
				t.Fatalf("merged %x, want %x", got, whole)
			}
			if b.Count() != uint64(len(parts[1])) {
				t.Fatal("Merge changed what it read")
			}
		}
	})
}

func TestSketchWithoutValues(t *testing.T) {
	t.Parallel()
	var s sketch.Sketch
	s.Merge(&sketch.Sketch{})
	s.Add(time.Second, 0)
	if _, ok := s.Quantile(0.5); ok || s.Count() != 0 {
		t.Error("an empty sketch has a median")
	}
	s.Add(time.Second, 3)
	for _, q := range []float64{-0.1, 1.1, math.NaN()} {
		if d, ok := s.Quantile(q); ok {
			t.Errorf("quantile %v is %v", q, d)
		}
	}
}

func TestSketchCountIsBounded(t *testing.T) {
	t.Parallel()
	var s sketch.Sketch
	s.Add(time.Second, 1<<53-1)
	s.Add(time.Minute, math.MaxUint64)
	s.Merge(&s)
	if s.Count() != 1<<53 {
		t.Errorf("counts %d, want 2^53", s.Count())
	}
	if err := new(sketch.Sketch).UnmarshalBinary(encoded(t, &s)); err != nil {
		t.Error(err)
	}
}

// The encoding is stored in the state database: this release must read what an earlier one
// wrote.
func TestSketchEncodingIsStable(t *testing.T) {
	t.Parallel()
	var s sketch.Sketch
	s.Add(time.Microsecond, 1)
	s.Add(time.Millisecond, 300)
	s.Add(time.Hour, 2)
	want := []byte{1, 3, 1, 1, 0xf1, 0x02, 0xac, 0x02, 0xe6, 0x05, 2}
	if got := encoded(t, &s); !bytes.Equal(got, want) {
		t.Errorf("encoded %#v, want %#v", got, want)
	}
}

func TestSketchRefusesOtherEncodings(t *testing.T) {
	t.Parallel()
	for name, b := range map[string][]byte{
		"nothing":             {},
		"another version":     {2, 0},
		"version zero":        {0, 0},
		"no number":           {1},
		"half a number":       {1, 0x80},
		"a long number":       {1, 0x80, 0},
		"too many buckets":    {1, 0xff, 0xff, 0x03},
		"a missing count":     {1, 1, 1},
		"a step of zero":      {1, 1, 0, 1},
		"a step out of range": {1, 1, 0xd9, 0x08, 1},
		"a step that wraps":   {1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1},
		"a count of zero":     {1, 1, 1, 0},
		"a count too large":   {1, 1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1},
		"a bucket missing":    {1, 2, 1, 1},
		"a byte too many":     {1, 1, 1, 1, 0},
	} {
		var s sketch.Sketch
		s.Add(time.Second, 7)
		if err := s.UnmarshalBinary(b); err == nil {
			t.Errorf("%s is decoded", name)
		} else if s.Count() != 7 {
			t.Errorf("%s: the sketch has changed", name)
		}
	}
}

func FuzzSketch(f *testing.F) {
	f.Add([]byte{1, 0})
	f.Add([]byte{1, 3, 1, 1, 0xf1, 0x02, 0xac, 0x02, 0xe6, 0x05, 2})
	f.Add([]byte{1, 1, 0xd8, 0x08, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var s sketch.Sketch
		if s.UnmarshalBinary(b) != nil {
			return
		}
		if got := encoded(t, &s); !bytes.Equal(got, b) {
			t.Errorf("%x is decoded, and encoded as %x", b, got)
		}
		if _, ok := s.Quantile(0.99); ok != (s.Count() > 0) {
			t.Error("a quantile of nothing, or none of something")
		}
	})
}

// Many goroutines record while others drain: every record arrives, once.
func TestRecorderLosesNothing(t *testing.T) {
	t.Parallel()
	const writers, each = 8, 20_000
	var r sketch.Recorder
	var writing, draining sync.WaitGroup
	var drained [2]sketch.Sketch
	done := make(chan struct{})
	for i := range drained {
		draining.Go(func() {
			for {
				r.Drain(&drained[i])
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for w := range writers {
		writing.Go(func() {
			for i := range each {
				r.Record(time.Duration(w*i) * time.Microsecond)
			}
		})
	}
	writing.Wait()
	close(done)
	draining.Wait()
	var got, want sketch.Sketch
	r.Drain(&got)
	got.Merge(&drained[0])
	got.Merge(&drained[1])
	for w := range writers {
		for i := range each {
			want.Add(time.Duration(w*i)*time.Microsecond, 1)
		}
	}
	if !bytes.Equal(encoded(t, &got), encoded(t, &want)) {
		t.Errorf("%d drained, want the %d that were recorded", got.Count(), want.Count())
	}
}

func TestRecorderIsSmallAndAllocatesNothing(t *testing.T) {
	var r sketch.Recorder
	if size := unsafe.Sizeof(r); size > 8<<10 {
		t.Errorf("a Recorder takes %d bytes", size)
	}
	if n := testing.AllocsPerRun(1000, func() { r.Record(3 * time.Millisecond) }); n != 0 {
		t.Errorf("a record allocates %v times", n)
	}
}

func BenchmarkRecord(b *testing.B) {
	var r sketch.Recorder
	d := time.Microsecond
	for b.Loop() {
		r.Record(d)
		d = (d*5 + 1) & (1<<36 - 1)
	}
}

func BenchmarkRecordInParallel(b *testing.B) {
	var r sketch.Recorder
	b.SetParallelism(4)
	b.RunParallel(func(pb *testing.PB) {
		d := time.Microsecond
		for pb.Next() {
			r.Record(d)
			d = (d*5 + 1) & (1<<36 - 1)
		}
	})
}

func BenchmarkDrain(b *testing.B) {
	var r sketch.Recorder
	var s sketch.Sketch
	for b.Loop() {
		r.Record(time.Millisecond)
		r.Drain(&s)
	}
}
