package metrics_test

import (
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/internal/sources"
	"github.com/stranglerfig/migrator/internal/stats/sketch"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/metrics"
)

func TestMain(m *testing.M) { testenv.Main(m) }

var _ metrics.Observed = (*dual.Instance)(nil)

type counted []telemetry.Count

func (c counted) Observed() []telemetry.Count { return c }

func (c counted) Breakers() []telemetry.Breaker {
	if len(c) == 0 {
		return nil
	}
	return []telemetry.Breaker{{Name: "reads", State: telemetry.BreakerHalfOpen}, {Name: "writes", State: telemetry.BreakerClosed}}
}

type traced []telemetry.Exemplar

func (t traced) Exemplars() []telemetry.Exemplar { return t }

// spread returns n durations, evenly from 1 ms to 100 ms.
func spread(n int) (s *sketch.Sketch, sum float64) {
	s = new(sketch.Sketch)
	for i := range n {
		d := time.Millisecond + time.Duration(i)*99*time.Millisecond/time.Duration(n-1)
		s.Add(d, 1)
		sum += d.Seconds()
	}
	return s, sum
}

func series(op telemetry.Operation, store telemetry.Store, role telemetry.Role, outcome telemetry.Outcome) telemetry.Series {
	return telemetry.Series{Operation: op, Store: store, Role: role, Outcome: outcome}
}

func anInstance() counted {
	reads, _ := spread(10_000)
	waits, _ := spread(100)
	late := new(sketch.Sketch)
	late.Add(3*time.Second, 5)
	return counted{
		{Series: series(telemetry.Read, telemetry.Legacy, telemetry.Serving, telemetry.OK), N: 640_000, Latency: reads},
		{Series: series(telemetry.Read, telemetry.Target, telemetry.Shadow, telemetry.TimedOut), N: 7},
		{Series: series(telemetry.Write, telemetry.Both, telemetry.Added, telemetry.OK), N: 900, Latency: waits},
		{Series: series(telemetry.Write, telemetry.Both, telemetry.Added, telemetry.Failed), N: 5, Latency: late},
		{Series: series(telemetry.Comparison, telemetry.Both, telemetry.Shadow, telemetry.Agreed), N: 990},
		{Series: series(telemetry.Comparison, telemetry.Both, telemetry.Shadow, telemetry.Mismatch), N: 3},
	}
}

func TestInstanceExportsItsCounts(t *testing.T) {
	t.Parallel()
	r := prometheus.NewPedanticRegistry()
	products, sessions := metrics.NewInstance(anInstance(), "products"), metrics.NewInstance(counted{}, "sessions")
	r.MustRegister(products, sessions)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]metrics.Info{}
	for _, i := range metrics.Application() {
		known[i.Name] = i
	}
	got := map[string]float64{}
	for _, f := range families {
		info := known[f.GetName()]
		if f.GetHelp() != info.Help || strings.ToLower(f.GetType().String()) != info.Type {
			t.Errorf("%s is a %s, the catalogue has %+v", f.GetName(), f.GetType(), info)
		}
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				if !strings.Contains(" "+strings.Join(info.Labels, " ")+" ", " "+l.GetName()+" ") {
					t.Errorf("%s has a label %s", f.GetName(), l.GetName())
				}
				labels = append(labels, l.GetValue())
			}
			name := strings.TrimPrefix(f.GetName(), "migrator_") + "{" + strings.Join(labels, ", ") + "}"
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	want := map[string]float64{
		"operation_duration_seconds{products, read, ok, serving, legacy}": 10_000,
		"write_added_seconds{products}":                                   105,
		"breaker_state{reads, products, closed}":                          0,
		"breaker_state{reads, products, open}":                            0,
		"breaker_state{reads, products, half-open}":                       1,
		"breaker_state{writes, products, closed}":                         1,
		"breaker_state{writes, products, open}":                           0,
		"breaker_state{writes, products, half-open}":                      0,
	}
	for outcome, n := range map[string]float64{"ok": 640_000, "error": 0, "timeout": 0, "rejected": 0, "cancelled": 0, "faulty": 0} {
		want["operations_total{products, read, "+outcome+", serving, legacy}"] = n
	}
	for outcome, n := range map[string]float64{"ok": 0, "error": 0, "timeout": 7, "rejected": 0, "cancelled": 0, "faulty": 0} {
		want["operations_total{products, read, "+outcome+", shadow, target}"] = n
	}
	for result, n := range map[string]float64{"agreed": 990, "lagged": 0, "mismatch": 3, "lost": 0, "undone": 0, "dropped": 0} {
		want["compare_total{products, "+result+"}"], want["compare_total{sessions, "+result+"}"] = n, 0
	}
	compare(t, got, want)
	if !r.Unregister(products) {
		t.Error("an instance that has left can't be unregistered")
	}
}

