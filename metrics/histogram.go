package metrics

import (
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"

	"github.com/stranglerfig/migrator/internal/stats/sketch"
)

// A native histogram of this schema has eight buckets to each doubling, 9 % wide: the
// resolution of client_golang's usual factor of 1.1. The sketch's buckets are 2 % wide, and
// their limits do not coincide with the histogram's. So a duration within 1 % of a limit may
// be counted on its other side, and a quantile has up to 1 % more error than the histogram's
// own 9 %. A finer schema would be finer than the measurement.
const nativeSchema = 3

// The sketch's shortest is 1 µs; no measured duration is shorter than this.
const zeroThreshold = 1e-7

// Limits of classic buckets, in seconds; the same 1 % holds at each.
var classicBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// histogram exposes a sketch as a classic and a native histogram. Its sum, of the sketch's
// durations, is within 1 %.
type histogram struct {
	desc   *prometheus.Desc
	native prometheus.Metric
	values *dto.Histogram // the classic part
}

func newHistogram(d *prometheus.Desc, s *sketch.Sketch, labels ...string) (prometheus.Metric, error) {
	native, classic, sum := buckets(s)
	n, err := prometheus.NewConstNativeHistogram(d, s.Count(), sum, native, nil, 0, nativeSchema, zeroThreshold, time.Time{}, labels...)
	if err != nil {
		return nil, err
	}
	h := &histogram{desc: d, native: n, values: &dto.Histogram{}}
	for i, limit := range classicBuckets {
		h.values.Bucket = append(h.values.Bucket, &dto.Bucket{UpperBound: proto.Float64(limit), CumulativeCount: proto.Uint64(classic[i])})
	}
	return h, nil
}

// buckets sorts a sketch into native buckets, where index i ends at 2^(i/8) seconds,
// and classic ones, cumulative.
func buckets(s *sketch.Sketch) (native map[int]int64, classic []uint64, sum float64) {
	native, classic = map[int]int64{}, make([]uint64, len(classicBuckets))
	for d, n := range s.All() {
		v := d.Seconds()
		native[int(math.Ceil(math.Log2(v)*(1<<nativeSchema)))] += int64(n)
		for i, limit := range classicBuckets {
			if v <= limit {
				classic[i] += n
			}
		}
		sum += v * float64(n)
	}
	return native, classic, sum
}

// Desc implements prometheus.Metric.
func (h *histogram) Desc() *prometheus.Desc { return h.desc }

// Write implements prometheus.Metric. A scrape in the text format gets the classic part alone.
func (h *histogram) Write(out *dto.Metric) error {
	if err := h.native.Write(out); err != nil {
		return err
	}
	out.Histogram.CreatedTimestamp = nil // of the instance's first operation; not known
	out.Histogram.Bucket = h.values.Bucket
	return nil
}
