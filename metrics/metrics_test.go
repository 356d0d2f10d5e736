package metrics_test

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/stranglerfig/migrator/metrics"
	"github.com/stranglerfig/migrator/phases"
)

// scrape returns the series by "name{label value, ...}".
func scrape(t *testing.T, c *metrics.Collector) map[string]float64 {
	t.Helper()
	handler, err := metrics.Handler(c)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody))
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(w.Body)
	if err != nil || w.Code != http.StatusOK {
		t.Fatalf("%d: %v", w.Code, err)
	}
	series := map[string]float64{}
	for name, f := range families {
		if !strings.HasPrefix(name, "migrator_") {
			continue
		}
		at := slices.IndexFunc(metrics.Daemon(), func(i metrics.Info) bool { return i.Name == name })
		if at < 0 {
			t.Fatalf("%s is not in the catalogue", name)
		}
		info := metrics.Daemon()[at]
		if f.GetHelp() != info.Help || strings.ToLower(f.GetType().String()) != info.Type {
			t.Errorf("%s is a %s: %s", name, f.GetType(), f.GetHelp())
		}
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			if len(labels) != len(info.Labels) {
				t.Errorf("%s has labels %v, the catalogue %v", name, m.GetLabel(), info.Labels)
			}
			name := name + "{" + strings.Join(labels, ", ") + "}"
			if h := m.GetHistogram(); h != nil {
				series[name+" count"], series[name+" sum"] = float64(h.GetSampleCount()), h.GetSampleSum()
				continue
			}
			series[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue() // one of them
		}
	}
	if families["go_goroutines"] == nil {
		t.Error("no metric of the process itself")
	}
	return series
}

func reading() metrics.Reading {
	return metrics.Reading{
		LastClean: time.UnixMilli(1_900_000_000_500), Coverage: 0.25,
		Led: true, Checked: time.UnixMilli(1_900_000_000_500), Waiting: 3, WaitingFrom: time.UnixMilli(1_900_000_000_000),
		Jobs: []metrics.Job{
			{Name: "backfill", State: "running", Share: 0.4, Due: time.UnixMilli(1_900_000_060_000)},
			{Name: "repair", State: "interrupted", Share: 0.9},
		},
		Checks: []metrics.Check{{Name: "target: redis-eviction", Result: "refused", Worse: true}, {Name: "state: disk", Result: "ok"}},
		Snapshot: phases.Snapshot{
			Status: phases.Status{
				Migration: "products", Route: phases.Route{Phase: phases.Cutover, Percent: 2550, Epoch: 12}, JournalKeys: 7, UnreadableWindows: 2, Reversible: true,
				Columns: []phases.Column{{Change: "added"}, {Change: "dropped", Broken: true}, {Change: "null"}},
			},
			Fleet:     phases.Fleet{Live: 5, Behind: 2, Lapsed: []string{"x"}, Other: []string{"y"}},
			Reconcile: &phases.ReconcileResult{Run: 3, Checked: 1000, Differences: 4},
		},
	}
}

