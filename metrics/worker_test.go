package metrics_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/metrics"
)

func TestWorkerExportsItsCounts(t *testing.T) {
	t.Parallel()
	var w metrics.Worker
	w.Running.Add(2)
	w.Done.Add(5)
	w.Failed.Add(1)
	w.Checked.Add(123_456_789)
	handler, err := w.Handler("products")
	if err != nil {
		t.Fatal(err)
	}
	got := httptest.NewRecorder()
	handler.ServeHTTP(got, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody))
	for _, line := range []string{
		`migrator_worker_jobs_under_way{migration="products"} 2`,
		`migrator_worker_jobs_total{migration="products",result="done"} 5`,
		`migrator_worker_jobs_total{migration="products",result="failed"} 1`,
		`migrator_worker_records_total{migration="products"} 1.23456789e+08`,
		`go_goroutines `,
	} {
		if !strings.Contains(got.Body.String(), "\n"+line) {
			t.Errorf("no %s in\n%s", line, got.Body)
		}
	}
	for _, i := range metrics.WorkerInfos() {
		if !strings.Contains(got.Body.String(), "# HELP "+i.Name+" "+i.Help+"\n# TYPE "+i.Name+" "+i.Type+"\n") {
			t.Errorf("%s differs from the catalogue", i.Name)
		}
	}
	q := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody)
	q.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	got = httptest.NewRecorder()
	handler.ServeHTTP(got, q)
	if text := got.Body.String(); !strings.HasSuffix(text, "\n# EOF\n") || !strings.Contains(text, `migrator_worker_jobs_total{migration="products",result="done"} 5.0`) {
		t.Errorf("no OpenMetrics:\n%s", text)
	}
}
