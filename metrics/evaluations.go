package metrics

import (
	"math"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stranglerfig/migrator/phases"
)

// Transition is one change of route in the history.
type Transition struct {
	From, To   phases.Phase // the same at a step of a ramp
	Cause      phases.Cause
	At         time.Time
	Settled    time.Time // zero: not yet, or the next one came first
	Superseded bool      // the next one came first
}

var settleBuckets = []float64{0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30, 60, 120, 300, 900}

// collectTransitions recomputes the counters from the history at each scrape, so that a
// restarted process, or a new leader, continues where the last one was. It counts only
// transitions that can't change any more: a counter must not decrease.
func collectTransitions(out chan<- prometheus.Metric, m string, all []Transition) {
	type kind struct {
		from, to phases.Phase
		cause    phases.Cause
		outcome  string
	}
	counts := map[kind]float64{}
	newest := map[phases.Cause]time.Time{}
	buckets := map[float64]uint64{}
	for _, b := range settleBuckets {
		buckets[b] = 0
	}
	var settled uint64
	var sum float64
	for _, t := range all {
		if t.At.After(newest[t.Cause]) {
			newest[t.Cause] = t.At
		}
		switch {
		case !t.Settled.IsZero():
			counts[kind{t.From, t.To, t.Cause, "settled"}]++
			took := max(t.Settled.Sub(t.At).Seconds(), 0)
			settled++
			sum += took
			for _, b := range settleBuckets {
				if took <= b {
					buckets[b]++
				}
			}
		case t.Superseded:
			counts[kind{t.From, t.To, t.Cause, "superseded"}]++
		}
	}
	for k, n := range counts {
		out <- prometheus.MustNewConstMetric(transitions.desc, prometheus.CounterValue, n, m, string(k.from), string(k.to), string(k.cause), k.outcome)
	}
	for cause, at := range newest {
		gauge(out, lastMove, seconds(at), m, string(cause))
	}
	out <- prometheus.MustNewConstHistogram(settleSeconds.desc, settled, sum, buckets, m)
}

// collectGates exports of each gate what status shows: an evaluation of another epoch or configuration, or one that is
// too old, is no data.
func collectGates(out chan<- prometheus.Metric, m string, snapshot phases.Snapshot, settings phases.GateSettings) {
	for _, e := range snapshot.Evaluations {
		all := settings.All()
		at := slices.IndexFunc(all, func(g phases.Measured) bool { return g.Name == e.Name })
		if e.Kind != phases.GateKind || at < 0 || all[at].Off != "" {
			continue
		}
		verdict := all[at].Result(snapshot).Verdict
		for _, v := range []phases.Verdict{phases.Pass, phases.Fail, phases.Inconclusive, phases.NoData, phases.Error} {
			gauge(out, gateVerdict, truth(verdict == v), m, e.Name, string(v))
		}
		gauge(out, gateSamples, float64(e.Samples), m, e.Name)
		gauge(out, gateLast, seconds(e.At), m, e.Name)
		ratio := e.Bound / e.Limit
		if slices.ContainsFunc(settings.Custom, func(c phases.CustomGate) bool { return c.Name == e.Name && c.Above != nil }) {
			ratio = e.Limit / e.Bound // it passes above its limit
		}
		if measured := verdict != phases.NoData && verdict != phases.Error && e.Bounded(); measured && !math.IsNaN(ratio) && !math.IsInf(ratio, 0) {
			gauge(out, gateBound, ratio, m, e.Name)
		}
	}
}

// collectTriggers exports the triggers that are applied and not off: others are not evaluated any more.
func collectTriggers(out chan<- prometheus.Metric, m string, evaluations []phases.Evaluation, settings phases.TriggerSettings) {
	for _, e := range evaluations {
		on := slices.ContainsFunc(settings.All(), func(t phases.Armed) bool { return t.Name == e.Name && t.Off == "" })
		if e.Kind != phases.TriggerKind || !on {
			continue
		}
		for _, v := range []phases.Verdict{phases.Quiet, phases.Firing, phases.NoData, phases.Error} {
			gauge(out, triggerState, truth(e.Verdict == v), m, e.Name, string(v))
		}
		gauge(out, triggerLast, seconds(e.At), m, e.Name)
	}
}

func seconds(at time.Time) float64 { return float64(at.UnixMilli()) / 1000 }