func TestScrapeExportsStatus(t *testing.T) {
	t.Parallel()
	retained := reading()
	retained.Snapshot.Status = phases.Status{
		Migration: "sessions", Route: phases.Route{Phase: phases.Retain, Epoch: 20}, Reversible: true, ReturnKeys: 9,
	}
	retained.Snapshot.Reconcile, retained.LastClean, retained.Coverage = nil, time.Time{}, 0
	retained.Led, retained.Checks, retained.Checked, retained.Waiting, retained.WaitingFrom = false, nil, time.Time{}, 0, time.Time{}
	retained.Jobs = nil
	got := scrape(t, &metrics.Collector{
		Migrations: []string{"products", "sessions", "unapplied"},
		Read: func(_ context.Context, m string) (metrics.Reading, error) {
			return map[string]metrics.Reading{"products": reading(), "sessions": retained}[m], nil
		},
		Leads: func(m string) bool { return m == "products" },
	})
	want := map[string]float64{
		`migrator_state_up{}`:                                      1,
		`migrator_leader{products}`:                                1,
		`migrator_phase_info{products, cutover}`:                   1,
		`migrator_phase_epoch{products}`:                           12,
		`migrator_read_percent{products}`:                          25.5,
		`migrator_fleet_instances{products, settled}`:              3,
		`migrator_fleet_instances{products, behind}`:               2,
		`migrator_fleet_instances{products, lapsed}`:               1,
		`migrator_fleet_instances{products, other}`:                1,
		`migrator_columns_changed{products, broken}`:               1,
		`migrator_columns_changed{products, unmoved}`:              2,
		`migrator_journal_keys{products}`:                          7,
		`migrator_return_keys{products}`:                           0,
		`migrator_reconcile_records{products, checked}`:            1000,
		`migrator_reconcile_records{products, different}`:          4,
		`migrator_rollback_class{lossless now, products}`:          1,
		`migrator_rollback_class{lossless after replay, products}`: 0,
		`migrator_rollback_class{impossible, products}`:            0,
		`migrator_rollback_class{unknown, products}`:               0,

		`migrator_reconcile_last_success_timestamp_seconds{products}`: 1_900_000_000.5,

		`migrator_rollback_latched{products}`:                0,
		`migrator_reconcile_coverage_ratio{products}`:        0.25,
		`migrator_transition_settle_seconds{products} count`: 0,
		`migrator_transition_settle_seconds{products} sum`:   0,

		`migrator_leader{sessions}`:                                0,
		`migrator_phase_info{sessions, retain}`:                    1,
		`migrator_phase_epoch{sessions}`:                           20,
		`migrator_read_percent{sessions}`:                          100,
		`migrator_fleet_instances{sessions, settled}`:              3,
		`migrator_fleet_instances{sessions, behind}`:               2,
		`migrator_fleet_instances{sessions, lapsed}`:               1,
		`migrator_fleet_instances{sessions, other}`:                1,
		`migrator_columns_changed{sessions, broken}`:               0,
		`migrator_columns_changed{sessions, unmoved}`:              0,
		`migrator_journal_keys{sessions}`:                          0,
		`migrator_return_keys{sessions}`:                           9,
		`migrator_telemetry_unreadable_windows_total{sessions}`:    0,
		`migrator_telemetry_unreadable_windows_total{products}`:    2,
		`migrator_rollback_class{lossless now, sessions}`:          0,
		`migrator_rollback_class{lossless after replay, sessions}`: 1,
		`migrator_rollback_class{impossible, sessions}`:            0,
		`migrator_rollback_class{unknown, sessions}`:               0,

		`migrator_rollback_latched{sessions}`:                0,
		`migrator_reconcile_coverage_ratio{sessions}`:        0,
		`migrator_transition_settle_seconds{sessions} count`: 0,
		`migrator_transition_settle_seconds{sessions} sum`:   0,

		`migrator_led{products}`:                                    1,
		`migrator_led{sessions}`:                                    0,
		`migrator_check{target: redis-eviction, products, refused}`: 1,
		`migrator_check{state: disk, products, ok}`:                 1,
		`migrator_check_worse{target: redis-eviction, products}`:    1,
		`migrator_check_worse{state: disk, products}`:               0,
		`migrator_checks_last_timestamp_seconds{products}`:          1_900_000_000.5,
		`migrator_webhook_messages_waiting{products}`:               3,
		`migrator_webhook_messages_waiting{sessions}`:               0,
		`migrator_webhook_oldest_timestamp_seconds{products}`:       1_900_000_000,

		`migrator_job_done_ratio{backfill, products, running}`:   0.4,
		`migrator_job_done_ratio{repair, products, interrupted}`: 0.9,
		`migrator_job_due_timestamp_seconds{backfill, products}`: 1_900_000_060,

		`migrator_leader{unapplied}`: 0,
	}
	compare(t, got, want)
}

func compare(t *testing.T, got, want map[string]float64) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if v, ok := got[name]; !ok || v != want[name] {
			t.Errorf("%s is %v (there: %v), want %v", name, v, ok, want[name])
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s is new", name)
		}
	}
}

func TestScrapeWithoutState(t *testing.T) {
	t.Parallel()
	got := scrape(t, &metrics.Collector{
		Migrations: []string{"products"}, Timeout: 50 * time.Millisecond,
		Read: func(ctx context.Context, _ string) (metrics.Reading, error) {
			<-ctx.Done() // a database that does not answer
			return metrics.Reading{}, errors.New("no answer")
		},
		Leads: func(string) bool { return false },
	})
	if len(got) != 2 || got["migrator_state_up{}"] != 0 || got["migrator_leader{products}"] != 0 {
		t.Errorf("series: %v", got)
	}
}
