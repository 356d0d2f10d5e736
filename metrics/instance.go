package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/internal/stats/sketch"
)

// Observed is implemented by *dual.Instance: its counts since it began. Counts and sketches
// only grow, and each series occurs once.
type Observed interface {
	Observed() []telemetry.Count
}

// NewInstance returns the collector of one application instance's operations, for the
// application's own registry. If a process has several migrations, each needs its own.
func NewInstance(i Observed, migration string) prometheus.Collector {
	return &instance{
		of: i, operations: operations.of(migration), durations: durations.of(migration),
		added: added.of(migration), compared: compared.of(migration),
	}
}

type instance struct {
	of                                     Observed
	operations, durations, added, compared *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *instance) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.operations, c.durations, c.added, c.compared} {
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
			send(out, c.durations, n.Latency, string(n.Store), string(n.Operation), string(n.Role), string(n.Outcome))
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
	if waits.Count() > 0 {
		send(out, c.added, waits)
	}
}

func send(out chan<- prometheus.Metric, d *prometheus.Desc, s *sketch.Sketch, labels ...string) {
	h, err := newHistogram(d, s, labels...)
	if err != nil {
		h = prometheus.NewInvalidMetric(d, err)
	}
	out <- h
}

func counter(out chan<- prometheus.Metric, d *prometheus.Desc, n uint64, labels ...string) {
	out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
}
