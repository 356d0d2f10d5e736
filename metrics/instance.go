package metrics

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/internal/stats/sketch"
)

// Observed is implemented by *dual.Instance: its counts since it began, and its circuit breakers. Counts
// and sketches only grow, and each series occurs once.
type Observed interface {
	Observed() []telemetry.Count
	Breakers() []telemetry.Breaker
}

// Exemplars is implemented by what traces the instance's operations, such as the module opentelemetry: the
// newest traces of attempts that are counted in the instance's latencies. Of two in the same bucket the
// later one is exported.
type Exemplars interface {
	Exemplars() []telemetry.Exemplar
}

// NewInstance returns the collector of one application instance's operations, for the
// application's own registry. If a process has several migrations, each needs its own. Its
// histograms have the exemplars of traced; a handler exports them in OpenMetrics
// (promhttp.HandlerOpts.EnableOpenMetrics) and protobuf only.
func NewInstance(i Observed, migration string, traced ...Exemplars) prometheus.Collector {
	return &instance{
		of: i, traced: traced, operations: operations.of(migration), durations: durations.of(migration),
		added: added.of(migration), compared: compared.of(migration), breakers: breakers.of(migration),
	}
}

type instance struct {
	of                                               Observed
	traced                                           []Exemplars
	operations, durations, added, compared, breakers *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *instance) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.operations, c.durations, c.added, c.compared, c.breakers} {
		out <- d
	}
}

// attempt is a series of operations without its outcome.
type attempt struct {
	store     telemetry.Store
	operation telemetry.Operation
	role      telemetry.Role
}

// Collect implements prometheus.Collector. Once a series has any outcome, its other outcomes
// are exported as 0: otherwise an alert on their increase would miss the first one.
func (c *instance) Collect(out chan<- prometheus.Metric) {
	results := map[telemetry.Outcome]uint64{}
	attempts := map[attempt]map[telemetry.Outcome]uint64{}
	waits := new(sketch.Sketch)
	exemplars, waited := c.exemplars()
	for _, n := range c.of.Observed() {
		switch {
		case n.Operation == telemetry.Change: // rows, not attempts
			continue
		case n.Operation == telemetry.Comparison:
			results[n.Outcome] += n.N
			continue
		case n.Role == telemetry.Added: // in addition to the writes counted by store
			if n.Latency != nil {
				waits.Merge(n.Latency)
			}
			continue
		}
		key := attempt{n.Store, n.Operation, n.Role}
		if attempts[key] == nil {
			attempts[key] = map[telemetry.Outcome]uint64{}
		}
		attempts[key][n.Outcome] += n.N
		if n.Latency != nil && n.Latency.Count() > 0 {
			send(out, c.durations, n.Latency, exemplars[n.Series], string(n.Store), string(n.Operation), string(n.Role), string(n.Outcome))
		}
	}
	for key, counts := range attempts {
		for _, o := range []telemetry.Outcome{telemetry.OK, telemetry.Failed, telemetry.TimedOut, telemetry.Rejected, telemetry.Cancelled, telemetry.Faulty} {
			counter(out, c.operations, counts[o], string(key.store), string(key.operation), string(key.role), string(o))
		}
	}
	for _, r := range []telemetry.Outcome{telemetry.Agreed, telemetry.Lagged, telemetry.Mismatch, telemetry.LostWrite, telemetry.Aborted, telemetry.Dropped} {
		counter(out, c.compared, results[r], string(r))
	}
	for _, b := range c.of.Breakers() {
		for _, state := range []telemetry.BreakerState{telemetry.BreakerClosed, telemetry.BreakerOpen, telemetry.BreakerHalfOpen} {
			value := 0.0
			if b.State == state {
				value = 1
			}
			out <- prometheus.MustNewConstMetric(c.breakers, prometheus.GaugeValue, value, b.Name, string(state))
		}
	}
	if waits.Count() > 0 {
		send(out, c.added, waits, waited)
	}
}

// exemplars returns those of each series, oldest first, and those of the time that writes waited, of
// all their outcomes.
func (c *instance) exemplars() (of map[telemetry.Series][]prometheus.Exemplar, waited []prometheus.Exemplar) {
	var all []telemetry.Exemplar
	for _, t := range c.traced {
		all = append(all, t.Exemplars()...)
	}
	slices.SortFunc(all, func(a, b telemetry.Exemplar) int { return a.At.Compare(b.At) })
	of = map[telemetry.Series][]prometheus.Exemplar{}
	for _, e := range all {
		one := prometheus.Exemplar{
			Value: e.Took.Seconds(), Timestamp: e.At,
			Labels: prometheus.Labels{"trace_id": e.TraceID, "span_id": e.SpanID},
		}
		if e.Role == telemetry.Added {
			waited = append(waited, one)
			continue
		}
		of[e.Series] = append(of[e.Series], one)
	}
	return of, waited
}

func send(out chan<- prometheus.Metric, d *prometheus.Desc, s *sketch.Sketch, exemplars []prometheus.Exemplar, labels ...string) {
	h, err := newHistogram(d, s, labels...)
	if err == nil && len(exemplars) > 0 {
		h, err = prometheus.NewMetricWithExemplars(h, exemplars...)
	}
	if err != nil {
		h = prometheus.NewInvalidMetric(d, err)
	}
	out <- h
}

func counter(out chan<- prometheus.Metric, d *prometheus.Desc, n uint64, labels ...string) {
	out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
}
