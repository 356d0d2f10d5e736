package page

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
)

const (
	seriesFor  = time.Hour
	seriesStep = 30 * time.Second
	// bounds are the newest evaluations of the gate on mismatches that a chart has.
	bounds = 120
	// seenEvery is how far apart samples of what the state keeps no history of are.
	seenEvery, seenMost = 10 * time.Second, 360
)

// series are what the charts show.
type series struct {
	Bounds []phases.Evaluation // of the gate on mismatches, oldest first
	Timed  []timed
	Seen   []seen
}

// timed is what the instances reported in a stretch of time.
type timed struct {
	At             time.Time
	Compared       uint64
	Differ         uint64
	Legacy, Target float64 // the 95th percentile of reads, in seconds; NaN: none was timed
}

// seen is what this process saw at a moment: the state keeps no history of it.
type seen struct {
	At       time.Time
	Journal  int64
	Capture  float64 // seconds that change capture is behind; NaN: there is none
	Coverage float64
}

func readSeries(ctx context.Context, store *state.Store, s app.Status, c reconcile.Coverage, before *background) (all series, err error) {
	name, now := s.Status.Migration, s.Snapshot.Now
	if all.Bounds, err = store.Evaluations(ctx, name, state.EvaluationFilter{Kind: phases.GateKind, Name: phases.GateConsistency, Since: now.Add(-seriesFor), Limit: bounds}); err != nil {
		return all, err
	}
	slices.Reverse(all.Bounds)
	buckets, err := store.Observed(ctx, name, now.Add(-seriesFor))
	if err != nil {
		return all, err
	}
	all.Timed = timedOf(buckets)
	if before != nil {
		all.Seen = before.Series.Seen
	}
	if n := len(all.Seen); n == 0 || now.Sub(all.Seen[n-1].At) >= seenEvery {
		one := seen{At: now, Journal: s.Status.JournalKeys, Capture: math.NaN(), Coverage: c.Clean}
		if s.Snapshot.Capture != nil && s.Capture.On() {
			one.Capture = s.Snapshot.Capture.Behind(now).Seconds()
		}
		// A copy: pictures that are still shown have the former one.
		all.Seen = append(slices.Clone(all.Seen[max(0, n-seenMost+1):]), one)
	}
	return all, nil
}

// timedOf sums buckets, which are sorted, into stretches of one length.
func timedOf(buckets []telemetry.Bucket) (all []timed) {
	for len(buckets) > 0 {
		at := buckets[0].Began.Truncate(seriesStep)
		n := slices.IndexFunc(buckets, func(b telemetry.Bucket) bool { return !b.Began.Truncate(seriesStep).Equal(at) })
		if n < 0 {
			n = len(buckets)
		}
		stretch := buckets[:n]
		buckets = buckets[n:]
		compared := func(o telemetry.Outcome) uint64 {
			return telemetry.N(stretch, telemetry.Series{Operation: telemetry.Comparison, Role: telemetry.Shadow, Outcome: o})
		}
		t := timed{At: at, Differ: compared(telemetry.Mismatch) + compared(telemetry.LostWrite)}
		t.Compared = compared(telemetry.Agreed) + compared(telemetry.Lagged) + t.Differ
		t.Legacy, t.Target = p95(stretch, telemetry.Legacy), p95(stretch, telemetry.Target)
		all = append(all, t)
	}
	return all
}

func p95(b []telemetry.Bucket, of telemetry.Store) float64 {
	d, ok := telemetry.Latency(b, telemetry.Series{Operation: telemetry.Read, Store: of}).Quantile(0.95)
	if !ok {
		return math.NaN()
	}
	return d.Seconds()
}
