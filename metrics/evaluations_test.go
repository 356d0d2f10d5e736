package metrics_test

import (
	"context"
	"maps"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/metrics"
	"github.com/stranglerfig/migrator/phases"
)

// measured returns only the series of a measured migration.
func measured(t *testing.T, r metrics.Reading) map[string]float64 {
	t.Helper()
	one := func(r metrics.Reading) map[string]float64 {
		return scrape(t, &metrics.Collector{
			Migrations: []string{"products"},
			Read:       func(context.Context, string) (metrics.Reading, error) { return r, nil },
		})
	}
	plain, got := one(reading()), one(r)
	maps.DeleteFunc(got, func(name string, v float64) bool {
		was, ok := plain[name]
		return ok && was == v
	})
	return got
}

func TestScrapeExportsEvaluations(t *testing.T) {
	t.Parallel()
	at := time.Unix(1_900_000_000, 0)
	r := reading()
	r.Snapshot.Latch = &phases.Latch{Trigger: "errors"}
	r.Snapshot.Now = at
	limit := 0.5
	question := func(name string, above, below *float64) phases.CustomGate {
		return phases.CustomGate{Question: phases.Question{Name: name, Above: above, Below: below}, Before: []phases.Phase{phases.Cutover}}
	}
	r.Settings.Gates.Custom = []phases.CustomGate{question("custom", nil, &limit), question("former", nil, &limit), question("old", nil, &limit), question("wants-more", &limit, nil)}
	r.Settings.Triggers.Mismatches.Off = "not under test"
	r.Snapshot.Evaluations = []phases.Evaluation{
		{Kind: phases.GateKind, Name: "consistency", Verdict: phases.Pass, At: at, Epoch: 12, Samples: 5000, Bound: 0.0004, Limit: 0.001},
		{Kind: phases.GateKind, Name: "target-reads", Verdict: phases.NoData, At: at, Epoch: 12, Limit: 0.005},
		{Kind: phases.GateKind, Name: "custom", Verdict: phases.Fail, At: at, Epoch: 12, Samples: 1, Bound: 3}, // limit 0
		// What status shows as no data: of another epoch, and too old.
		{Kind: phases.GateKind, Name: "former", Verdict: phases.Pass, At: at, Epoch: 11, Samples: 1, Bound: 0.1, Limit: 0.5},
		{Kind: phases.GateKind, Name: "old", Verdict: phases.Pass, At: at.Add(-time.Hour), Epoch: 12, Samples: 1, Bound: 0.1, Limit: 0.5},
		{Kind: phases.GateKind, Name: "wants-more", Verdict: phases.Pass, At: at, Epoch: 12, Samples: 1, Bound: 2, Limit: 0.5},
		{Kind: phases.GateKind, Name: "added-latency", Verdict: phases.Inconclusive, At: at, Epoch: 12, Samples: 3, Bound: time.Duration(math.MaxInt64).Seconds(), Limit: 0.01},
		{Kind: phases.GateKind, Name: "of-another-file", Verdict: phases.Pass, At: at, Epoch: 12},
	}
	r.Triggers = []phases.Evaluation{
		{Kind: phases.TriggerKind, Name: "errors", Verdict: phases.Firing, At: at},
		{Kind: phases.TriggerKind, Name: "latency", Verdict: phases.NoData, At: at.Add(-time.Minute)},
		{Kind: phases.TriggerKind, Name: "mismatches", Verdict: phases.NoData, At: at},      // off now
		{Kind: phases.TriggerKind, Name: "of-another-file", Verdict: phases.NoData, At: at}, // not applied any more
	}
	r.LastDrill, r.Settings.Capture = at, phases.CaptureBeside
	r.Snapshot.Now = at
	r.Snapshot.Capture = &phases.Capture{
		Slot: "s", Running: true, Reported: at, LagBytes: 1024, Lag: phases.Duration(1500 * time.Millisecond), Waiting: 7, Applied: 99, HeldBytes: 4096, LimitBytes: 8192,
	}
	want := map[string]float64{
		`migrator_rollback_latched{products}`: 1,

		`migrator_gate_samples{consistency, products}`:                             5000,
		`migrator_gate_samples{target-reads, products}`:                            0,
		`migrator_gate_samples{custom, products}`:                                  1,
		`migrator_gate_samples{former, products}`:                                  1,
		`migrator_gate_samples{old, products}`:                                     1,
		`migrator_gate_samples{wants-more, products}`:                              1,
		`migrator_gate_samples{added-latency, products}`:                           3,
		`migrator_gate_bound_ratio{consistency, products}`:                         0.4,
		`migrator_gate_bound_ratio{wants-more, products}`:                          0.25,
		`migrator_gate_last_evaluation_timestamp_seconds{consistency, products}`:   1_900_000_000,
		`migrator_gate_last_evaluation_timestamp_seconds{target-reads, products}`:  1_900_000_000,
		`migrator_gate_last_evaluation_timestamp_seconds{custom, products}`:        1_900_000_000,
		`migrator_gate_last_evaluation_timestamp_seconds{former, products}`:        1_900_000_000,
		`migrator_gate_last_evaluation_timestamp_seconds{old, products}`:           1_899_996_400,
		`migrator_gate_last_evaluation_timestamp_seconds{wants-more, products}`:    1_900_000_000,
		`migrator_gate_last_evaluation_timestamp_seconds{added-latency, products}`: 1_900_000_000,
		`migrator_trigger_last_evaluation_timestamp_seconds{products, errors}`:     1_900_000_000,
		`migrator_trigger_last_evaluation_timestamp_seconds{products, latency}`:    1_899_999_940,
		`migrator_drill_last_success_timestamp_seconds{products}`:                  1_900_000_000,
		`migrator_capture_lag_bytes{products}`:                                     1024,
		`migrator_capture_lag_seconds{products}`:                                   1.5,
		`migrator_capture_wal_held_bytes{products}`:                                4096,
		`migrator_capture_wal_limit_bytes{products}`:                               8192,
		`migrator_capture_lag_rows{products}`:                                      7,
		`migrator_capture_applied_rows_total{products}`:                            99,
		`migrator_capture_running{products}`:                                       1,
		`migrator_capture_lost{products}`:                                          0,
	}
	for gate, verdict := range map[string]string{
		"consistency": "pass", "target-reads": "no data", "custom": "fail", "former": "no data", "old": "no data", "wants-more": "pass", "added-latency": "inconclusive",
	} {
		for _, v := range []string{"pass", "fail", "inconclusive", "no data", "error"} {
			want[`migrator_gate_verdict{`+gate+`, products, `+v+`}`] = truth(v == verdict)
		}
	}
	for trigger, verdict := range map[string]string{"errors": "firing", "latency": "no data"} {
		for _, v := range []string{"quiet", "firing", "no data", "error"} {
			want[`migrator_trigger_state{products, `+v+`, `+trigger+`}`] = truth(v == verdict)
		}
	}
	compare(t, measured(t, r), want)
}

