package sketch_test

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/stranglerfig/migrator/internal/stats/sketch"
)

func TestAllYieldsEveryDuration(t *testing.T) {
	t.Parallel()
	for range new(sketch.Sketch).All() {
		t.Fatal("an empty sketch is not empty")
	}
	rapid.Check(t, func(t *rapid.T) {
		ds := rapid.SliceOfN(durations, 1, 300).Draw(t, "durations")
		var last time.Duration
		var n uint64
		var sum, want float64
		for d, count := range sketchOf(ds).All() {
			if d <= last || count == 0 {
				t.Fatalf("%d of %v after %v", count, d, last)
			}
			last, n, sum = d, n+count, sum+float64(d)*float64(count)
		}
		for _, d := range ds {
			want += float64(d)
		}
		if n != uint64(len(ds)) || math.Abs(sum-want) > sketch.RelativeError*want {
			t.Fatalf("%d durations that sum up to %v, want %d and %v", n, sum, len(ds), want)
		}
		for range sketchOf(ds).All() {
			break // which must not go on
		}
	})
}
