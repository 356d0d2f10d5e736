package judge_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/internal/judge"
	"github.com/stranglerfig/migrator/phases"
)

var nan = math.NaN()

func TestTriggers(t *testing.T) {
	t.Parallel()
	const ten = 10 * time.Second
	reads := func(ok, bad uint64) counts {
		return counts{target(telemetry.Read, telemetry.OK): ok, target(telemetry.Read, telemetry.Failed): bad}
	}
	legacyReads := telemetry.Series{Operation: telemetry.Read, Store: telemetry.Legacy, Role: telemetry.Shadow, Outcome: telemetry.OK}
	took := func(targetMedian, legacyMedian time.Duration, n int) func(*fixture) {
		return func(w *fixture) {
			w.timed(target(telemetry.Read, telemetry.OK), durations(n, targetMedian, 1))
			w.timed(legacyReads, durations(n, legacyMedian, 2))
		}
	}
	reconciled := func(r phases.ReconcileResult) func(*fixture) {
		return func(w *fixture) { w.State.FailedReconcile = &r }
	}
	one := 1.0
	custom := func(before int, onBlind string, r judge.Reading) func(*fixture) {
		return func(w *fixture) {
			w.Settings.Triggers.Custom = []phases.CustomTrigger{{Question: phases.Question{Name: "ask", PromQL: "x", Above: &one}, OnBlind: onBlind, Consecutive: 2}}
			w.Answers = map[string]judge.Answer{"ask": {Reading: r, Before: before}}
		}
	}
	down := judge.Reading{Verdict: phases.NoData, Detail: "no answer"}
	old := func(make func(*fixture)) func(*fixture) {
		return func(w *fixture) {
			make(w)
			for i := range w.Buckets {
				w.Buckets[i].Epoch = 6
			}
		}
	}
	other := func(make func(*fixture)) func(*fixture) {
		return func(w *fixture) {
			make(w)
			for i := range w.Buckets {
				w.Buckets[i].ConfigHash = "c0"
			}
		}
	}
	flow := func(n func(time.Duration) counts) func(*fixture) {
		return func(w *fixture) { w.traffic(time.Hour, 0, ten, n) }
	}
	for _, c := range []struct {
		name   string
		make   func(*fixture)
		want   phases.Verdict
		detail string
	}{
		{"mismatches: no data", func(*fixture) {}, phases.NoData, ""},
		{"mismatches: too few", flow(func(ago time.Duration) counts {
			if ago == ten {
				return counts{comparison(telemetry.Mismatch): 20}
			}
			return nil
		}), phases.NoData, "20 samples, 100 needed"},
		{"mismatches: at the limit", flow(steady(counts{comparison(telemetry.Agreed): 99, comparison(telemetry.Mismatch): 1})), phases.Quiet, ""},
		{"mismatches: 3 %", flow(steady(counts{comparison(telemetry.Agreed): 97, comparison(telemetry.Mismatch): 3})), phases.Firing, "comparisons differ"},
		{"mismatches: after a good hour", flow(func(ago time.Duration) counts {
			if ago <= 2*time.Minute {
				return counts{comparison(telemetry.Agreed): 90, comparison(telemetry.Mismatch): 10}
			}
			return counts{comparison(telemetry.Agreed): 100}
		}), phases.Firing, "in 5m"},
		{"mismatches: three of a thousand", flow(func(ago time.Duration) counts {
			if ago == ten {
				return counts{comparison(telemetry.Mismatch): 3}
			}
			return counts{comparison(telemetry.Agreed): 3}
		}), phases.Quiet, ""},
		{"mismatches: another epoch's", old(flow(steady(counts{comparison(telemetry.Mismatch): 9}))), phases.NoData, ""},
		{"mismatches: another configuration's", other(flow(steady(counts{comparison(telemetry.Mismatch): 9}))), phases.NoData, ""},

		{"errors: no data", func(*fixture) {}, phases.NoData, ""},
		{"errors: a quiet night", flow(steady(reads(1, 0))), phases.Quiet, ""},
		{"errors: at half the limit", flow(func(ago time.Duration) counts {
			if int(ago/ten)%4 == 0 {
				return reads(99, 1)
			}
			return reads(100, 0)
		}), phases.Quiet, ""},
		{"errors: 2 %", flow(func(ago time.Duration) counts {
			if ago <= 2*time.Minute {
				return reads(98, 2)
			}
			return reads(100, 0)
		}), phases.Firing, "reads from the target failed"},
		{"errors: a spike too short to be significant", flow(func(ago time.Duration) counts {
			if ago == 60*time.Second {
				return reads(95, 5)
			}
			return reads(100, 0)
		}), phases.Quiet, ""},
		{"errors: all of few", func(w *fixture) { w.traffic(30*time.Second, 0, ten, steady(reads(0, 4))) }, phases.NoData, "12 samples, 20 needed"},
		{"errors: all", func(w *fixture) { w.traffic(30*time.Second, 0, ten, steady(reads(0, 10))) }, phases.Firing, ""},
		{"errors: of writes", flow(steady(counts{target(telemetry.Write, telemetry.OK): 95, target(telemetry.Write, telemetry.TimedOut): 5, target(telemetry.Read, telemetry.OK): 10_000})), phases.Firing, "writes to the target failed"},
		{"errors: of both, of writes more", flow(steady(counts{
			target(telemetry.Write, telemetry.OK): 50, target(telemetry.Write, telemetry.Failed): 50, target(telemetry.Read, telemetry.OK): 95, target(telemetry.Read, telemetry.Failed): 5,
		})), phases.Firing, "writes to the target failed"},
		{"errors: of both, of reads more", flow(steady(counts{
			target(telemetry.Write, telemetry.OK): 95, target(telemetry.Write, telemetry.Failed): 5, target(telemetry.Read, telemetry.OK): 50, target(telemetry.Read, telemetry.Failed): 50,
		})), phases.Firing, "reads from the target failed"},
		{"errors: in a window that began before the period", func(w *fixture) { w.traffic(40*time.Minute, 0, 40*time.Minute, steady(reads(50, 50))) }, phases.Firing, ""},
		{"errors: that fell back", flow(steady(counts{target(telemetry.Read, telemetry.OK): 95, target(telemetry.Read, telemetry.TimedOut): 5, fallback: 5})), phases.Firing, ""},
		{"errors: few, and the breaker refused the rest", flow(steady(counts{
			target(telemetry.Read, telemetry.Failed): 2, fallback: 2, target(telemetry.Read, telemetry.Rejected): 98, ofLegacy(telemetry.Untried): 98,
		})), phases.Firing, "were not tried)"},
		// The target was not asked, or answered: an outage of another store, or of the breaker's own
		// memory of one that is over.
		{"errors: refused by the breaker alone", flow(steady(counts{
			target(telemetry.Read, telemetry.OK): 100, target(telemetry.Read, telemetry.Rejected): 50, ofLegacy(telemetry.Untried): 50,
			target(telemetry.Write, telemetry.OK): 100, target(telemetry.Write, telemetry.Rejected): 50,
		})), phases.Quiet, ""},
		{"errors: leases that lapsed", flow(steady(counts{target(telemetry.Read, telemetry.OK): 50, ofLegacy(telemetry.Lapsed): 50})), phases.Quiet, ""},
		{"errors: keys that are known to be behind", flow(steady(counts{target(telemetry.Read, telemetry.OK): 50, ofLegacy(telemetry.Degraded): 50})), phases.Quiet, ""},
		{"errors: records that do not exist", flow(steady(counts{target(telemetry.Read, telemetry.OK): 100, ofLegacy(telemetry.Missed): 50})), phases.Quiet, ""},
		{"errors: canceled by callers", flow(steady(counts{target(telemetry.Read, telemetry.OK): 50, target(telemetry.Read, telemetry.Cancelled): 50})), phases.Quiet, ""},
		{"errors: of legacy", flow(steady(counts{
			target(telemetry.Read, telemetry.OK): 50,
			{Operation: telemetry.Read, Store: telemetry.Legacy, Role: telemetry.Serving, Outcome: telemetry.Failed}:  50,
			{Operation: telemetry.Write, Store: telemetry.Legacy, Role: telemetry.Serving, Outcome: telemetry.Failed}: 50,
		})), phases.Quiet, ""},
		{"errors: that ended half an hour ago", flow(func(ago time.Duration) counts {
			if ago > 40*time.Minute {
				return reads(50, 50)
			}
			return reads(100, 0)
		}), phases.Quiet, ""},
		{"errors: another epoch's", old(flow(steady(reads(50, 50)))), phases.NoData, ""},
		{"errors: slowly", func(w *fixture) { // too thin for the CUSUM's windows to matter
			w.traffic(30*time.Minute, 0, ten, func(ago time.Duration) counts {
				if int(ago/ten)%3 == 0 {
					return reads(19, 1)
				}
				return reads(20, 0)
			})
		}, phases.Firing, ""},

		{"latency: no data", func(*fixture) {}, phases.NoData, ""},
		{"latency: the same", took(time.Millisecond, time.Millisecond, 20_000), phases.Quiet, ""},
		{"latency: a tenth slower", took(1100*time.Microsecond, time.Millisecond, 20_000), phases.Quiet, ""},
		{"latency: p99 worse by half", took(1500*time.Microsecond, time.Millisecond, 20_000), phases.Firing, "99th percentile of reads in 5m"},
		{"latency: two of a hundred time out", func(w *fixture) {
			took(time.Millisecond, time.Millisecond, 20_000)(w)
			w.timed(target(telemetry.Read, telemetry.TimedOut), durations(400, time.Second, 3))
		}, phases.Firing, ""},
		{"latency: ten times, of few", took(10*time.Millisecond, time.Millisecond, 300), phases.NoData, "300 samples, 500 needed"},
		{"latency: another epoch's", old(took(9*time.Millisecond, time.Millisecond, 20_000)), phases.NoData, ""},

		{"lost-writes: nothing compared", func(*fixture) {}, phases.NoData, ""},
		{"lost-writes: none", flow(steady(counts{comparison(telemetry.Agreed): 100, comparison(telemetry.Mismatch): 1})), phases.Quiet, ""},
		{"lost-writes: one", flow(func(ago time.Duration) counts {
			if ago == ten {
				return counts{comparison(telemetry.LostWrite): 1}
			}
			return counts{comparison(telemetry.Agreed): 100}
		}), phases.Firing, "reads confirmed 1 lost writes"},
		{"lost-writes: in another epoch", old(flow(steady(counts{comparison(telemetry.LostWrite): 1}))), phases.NoData, ""},
		{"lost-writes: reconcile found one", reconciled(phases.ReconcileResult{Run: 4, Epoch: 7, ConfigHash: "c1", Differences: 2, LostWrites: 1}), phases.Firing, "run 4"},
		{"lost-writes: reconcile found other differences", reconciled(phases.ReconcileResult{Run: 4, Epoch: 7, ConfigHash: "c1", Differences: 2}), phases.NoData, ""},
		{"lost-writes: reconcile found one in another epoch", reconciled(phases.ReconcileResult{Run: 4, Epoch: 6, ConfigHash: "c1", LostWrites: 1}), phases.NoData, ""},

		{"ask: good", custom(5, "hold", judge.Reading{Value: 0.5}), phases.Quiet, ""},
		{"ask: exactly at the limit", custom(5, "hold", judge.Reading{Value: 1}), phases.Quiet, ""},
		{"ask: the first bad one", custom(0, "hold", judge.Reading{Value: 2}), phases.Quiet, "1 consecutive evaluations, 2 fire"},
		{"ask: the second", custom(1, "hold", judge.Reading{Value: 2}), phases.Firing, "the answer is 2, fires above 1"},
		{"ask: blind", custom(9, "hold", down), phases.NoData, "no answer"},
		{"ask: the first blind one of a trigger that acts on it", custom(0, "rollback", down), phases.NoData, ""},
		{"ask: the second blind one", custom(1, "rollback", down), phases.Firing, "on_blind is rollback"},
		{"ask: an error", custom(9, "hold", judge.Reading{Verdict: phases.Error, Detail: "refused"}), phases.Error, "refused"},
		{"ask: a command that failed", custom(1, "hold", judge.Reading{Verdict: phases.Fail, Detail: "exit code 1"}), phases.Firing, "exit code 1"},
		{"ask: a command that passed", custom(1, "hold", judge.Reading{Verdict: phases.Pass}), phases.Quiet, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newFixture(t, cutover, day)
			c.make(w)
			name, _, _ := strings.Cut(c.name, ":")
			if got := w.trigger(name); got.Verdict != c.want || !strings.Contains(got.Detail, c.detail) {
				t.Errorf("%s (%s), want %s (%s)", got.Verdict, got.Detail, c.want, c.detail)
			}
		})
	}
}