func truth(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// Counters of the history increase as it grows, and no later state of an entry decreases one.
func TestTransitionCountersNeverDecrease(t *testing.T) {
	t.Parallel()
	at := time.Unix(1_900_000_000, 0)
	step := func(n int, cause phases.Cause) metrics.Transition {
		return metrics.Transition{From: phases.DualRead, To: phases.Cutover, Cause: cause, At: at.Add(time.Duration(n) * time.Minute)}
	}
	open := []metrics.Transition{step(0, phases.CauseAdvance)}
	settled := []metrics.Transition{step(0, phases.CauseAdvance)}
	settled[0].Settled = settled[0].At.Add(4 * time.Second)
	overtaken := []metrics.Transition{settled[0], step(1, phases.CauseAdvance), step(2, phases.CauseFailure)}
	overtaken[1].Superseded = true
	overtaken[2].Settled = overtaken[2].At.Add(time.Hour)
	last := map[string]float64{}
	for i, all := range [][]metrics.Transition{nil, open, settled, overtaken} {
		r := reading()
		r.Transitions = all
		got := measured(t, r)
		for name, v := range last {
			if now, ok := got[name]; !ok || now < v {
				t.Errorf("history %d: %s went from %v to %v", i, name, v, now)
			}
		}
		last = maps.Clone(got)
		maps.DeleteFunc(last, func(name string, _ float64) bool { return strings.Contains(name, "timestamp") })
	}
	want := map[string]float64{
		`migrator_transitions_total{advance, dual-read, products, settled, cutover}`:    1,
		`migrator_transitions_total{advance, dual-read, products, superseded, cutover}`: 1,
		`migrator_transitions_total{failure, dual-read, products, settled, cutover}`:    1,
		`migrator_transition_settle_seconds{products} count`:                            2,
		`migrator_transition_settle_seconds{products} sum`:                              3604,
	}
	compare(t, last, want)
	r := reading()
	r.Transitions = overtaken
	for cause, at := range map[string]float64{"advance": 1_900_000_060, "failure": 1_900_000_120} {
		if got := measured(t, r)[`migrator_transition_last_timestamp_seconds{`+cause+`, products}`]; got != at {
			t.Errorf("last %s at %v, want %v", cause, got, at)
		}
	}
}
