package judge

import (
	"fmt"
	"math"
	"time"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/internal/stats"
	"github.com/stranglerfig/migrator/internal/stats/sketch"
	"github.com/stranglerfig/migrator/phases"
)

// timings is a sketch that JSON has in the sketch's own encoding.
type timings struct{ *sketch.Sketch }

// MarshalText implements encoding.TextMarshaler.
func (s timings) MarshalText() ([]byte, error) {
	raw, err := s.AppendBinary(nil)
	return encode64(raw), err
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *timings) UnmarshalText(text []byte) error {
	raw, err := decode64(text)
	if err != nil {
		return err
	}
	s.Sketch = new(sketch.Sketch)
	return s.UnmarshalBinary(raw)
}

// latencyConfidence is the confidence of a latency's bound in one evaluation.
const latencyConfidence = 0.999

// addedLatency is the gate on how long a caller of a write waits after legacy has it.
type addedLatency struct {
	Durations timings   `json:"durations"`
	Limit     float64   `json:"limit"` // seconds, of the 95th percentile
	Since     time.Time `json:"since,omitzero"`
}

func addedLatencyOf(b []telemetry.Bucket, limit phases.Duration, since time.Time) *addedLatency {
	return &addedLatency{
		Since:     since,
		Durations: timings{telemetry.Latency(b, telemetry.Series{Operation: telemetry.Write, Store: telemetry.Both, Role: telemetry.Added})},
		Limit:     time.Duration(limit).Seconds(),
	}
}

func (a *addedLatency) evaluate() result {
	const q = 0.95
	bounds := stats.QuantileBounds(a.Durations.Sketch, q, latencyConfidence)
	f := result{Verdict: phases.Inconclusive, Samples: int64(bounds.N), Bound: bounds.High.Seconds(), Limit: a.Limit}
	value, ok := a.Durations.Quantile(q)
	if !ok {
		f.Verdict, f.Detail = phases.NoData, "no write has been timed in this epoch"
		return f
	}
	f.Value = value.Seconds()
	f.Detail = fmt.Sprintf("writes wait %s more at the 95th percentile, of %d timed", short(value), f.Samples)
	limit := seconds(a.Limit)
	switch {
	case bounds.High == math.MaxInt64:
		f.Detail += fmt.Sprintf("; a bound takes %d", stats.QuantileSample(q, latencyConfidence))
	case bounds.High <= limit:
		f.Verdict = phases.Pass
		f.Detail += fmt.Sprintf(": at most %s, limit %s", short(bounds.High), short(limit))
	default:
		if bounds.Low > limit {
			f.Verdict = phases.Fail
		}
		f.Detail += fmt.Sprintf(": %s to %s, limit %s", short(bounds.Low), short(bounds.High), short(limit))
	}
	return f
}

// latency is the trigger on the target's 99th percentile of reads.
type latency struct {
	Windows []readPair `json:"windows"`
	Ratio   float64    `json:"ratio"`
	Ceiling float64    `json:"ceiling,omitempty"` // seconds; 0: none
}

// readPair has the durations of both stores' reads in the same period.
type readPair struct {
	Seconds float64 `json:"seconds"`
	Target  timings `json:"target"`
	Legacy  timings `json:"legacy"`
}

func latencyOf(b []telemetry.Bucket, now time.Time, s phases.LatencyTrigger) *latency {
	x := &latency{Ratio: s.Ratio, Ceiling: time.Duration(s.Ceiling).Seconds()}
	for _, d := range []time.Duration{5 * time.Minute, recentWindow} {
		late := within(b, now, d)
		x.Windows = append(x.Windows, readPair{
			Seconds: d.Seconds(),
			Target:  readLatency(late, telemetry.Series{Store: telemetry.Target, Role: telemetry.Serving}),
			Legacy:  readLatency(late, telemetry.Series{Store: telemetry.Legacy}),
		})
	}
	return x
}

// readLatency leaves out reads that do not measure the store: a caller canceled, or the
// breaker was open.
func readLatency(b []telemetry.Bucket, of telemetry.Series) timings {
	sum := new(sketch.Sketch)
	of.Operation = telemetry.Read
	for _, of.Outcome = range []telemetry.Outcome{telemetry.OK, telemetry.Failed, telemetry.TimedOut} {
		sum.Merge(telemetry.Latency(b, of))
	}
	return timings{sum}
}

func (x *latency) evaluate() result {
	const q = 0.99
	f := result{Verdict: phases.NoData, Limit: x.Ratio, Detail: "too few timed reads of both stores lately"}
	for _, w := range x.Windows {
		r := stats.RatioExceeds(w.Target.Sketch, w.Legacy.Sketch, q, x.Ratio, latencyConfidence)
		both := int64(r.Target.N)
		if x.Ceiling == 0 {
			both = int64(min(r.Target.N, r.Legacy.N))
		}
		f.Samples = max(f.Samples, both)
		target, ok := w.Target.Quantile(q)
		legacy, both2 := w.Legacy.Quantile(q)
		if !ok {
			continue
		}
		in := short(seconds(w.Seconds))
		if ceiling := seconds(x.Ceiling); ceiling > 0 && r.Target.Low > ceiling {
			f.Verdict, f.Value, f.Bound, f.Limit = phases.Firing, target.Seconds(), r.Target.Low.Seconds(), x.Ceiling
			f.Detail = fmt.Sprintf("the target's 99th percentile of reads in %s is %s: at least %s, ceiling %s", in, short(target), short(r.Target.Low), short(ceiling))
			return f
		}
		if !both2 || legacy == 0 {
			if x.Ceiling > 0 && f.Verdict == phases.NoData {
				f.Verdict, f.Detail = phases.Quiet, fmt.Sprintf("the target's 99th percentile of reads in %s is %s; legacy has none", in, short(target))
			}
			continue
		}
		f.Value, f.Bound = target.Seconds()/legacy.Seconds(), r.Target.Low.Seconds()/r.Legacy.High.Seconds()
		f.Detail = fmt.Sprintf("99th percentile of reads in %s: target %s (at least %s), legacy %s (at most %s), limit %g times", in, short(target), short(r.Target.Low), short(legacy), upTo(r.Legacy.High), x.Ratio)
		f.Verdict = phases.Quiet
		if r.Exceeds {
			f.Verdict = phases.Firing
			return f
		}
	}
	return f
}

func upTo(d time.Duration) string {
	if d == math.MaxInt64 {
		return "unknown"
	}
	return short(d)
}
