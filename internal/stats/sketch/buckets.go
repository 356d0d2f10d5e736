// Package sketch counts durations so that quantiles of any sum of counts have a known relative
// error. It depends on nothing but the standard library, since applications link it with
// package dual.
package sketch

import (
	"math"
	"math/bits"
	"time"
)

// The buckets of a Sketch are those of DDSketch's logarithmic mapping (Masson, Rim and Lee,
// PVLDB 12, 2019), with 37 to each doubling: the limits are 2^(i/37) ns. 34.7 would give 1 %
// exactly. A whole number makes every octave alike, so that one small table of integers finds
// the bucket without a logarithm; the difference covers the rounding to whole nanoseconds.
const (
	perOctave = 37
	first     = 368  // 2^(368/37) ns = 986.2 ns: the bucket that 1 µs is in, and all below it
	buckets   = 1112 // up to 2^40 ns, 18 minutes; all above is in the last one
	least     = 987  // the lowest whole ns that is in the first bucket by its limits
	most      = 1<<40 - 1

	// RelativeError bounds how far a Sketch's quantile is from the duration that it
	// represents, as a share of that, from 1 µs to 2^40 ns (18 minutes).
	RelativeError = 0.01
)

// An octave's mantissas, cut into 64 cells. A cell is narrower than any bucket, so at
// most one limit is in it.
type cell struct {
	limit uint64 // the mantissa, scaled to 64 bits, from which on the bucket is the next one
	below int    // the bucket within the octave where the cell begins
}

var cells = func() (t [64]cell) {
	for c := range t {
		begin := 1 + float64(c)/64
		for mantissa(t[c].below+1) <= begin {
			t[c].below++
		}
		t[c].limit = math.MaxUint64 // unreachable: no mantissa is above most's
		if next := t[c].below + 1; next < perOctave {
			t[c].limit = uint64(math.Ldexp(mantissa(next), 63))
		}
	}
	return t
}()

func mantissa(i int) float64 { return math.Exp2(float64(i) / perOctave) }

// bucket returns the bucket of d, 0 … buckets-1.
func bucket(d time.Duration) int {
	ns := uint64(min(max(d, least), most))
	zeros := bits.LeadingZeros64(ns)
	m := ns << zeros
	c := &cells[m>>57&63]
	_, below := bits.Sub64(m, c.limit, 0)
	return (63-zeros)*perOctave + c.below + 1 - int(below) - first
}

// limits returns the values that a bucket represents: low ≤ value < high, in ns. The lowest
// bucket begins at 0, the highest has no end.
func limits(bucket int) (low, high float64) {
	at := func(i int) float64 { return math.Ldexp(mantissa(i%perOctave), i/perOctave) }
	low, high = at(bucket+first), at(bucket+first+1)
	if bucket == 0 {
		low = 0
	}
	if bucket == buckets-1 {
		high = math.Inf(1)
	}
	return low, high
}

// value returns the duration that is within RelativeError of all in its bucket.
func value(bucket int) time.Duration {
	low := math.Ldexp(mantissa((bucket+first)%perOctave), (bucket+first)/perOctave)
	high := low * mantissa(1)
	return time.Duration(math.Round(2 * low * high / (low + high)))
}
