package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Reconcile is the result of a finished reconcile run, for node exporter.
type Reconcile struct {
	Migration string
	LastClean time.Time // zero: never
	Checked   int64
	Different int64
	Coverage  float64 // 0 to 1
}

// WriteReconcile writes a file for node exporter's textfile collector, with the daemon's
// metric names. It replaces the file atomically: a scrape never reads a part of it.
func WriteReconcile(path string, r Reconcile) error {
	registry := prometheus.NewRegistry()
	if err := registry.Register(reconcileFile{r}); err != nil {
		return err
	}
	return prometheus.WriteToTextfile(path, registry)
}

type reconcileFile struct{ r Reconcile }

func (f reconcileFile) Describe(out chan<- *prometheus.Desc) {
	for _, m := range []*metric{lastClean, reconciled, coverage} {
		out <- m.desc
	}
}

func (f reconcileFile) Collect(out chan<- prometheus.Metric) {
	r := f.r
	if !r.LastClean.IsZero() {
		gauge(out, lastClean, float64(r.LastClean.UnixMilli())/1000, r.Migration)
	}
	gauge(out, reconciled, float64(r.Checked), r.Migration, "checked")
	gauge(out, reconciled, float64(r.Different), r.Migration, "different")
	gauge(out, coverage, r.Coverage, r.Migration)
}
