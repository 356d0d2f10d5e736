package metrics

import (
	"net/http"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// Worker has the counters of one migrator worker. The zero value is ready.
type Worker struct {
	Running atomic.Int64 // jobs that are being compared
	Done    atomic.Int64
	Failed  atomic.Int64 // jobs without a result
	Checked atomic.Int64 // records, in jobs that are done
}

// Handler serves the counters of the migration's worker, and metrics of the process.
func (w *Worker) Handler(migration string) (http.Handler, error) {
	return handler(&workerCollector{w, migration})
}

type workerCollector struct {
	of        *Worker
	migration string
}

// Describe implements prometheus.Collector.
func (c *workerCollector) Describe(out chan<- *prometheus.Desc) { describe(worker, out) }

// Collect implements prometheus.Collector.
func (c *workerCollector) Collect(out chan<- prometheus.Metric) {
	gauge(out, workerRunning, float64(c.of.Running.Load()), c.migration)
	counter(out, workerJobs.desc, uint64(c.of.Done.Load()), c.migration, "done")
	counter(out, workerJobs.desc, uint64(c.of.Failed.Load()), c.migration, "failed")
	counter(out, workerRecords.desc, uint64(c.of.Checked.Load()), c.migration)
}
