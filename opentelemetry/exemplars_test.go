package opentelemetry_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/metrics"
	"github.com/stranglerfig/migrator/phases"
)

// TestPrometheusStoresExemplars: a Prometheus that scrapes the application has, for the latencies of reads, the
// identifier of a trace that the collector has.
func TestPrometheusStoresExemplars(t *testing.T) {
	t.Parallel()
	s := newShop(t, phases.Route{Phase: phases.Grace})
	registry := prometheus.NewRegistry()
	registry.MustRegister(metrics.NewInstance(s.Instance, "fruits", s.traced))
	handler := promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
	exporter := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/text" { // as a Prometheus asks that takes no native histograms
			q.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
		}
		handler.ServeHTTP(w, q)
	}))
	t.Cleanup(exporter.Close)
	timed := map[telemetry.Operation]bool{}
	for !timed[telemetry.Read] || !timed[telemetry.Write] { // of a sample: in the first window one in 64
		s.put()
		s.get()
		counted := map[telemetry.Series]bool{}
		for _, c := range s.Instance.Observed() {
			counted[c.Series] = c.Latency != nil
		}
		for _, e := range s.traced.Exemplars() {
			timed[e.Operation] = timed[e.Operation] || counted[e.Series] && e.Role != telemetry.Shadow
		}
	}
	job := func(path string) string {
		return fmt.Sprintf("{job_name: %s, metrics_path: /%s, scrape_interval: 1s, scrape_timeout: 1s, static_configs: [{targets: [%q]}]}", path, path, strings.TrimPrefix(exporter.URL, "http://"))
	}
	server := testenv.Prometheus(t, testenv.PrometheusOptions{Config: "scrape_configs: [" + job("text") + ", " + job("native") + "]"})
	for _, metric := range []string{
		`migrator_operation_duration_seconds{job="native"}`, `migrator_operation_duration_seconds_bucket{job="text"}`,
		`migrator_write_added_seconds{job="native"}`, `migrator_write_added_seconds_bucket{job="text"}`,
	} {
		found := exemplar(t, server.URL(), metric)
		got := s.flush()
		known := false
		for _, span := range got.spans {
			known = known || traceID(span) == found.Labels["trace_id"]
		}
		if v, err := strconv.ParseFloat(found.Value, 64); !known || err != nil || v <= 0 || len(found.Labels["span_id"]) != 16 {
			t.Errorf("%s: the collector has no trace of the exemplar %+v", metric, found)
		}
	}
}

type storedExemplar struct {
	Labels map[string]string
	Value  string
}

// exemplar waits for one in the Prometheus.
func exemplar(t *testing.T, server, metric string) storedExemplar {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		now := time.Now()
		query := url.Values{"query": {metric}, "start": {now.Add(-time.Hour).Format(time.RFC3339)}, "end": {now.Add(time.Hour).Format(time.RFC3339)}}
		q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server+"/api/v1/query_exemplars?"+query.Encode(), http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		w, err := http.DefaultClient.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		var reply struct {
			Status string
			Data   []struct{ Exemplars []storedExemplar }
		}
		err = json.NewDecoder(w.Body).Decode(&reply)
		_ = w.Body.Close()
		if err != nil || reply.Status != "success" {
			t.Fatalf("%s: %+v, %v", w.Status, reply, err)
		}
		for _, series := range reply.Data {
			if len(series.Exemplars) > 0 {
				return series.Exemplars[0]
			}
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatalf("Prometheus stores no exemplar of %s", metric)
		}
	}
}
