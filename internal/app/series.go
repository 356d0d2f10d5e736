package app

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
)

const (
	seriesFor  = time.Hour
	seriesStep = 30 * time.Second
	// mostBounds is the most evaluations of a gate or trigger that are read.
	mostBounds = 120
	// seenEvery is how far apart samples of what the state keeps no history of are.
	seenEvery, seenMost = 10 * time.Second, 360
)

// Series are a migration's newest measurements, oldest first: what the page draws as charts and status as sparklines.
type Series struct {
	Timed []Timed
	Seen  []Seen
}

// Timed is what the instances reported in a stretch of time.
type Timed struct {
	At             time.Time
	Compared       uint64
	Differ         uint64
	Legacy, Target float64 // the 95th percentile of reads, in seconds; NaN: none was timed
}

// Seen is what this process saw at a moment: the state keeps no history of it.
type Seen struct {
	At       time.Time
	Journal  int64
	Capture  float64 // seconds that change capture is behind; NaN: there is none
	Coverage float64
}

// ReadSeries reads them. before are those that this process has read before.
func ReadSeries(ctx context.Context, store *state.Store, s Status, c reconcile.Coverage, before Series) (all Series, err error) {
	now := s.Snapshot.Now
	buckets, err := store.Observed(ctx, s.Status.Migration, now.Add(-seriesFor))
	if err != nil {
		return all, err
	}
	all.Timed = timedOf(buckets)
	all.Seen = before.Seen
	if n := len(all.Seen); n == 0 || now.Sub(all.Seen[n-1].At) >= seenEvery {
		one := Seen{At: now, Journal: s.Status.JournalKeys, Capture: math.NaN(), Coverage: c.Clean}
		if s.Snapshot.Capture != nil && s.Capture.On() {
			one.Capture = s.Snapshot.Capture.Behind(now).Seconds()
		}
		// A copy: the former one may still be shown.
		all.Seen = append(slices.Clone(all.Seen[max(0, n-seenMost+1):]), one)
	}
	return all, nil
}

// ReadBounds reads the evaluations of a gate or trigger in the last hour, oldest first.
func ReadBounds(ctx context.Context, store *state.Store, name string, kind phases.Kind, of string, now time.Time) ([]phases.Evaluation, error) {
	all, err := store.Evaluations(ctx, name, state.EvaluationFilter{Kind: kind, Name: of, Since: now.Add(-seriesFor), Limit: mostBounds})
	slices.Reverse(all)
	return all, err
}

// Measure is a measured gate of the next step, or a trigger that acts, with its evaluations in the last hour on the
// present route and migration file: others say nothing about the next step.
type Measure struct {
	Kind   phases.Kind
	Name   string
	Unit   Unit
	Limit  Limit
	Bounds []phases.Evaluation // oldest first; none: it was not evaluated
	Stale  bool                // the newest is so old that it opens no gate
}

// Limit is the side of its limit on which a measure is good.
type Limit string

// Limits.
const (
	AtMost  Limit = "at most"
	AtLeast Limit = "at least"
	NoLimit Limit = "" // the source answers with a verdict
)

// Unit is what the numbers of an evaluation count.
type Unit string

// Units.
const (
	UnitShare   Unit = "share" // 1 is all
	UnitSeconds Unit = "seconds"
	UnitTimes   Unit = "times"
	UnitNumber  Unit = ""
)

// ReadMeasures reads the measured gates of the next step that are on, then the triggers if they act.
func ReadMeasures(ctx context.Context, store *state.Store, m *migration.Config, s Status) (all []Measure, err error) {
	st, now := s.Status, s.Snapshot.Now
	add := func(one Measure, off string, w phases.Watch) {
		if err != nil || off != "" {
			return
		}
		one.Bounds, err = ReadBounds(ctx, store, st.Migration, one.Kind, one.Name, now)
		one.Bounds = slices.DeleteFunc(one.Bounds, func(e phases.Evaluation) bool {
			return e.Epoch != st.Route.Epoch || e.ConfigHash != st.ConfigHash
		})
		if n := len(one.Bounds); n > 0 {
			one.ofOneLimit(m.Triggers)
			n = len(one.Bounds)
			one.Stale = now.Sub(one.Bounds[n-1].At) > w.StaleAfter()
		}
		all = append(all, one)
	}
	if s.Next != nil {
		for _, g := range m.Gates.Before(st.Route.Phase, s.Next.To.Phase) {
			add(gateMeasure(m.Gates, g.Name), g.Off, g.Watch)
		}
	}
	if st.Route.Phase.TriggersAct() {
		for _, t := range m.Triggers.All() {
			add(triggerMeasure(m.Triggers, t.Name), t.Off, t.Watch)
		}
	}
	return all, err
}

func gateMeasure(s phases.GateSettings, name string) Measure {
	one := Measure{Kind: phases.GateKind, Name: name, Limit: AtMost}
	switch name {
	case phases.GateConsistency, phases.GateShadowWrites, phases.GateTargetReads:
		one.Unit = UnitShare
	case phases.GateAddedLatency, phases.GateDrill, phases.GateRunbook:
		one.Unit = UnitSeconds
	}
	for _, c := range s.Custom {
		if c.Name == name {
			one.Limit = limitOf(c.Below, c.Above) // it passes on this side
		}
	}
	return one
}

func triggerMeasure(s phases.TriggerSettings, name string) Measure {
	one := Measure{Kind: phases.TriggerKind, Name: name, Limit: AtMost}
	switch name {
	case phases.TriggerMismatches, phases.TriggerErrors:
		one.Unit = UnitShare
	case phases.TriggerLatency:
		one.Unit = UnitTimes
	}
	for _, c := range s.Custom {
		if c.Name == name {
			one.Limit = limitOf(c.Above, c.Below) // it fires on this side
		}
	}
	return one
}

// ofOneLimit leaves out evaluations against another limit than the newest's: the trigger latency compares ratios, and,
// where the target is slow, seconds with its ceiling.
func (m *Measure) ofOneLimit(s phases.TriggerSettings) {
	if m.Kind != phases.TriggerKind || m.Name != phases.TriggerLatency {
		return
	}
	limit := m.Bounds[len(m.Bounds)-1].Limit
	m.Bounds = slices.DeleteFunc(m.Bounds, func(e phases.Evaluation) bool { return e.Limit != limit })
	if ceiling := time.Duration(s.Latency.Ceiling); ceiling > 0 && limit == ceiling.Seconds() {
		m.Unit = UnitSeconds
	}
}

func limitOf(most, least *float64) Limit {
	switch {
	case most != nil:
		return AtMost
	case least != nil:
		return AtLeast
	}
	return NoLimit
}

// timedOf sums buckets, which are sorted, into stretches of one length.
func timedOf(buckets []telemetry.Bucket) (all []Timed) {
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
		t := Timed{At: at, Differ: compared(telemetry.Mismatch) + compared(telemetry.LostWrite)}
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