// TestHistogramsMatchDurations: the buckets match the durations, to the documented error.
func TestHistogramsMatchDurations(t *testing.T) {
	t.Parallel()
	sketch, sum := spread(10_000)
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(metrics.NewInstance(counted{{Series: series(telemetry.Read, telemetry.Legacy, telemetry.Serving, telemetry.OK), N: 1, Latency: sketch}}, "products"))
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var h *dto.Histogram
	for _, f := range families {
		if f.GetName() == "migrator_operation_duration_seconds" {
			h = f.GetMetric()[0].GetHistogram()
		}
	}
	if h.GetSampleCount() != 10_000 || math.Abs(h.GetSampleSum()-sum) > 0.01*sum {
		t.Errorf("%d durations of %v s, want 10000 of %v", h.GetSampleCount(), h.GetSampleSum(), sum)
	}
	// shorter than a limit, as a share of all that are spread evenly
	share := func(limit float64) float64 { return min(max((limit-0.001)/0.099, 0), 1) * 10_000 }
	within := func(limit float64, n float64) {
		t.Helper()
		if low, high := share(limit*0.99)-2, share(limit*1.01)+2; n < low || n > high {
			t.Errorf("%v durations up to %v s, want %v to %v", n, limit, low, high)
		}
	}
	for _, b := range h.GetBucket() {
		within(b.GetUpperBound(), float64(b.GetCumulativeCount()))
	}
	index, n, cumulative, next := int32(0), int64(0), int64(0), 0
	for _, span := range h.GetPositiveSpan() {
		index += span.GetOffset()
		for range span.GetLength() {
			n += h.GetPositiveDelta()[next]
			cumulative += n
			next++
			within(math.Exp2(float64(index)/8), float64(cumulative))
			index++
		}
	}
	if cumulative != 10_000 || h.GetSchema() != 3 || h.GetZeroCount() != 0 {
		t.Errorf("%d in native buckets of schema %d, and %d at zero", cumulative, h.GetSchema(), h.GetZeroCount())
	}
}

// A Prometheus that scrapes native histograms gets them.
func TestPrometheusScrapesAnInstance(t *testing.T) {
	t.Parallel()
	r := prometheus.NewRegistry()
	r.MustRegister(metrics.NewInstance(anInstance(), "products"))
	exporter := httptest.NewServer(promhttp.HandlerFor(r, promhttp.HandlerOpts{}))
	t.Cleanup(exporter.Close)
	server := testenv.Prometheus(t, testenv.PrometheusOptions{Config: fmt.Sprintf(
		"scrape_configs: [{job_name: shop, scrape_interval: 1s, scrape_timeout: 1s, static_configs: [{targets: [%q]}]}]", strings.TrimPrefix(exporter.URL, "http://"))})
	ask := func(query string) float64 {
		t.Helper()
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		deadline := time.After(2 * time.Minute)
		for {
			got := (&sources.Prometheus{URL: server.URL(), Query: query}).Read(t.Context())
			if got.Verdict == "" {
				return got.Value
			}
			select {
			case <-tick.C:
			case <-deadline:
				t.Fatalf("%s: %s: %s", query, got.Verdict, got.Detail)
			}
		}
	}
	if got := ask(`histogram_quantile(0.9, migrator_operation_duration_seconds{operation="read"})`); math.Abs(got-0.0901) > 0.1*0.0901 {
		t.Errorf("the 90th percentile is %v s, want 0.0901 to 10 %%", got)
	}
	if got := ask(`sum(migrator_compare_total{migration="products", result=~"mismatch|lost"}) / sum(migrator_compare_total)`); math.Abs(got-3.0/993) > 1e-9 {
		t.Errorf("the share of mismatches is %v", got)
	}
}

// TestHistogramsHaveTheNewestExemplars: of one bucket the newest, in OpenMetrics and not in the text
// format, which has none.
func TestHistogramsHaveTheNewestExemplars(t *testing.T) {
	t.Parallel()
	reads := series(telemetry.Read, telemetry.Legacy, telemetry.Serving, telemetry.OK)
	noon := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	one := func(s telemetry.Series, took time.Duration, at int, trace string) telemetry.Exemplar {
		return telemetry.Exemplar{Series: s, Took: took, At: noon.Add(time.Duration(at) * time.Second), TraceID: trace, SpanID: "b7ad6b7169203331"}
	}
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(metrics.NewInstance(anInstance(), "products", traced{
		one(reads, 4*time.Millisecond, 2, "newer"), one(reads, 3*time.Millisecond, 1, "older"), one(reads, 40*time.Millisecond, 1, "slow"),
		one(series(telemetry.Write, telemetry.Both, telemetry.Added, telemetry.Failed), time.Minute, 3, "waited"),
		one(series(telemetry.Read, telemetry.Target, telemetry.Serving, telemetry.OK), time.Millisecond, 1, "a series without counts"),
	}))
	for format, want := range map[string][]string{
		"text/plain": nil,
		"application/openmetrics-text; version=1.0.0": {
			`operation_duration_seconds_bucket{migration="products",operation="read",outcome="ok",role="serving",store="legacy",le="0.005"} `, `trace_id="newer"} 0.004 `,
			`operation_duration_seconds_bucket{migration="products",operation="read",outcome="ok",role="serving",store="legacy",le="0.05"} `, `trace_id="slow"} 0.04 `,
			`write_added_seconds_bucket{migration="products",le="+Inf"} `, `trace_id="waited"} 60.0 `,
		},
	} {
		w := httptest.NewRecorder()
		q := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody)
		q.Header.Set("Accept", format)
		promhttp.HandlerFor(r, promhttp.HandlerOpts{EnableOpenMetrics: true}).ServeHTTP(w, q)
		var got []string
		for line := range strings.Lines(w.Body.String()) {
			if sample, exemplar, found := strings.Cut(line, " # "); found {
				if !strings.Contains(exemplar, `span_id="b7ad6b7169203331"`) {
					t.Errorf("no span: %s", exemplar)
				}
				exemplar = strings.NewReplacer(`span_id="b7ad6b7169203331"`, "", ",", "", "{", "").Replace(exemplar) // labels come in any order
				got = append(got, strings.TrimPrefix(sample, "migrator_"), exemplar)
			}
		}
		if w.Code != http.StatusOK || len(got) != len(want) {
			t.Fatalf("%s: %d, %d: %s", format, w.Code, len(got), strings.Join(got, "\n"))
		}
		for n := range got {
			if !strings.HasPrefix(got[n], want[n]) {
				t.Errorf("%s: got %q, want %q...", format, got[n], want[n])
			}
		}
	}
}