func TestLatencyCeiling(t *testing.T) {
	t.Parallel()
	w := newFixture(t, cutover, day)
	w.Settings.Triggers.Latency.Ceiling = phases.Duration(5 * time.Millisecond)
	w.timed(target(telemetry.Read, telemetry.OK), durations(5000, 10*time.Millisecond, 1))
	if got := w.trigger(phases.TriggerLatency); got.Verdict != phases.Firing || !strings.Contains(got.Detail, "ceiling 5ms") || got.Limit != 0.005 {
		t.Errorf("%s (%s)", got.Verdict, got.Detail)
	}
	// The ceiling is between the bounds of the percentile: it is not surely exceeded.
	w = newFixture(t, cutover, day)
	w.Settings.Triggers.Latency.Ceiling = phases.Duration(20 * time.Millisecond)
	w.timed(target(telemetry.Read, telemetry.OK), durations(5000, 10*time.Millisecond, 1))
	if got := w.trigger(phases.TriggerLatency); got.Verdict != phases.Quiet {
		t.Errorf("%s (%s)", got.Verdict, got.Detail)
	}
	w = newFixture(t, cutover, day)
	w.Settings.Triggers.Latency.Ceiling = phases.Duration(50 * time.Millisecond)
	w.timed(target(telemetry.Read, telemetry.OK), durations(5000, 10*time.Millisecond, 1))
	if got := w.trigger(phases.TriggerLatency); got.Verdict != phases.Quiet {
		t.Errorf("%s (%s)", got.Verdict, got.Detail)
	}
}

func TestTriggerTrials(t *testing.T) {
	t.Parallel()
	w := newFixture(t, cutover, time.Minute)
	w.Settings.Triggers.Errors.DryRun = true
	w.traffic(time.Minute, 0, 10*time.Second, steady(counts{target(telemetry.Read, telemetry.Failed): 50}))
	if got := w.trigger(phases.TriggerErrors); got.Verdict != phases.Firing || !got.DryRun {
		t.Errorf("a dry run: %+v", got)
	}
	w.Settings.Triggers.Errors.InitialDelay = phases.Duration(time.Hour)
	if got := w.trigger(phases.TriggerErrors); got.Verdict != phases.Quiet {
		t.Errorf("before its delay is over: %+v", got)
	}
}
