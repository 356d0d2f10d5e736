// Package metrics tells Prometheus where migrations stand. What it tells is read
// from the state when it is scraped, so nothing can be out of date; keys and epochs
// are values, never labels, so that the number of series stays small.
package metrics

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/stranglerfig/migrator/phases"
)

// Reading is one migration at the moment of a scrape. A zero Reading is one of a
// migration that has not been applied yet, of which nothing is told.
type Reading struct {
	Evidence  phases.Evidence
	LastClean time.Time // when the newest reconcile run without a difference finished; zero: never
}

// Collector reads the state at each scrape. If the state can't be read,
// migrator_state_up is 0 and all that would come from it is absent: an alert on
// the former is the one to have.
type Collector struct {
	Migrations []string
	Read       func(ctx context.Context, migration string) (Reading, error)
	Leads      func(migration string) bool // this process leads; may be nil
	Timeout    time.Duration               // of one scrape's reading; 0: 5 s
	Log        *slog.Logger                // may be nil
}

// Handler serves the collector's metrics and those of the process, from a registry of its own.
func Handler(c *Collector) (http.Handler, error) {
	r := prometheus.NewRegistry()
	for _, each := range []prometheus.Collector{
		c, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := r.Register(each); err != nil {
			return nil, err
		}
	}
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{MaxRequestsInFlight: 4}), nil
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("migrator_"+name, help, labels, nil)
}

var (
	stateUp      = desc("state_up", "1 if the state database could be read at this scrape.")
	leader       = desc("leader", "1 if this process leads the migration, 0 if it stands by.", "migration")
	phaseInfo    = desc("phase_info", "1 for the phase that the migration is in.", "migration", "phase")
	phaseEpoch   = desc("phase_epoch", "The epoch, which goes up with every change of route.", "migration")
	readPercent  = desc("read_percent", "Share of keys that the target answers for, in per cent.", "migration")
	fleet        = desc("fleet_instances", "Instances of the application: settled on the present epoch, behind it, or lapsed without leaving.", "migration", "state")
	journalKeys  = desc("journal_keys", "Keys whose copy in the target is known to be behind.", "migration")
	returnKeys   = desc("return_keys", "Keys that a rollback would first replay to legacy.", "migration")
	lastClean    = desc("reconcile_last_success_timestamp_seconds", "When the newest reconcile run without a difference finished.", "migration")
	reconciled   = desc("reconcile_records", "Records of the newest finished reconcile run: checked, and different.", "migration", "result")
	rollback     = desc("rollback_class", "1 for what a rollback would be now.", "migration", "class")
	descriptions = []*prometheus.Desc{
		stateUp, leader, phaseInfo, phaseEpoch, readPercent, fleet, journalKeys, returnKeys, lastClean, reconciled, rollback,
	}
)

// Describe implements prometheus.Collector.
func (c *Collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range descriptions {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	timeout := c.Timeout
	if timeout <= 0 {
		timeout = 5 * time.Second
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	up := 1.0
	for _, m := range c.Migrations {
		if c.Leads != nil {
			gauge(out, leader, truth(c.Leads(m)), m)
		}
		reading, err := c.Read(ctx, m)
		if err != nil {
			up = 0
			if c.Log != nil {
				c.Log.Warn("the state can't be read for a scrape", "migration", m, "error", err)
			}
			continue
		}
		collect(out, m, reading)
	}
	gauge(out, stateUp, up)
}

func collect(out chan<- prometheus.Metric, m string, r Reading) {
	st, f := r.Evidence.Standing, r.Evidence.Fleet
	if st.Migration == "" {
		return
	}
	gauge(out, phaseInfo, 1, m, string(st.Route.Phase))
	gauge(out, phaseEpoch, float64(st.Route.Epoch), m)
	gauge(out, readPercent, readShare(st.Route), m)
	gauge(out, fleet, float64(f.Live-f.Behind), m, "settled")
	gauge(out, fleet, float64(f.Behind), m, "behind")
	gauge(out, fleet, float64(len(f.Lapsed)), m, "lapsed")
	gauge(out, journalKeys, float64(st.JournalKeys), m)
	gauge(out, returnKeys, float64(st.ReturnKeys), m)
	if !r.LastClean.IsZero() {
		gauge(out, lastClean, float64(r.LastClean.UnixMilli())/1000, m)
	}
	if run := r.Evidence.Reconcile; run != nil {
		gauge(out, reconciled, float64(run.Checked), m, "checked")
		gauge(out, reconciled, float64(run.Differences), m, "different")
	}
	now := phases.ClassOf(st.Route.Phase, st.Reversible, st.ReturnKeys).Class
	for _, class := range []phases.Class{phases.LosslessNow, phases.LosslessAfter, phases.Impossible} {
		gauge(out, rollback, truth(class == now), m, string(class))
	}
}

// readShare is the share of keys that the target answers for.
func readShare(r phases.Route) float64 {
	switch r.Behaviour().Reads {
	case phases.ReadsSplit:
		return float64(r.Percent) / 100
	case phases.ReadsTarget:
		return 100
	default:
		return 0
	}
}

func gauge(out chan<- prometheus.Metric, d *prometheus.Desc, value float64, labels ...string) {
	out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
}

func truth(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
