// Package metrics exports the status of migrations to Prometheus. It reads the state database
// at each scrape, so no value can be out of date. Keys and epochs are values, never labels, so
// that the number of series stays small.
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

// Reading is the status of one migration at a scrape. The zero Reading is a migration that has
// not been applied, which has no series.
type Reading struct {
	Snapshot    phases.Snapshot     // with the newest evaluation of each gate
	Settings    phases.Settings     // those that are applied
	Triggers    []phases.Evaluation // the newest evaluation of each
	Transitions []Transition        // the complete history
	LastClean   time.Time           // when the newest reconcile run without a difference finished; zero: never
	Coverage    float64             // share of legacy that clean runs have checked, 0 ... 1
	LastDrill   time.Time           // when the newest drill passed; zero: never
	Led         bool                // some daemon leads the migration
	Checks      []Check             // as the leading daemon last made them
	Checked     time.Time           // when; zero: never
	Waiting     int64               // messages to webhooks that are not delivered
	WaitingFrom time.Time           // when the oldest of them was written; zero: there is none
	Jobs        []Job               // that have begun and are not done
}

// Check is a check of the servers that the leading daemon repeats.
type Check struct {
	Name, Result string
	Worse        bool // than when the migration file was applied
}

// Job is a long job that has begun and is not done.
type Job struct {
	Name, State string
	Share       float64   // of its work that is done, from 0 to 1
	Due         time.Time // zero: not known
}

// Collector reads the state database at each scrape. If it can't, migrator_state_up is 0 and
// every series that depends on it is absent: alert on the former.
type Collector struct {
	Migrations []string
	Read       func(ctx context.Context, migration string) (Reading, error)
	Leads      func(migration string) bool // this process leads; may be nil
	Timeout    time.Duration               // of one scrape's reading; 0: 5 s
	Log        *slog.Logger                // may be nil
}

// Handler serves the collector's metrics and those of the process, from a registry of its own.
func Handler(c *Collector) (http.Handler, error) { return handler(c) }

func handler(c prometheus.Collector) (http.Handler, error) {
	r := prometheus.NewRegistry()
	for _, each := range []prometheus.Collector{
		c, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := r.Register(each); err != nil {
			return nil, err
		}
	}
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{MaxRequestsInFlight: 4, EnableOpenMetrics: true}), nil
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(out chan<- *prometheus.Desc) {
	describe(daemon, out)
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
				c.Log.Warn("scrape: state database unreachable", "migration", m, "error", err)
			}
			continue
		}
		collect(out, m, reading)
	}
	gauge(out, stateUp, up)
}

func collect(out chan<- prometheus.Metric, m string, r Reading) {
	st, f := r.Snapshot.Status, r.Snapshot.Fleet
	if st.Migration == "" {
		return
	}
	gauge(out, phaseInfo, 1, m, string(st.Route.Phase))
	gauge(out, phaseEpoch, float64(st.Route.Epoch), m)
	gauge(out, readPercent, readShare(st.Route), m)
	gauge(out, fleet, float64(f.Live-f.Behind), m, "settled")
	gauge(out, fleet, float64(f.Behind), m, "behind")
	gauge(out, fleet, float64(len(f.Lapsed)), m, "lapsed")
	gauge(out, fleet, float64(len(f.Other)), m, "other")
	changed := map[bool]int{}
	for _, c := range st.Columns {
		changed[c.Broken]++
	}
	gauge(out, columns, float64(changed[true]), m, "broken")
	gauge(out, columns, float64(changed[false]), m, "unmoved")
	collectTransitions(out, m, r.Transitions)
	gauge(out, led, truth(r.Led), m)
	for _, c := range r.Checks {
		gauge(out, checkResult, 1, m, c.Name, c.Result)
		gauge(out, checkWorse, truth(c.Worse), m, c.Name)
	}
	if !r.Checked.IsZero() {
		gauge(out, checkedLast, seconds(r.Checked), m)
	}
	gauge(out, waiting, float64(r.Waiting), m)
	if !r.WaitingFrom.IsZero() {
		gauge(out, waitingFrom, seconds(r.WaitingFrom), m)
	}
	for _, job := range r.Jobs {
		gauge(out, jobDone, job.Share, m, job.Name, job.State)
		if !job.Due.IsZero() {
			gauge(out, jobDue, seconds(job.Due), m, job.Name)
		}
	}
	gauge(out, latched, truth(r.Snapshot.Latch != nil), m)
	collectGates(out, m, r.Snapshot, r.Settings.Gates)
	collectTriggers(out, m, r.Triggers, r.Settings.Triggers)
	gauge(out, journalKeys, float64(st.JournalKeys), m)
	if b := r.Snapshot.Bypass; b != nil && st.Route.Phase.Compared() {
		gauge(out, bypassed, float64(b.Least), m)
		gauge(out, bypassBlind, truth(b.Why != ""), m)
		if b.Found() {
			gauge(out, bypassLast, seconds(b.Last), m)
		}
	}
	out <- prometheus.MustNewConstMetric(unreadable.desc, prometheus.CounterValue, float64(st.UnreadableWindows), m)
	gauge(out, returnKeys, float64(st.ReturnKeys), m)
	if !r.LastClean.IsZero() {
		gauge(out, lastClean, seconds(r.LastClean), m)
	}
	gauge(out, coverage, r.Coverage, m)
	if !r.LastDrill.IsZero() {
		gauge(out, lastDrill, seconds(r.LastDrill), m)
	}
	collectCapture(out, m, r)
	if run := r.Snapshot.Reconcile; run != nil {
		gauge(out, reconciled, float64(run.Checked), m, "checked")
		gauge(out, reconciled, float64(run.Differences), m, "different")
	}
	now := phases.ClassOf(st).Class
	for _, class := range []phases.Class{phases.LosslessNow, phases.LosslessAfter, phases.Unknown, phases.Impossible} {
		gauge(out, rollback, truth(class == now), m, string(class))
	}
}

func collectCapture(out chan<- prometheus.Metric, m string, r Reading) {
	c, now := r.Snapshot.Capture, r.Snapshot.Now
	if r.Settings.Capture.On() && r.Snapshot.Status.Route.Phase.Captured() {
		gauge(out, captureRuns, truth(c.Runs(now)), m)
		gauge(out, captureLost, truth(c != nil && c.Lost != ""), m)
	}
	if c == nil || c.Slot == "" {
		return
	}
	gauge(out, captureLag, float64(c.LagBytes), m)
	gauge(out, captureLate, c.Behind(now).Seconds(), m)
	gauge(out, captureWait, float64(c.Waiting), m)
	out <- prometheus.MustNewConstMetric(captured.desc, prometheus.CounterValue, float64(c.Applied), m)
	gauge(out, walRetained, float64(c.HeldBytes), m)
	if c.LimitBytes > 0 {
		gauge(out, walLimit, float64(c.LimitBytes), m)
	}
}

// readShare returns the share of keys that are read from the target.
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

func gauge(out chan<- prometheus.Metric, of *metric, value float64, labels ...string) {
	out <- prometheus.MustNewConstMetric(of.desc, prometheus.GaugeValue, value, labels...)
}

func truth(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
