package judge_test

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/internal/judge"
	"github.com/stranglerfig/migrator/phases"
)

const day = 24 * time.Hour

type gateCase struct {
	name   string
	at     phases.Route
	stay   time.Duration
	make   func(*fixture)
	gate   string
	want   phases.Verdict
	detail string
}

func (c gateCase) run(t *testing.T) {
	t.Parallel()
	w := newFixture(t, c.at, c.stay)
	c.make(w)
	if got := w.gate(c.gate); got.Verdict != c.want || !strings.Contains(got.Detail, c.detail) {
		t.Errorf("%s (%s), want %s (%s)\n%s", got.Verdict, got.Detail, c.want, c.detail, got.Inputs)
	}
}

func TestConsistencyGate(t *testing.T) {
	t.Parallel()
	agreeing := steady(counts{comparison(telemetry.Agreed): 20})
	for _, c := range []gateCase{
		{"no data", dualRead, 4 * day, func(*fixture) {}, phases.GateConsistency, phases.NoData, "nothing has been compared"},
		{"four good days", dualRead, 4 * day, func(w *fixture) { w.traffic(4*day, 0, 5*time.Minute, agreeing) }, phases.GateConsistency, phases.Pass, "0 of 23040"},
		{"two good days", dualRead, 2 * day, func(w *fixture) { w.traffic(2*day, 0, 5*time.Minute, agreeing) }, phases.GateConsistency, phases.Inconclusive, "2d of 3d covered"},
		{"too few samples", dualRead, 4 * day, func(w *fixture) {
			w.traffic(4*day, 0, 5*time.Minute, steady(counts{comparison(telemetry.Agreed): 1}))
		}, phases.GateConsistency, phases.Inconclusive, "0 of 1152"},
		{"the least number of samples is the user's", dualRead, 4 * day, func(w *fixture) {
			w.Settings.Gates.Consistency.MinSamples = 1_000_000
			w.traffic(4*day, 0, 5*time.Minute, agreeing)
		}, phases.GateConsistency, phases.Inconclusive, "23040 samples, 1000000 needed"},
		{"a rate at the limit", dualRead, 4 * day, func(w *fixture) {
			i := 0
			w.traffic(4*day, 0, 5*time.Minute, func(time.Duration) counts {
				i++
				if i%50 == 0 {
					return counts{comparison(telemetry.Agreed): 19, comparison(telemetry.Mismatch): 1}
				}
				return counts{comparison(telemetry.Agreed): 20}
			})
		}, phases.GateConsistency, phases.Inconclusive, "23 of 23040"},
		{"one breach hour", dualRead, 4 * day, func(w *fixture) {
			w.traffic(4*day, 0, 5*time.Minute, func(ago time.Duration) counts {
				if ago <= 10*time.Hour && ago > 9*time.Hour {
					return counts{comparison(telemetry.Agreed): 15, comparison(telemetry.Mismatch): 5}
				}
				return counts{comparison(telemetry.Agreed): 20}
			})
		}, phases.GateConsistency, phases.Fail, "surely broken"},
		{"a breach that a long good time has cleared", dualRead, 8 * day, func(w *fixture) {
			w.traffic(8*day, 0, 5*time.Minute, func(ago time.Duration) counts {
				if ago > 8*day-time.Hour {
					return counts{comparison(telemetry.Mismatch): 20}
				}
				return counts{comparison(telemetry.Agreed): 20}
			})
		}, phases.GateConsistency, phases.Pass, ""},
		{"gaps in more than a twentieth of the buckets", dualRead, 73 * time.Hour, func(w *fixture) {
			w.traffic(73*time.Hour, 0, 5*time.Minute, func(ago time.Duration) counts {
				if int(ago/(5*time.Minute))%10 == 0 {
					return nil
				}
				return counts{comparison(telemetry.Agreed): 20}
			})
		}, phases.GateConsistency, phases.Inconclusive, "of 3d covered"},
		{"another configuration until lately", dualRead, 4 * day, func(w *fixture) {
			w.traffic(4*day, 0, 5*time.Minute, agreeing)
			for i := range w.Buckets {
				if w.Buckets[i].Began.Before(noon.Add(-day)) {
					w.Buckets[i].ConfigHash = "c0"
				}
			}
		}, phases.GateConsistency, phases.Inconclusive, "1d of 3d covered"},
		{"earlier epochs of the same stay count", dualRead, 4 * day, func(w *fixture) {
			w.State.Status.RouteSince = noon.Add(-time.Hour)
			w.traffic(4*day, 0, 5*time.Minute, agreeing)
			for i := range w.Buckets {
				if w.Buckets[i].Began.Before(noon.Add(-time.Hour)) {
					w.Buckets[i].Epoch = 6
				}
			}
		}, phases.GateConsistency, phases.Pass, ""},
		{"an earlier stay does not", dualRead, 2 * day, func(w *fixture) { w.traffic(9*day, 2*day, 5*time.Minute, agreeing) }, phases.GateConsistency, phases.NoData, ""},
		{"in cutover an earlier epoch does not", cutover, 4 * day, func(w *fixture) {
			w.traffic(4*day, 0, 5*time.Minute, agreeing)
			for i := range w.Buckets {
				w.Buckets[i].Epoch = 6
			}
		}, phases.GateConsistency, phases.NoData, ""},
		{"in cutover no longer than the step", cutover, 25 * time.Hour, func(w *fixture) {
			w.traffic(25*time.Hour, 0, 5*time.Minute, agreeing)
		}, phases.GateConsistency, phases.Pass, "25h of 1d covered"},
		{"buckets of ten seconds are the same", cutover, 25 * time.Hour, func(w *fixture) {
			w.traffic(25*time.Hour, time.Hour, 5*time.Minute, agreeing)
			w.traffic(time.Hour, 0, 10*time.Second, steady(counts{comparison(telemetry.Lagged): 3, comparison(telemetry.Aborted): 50, comparison(telemetry.Dropped): 9}))
		}, phases.GateConsistency, phases.Pass, "25h of 1d covered"},
		{"comparisons that follow a miss are no sample", dualRead, 4 * day, func(w *fixture) {
			missed := comparison(telemetry.Agreed)
			missed.Role = telemetry.Missed
			w.traffic(4*day, 0, 5*time.Minute, steady(counts{missed: 50}))
		}, phases.GateConsistency, phases.NoData, ""},
		{"comparisons that were not completed are none", dualRead, 4 * day, func(w *fixture) {
			w.traffic(4*day, 0, 5*time.Minute, steady(counts{comparison(telemetry.Aborted): 50, comparison(telemetry.Dropped): 9}))
		}, phases.GateConsistency, phases.NoData, ""},
		{"a rehearsal of seconds", dualRead, 10 * time.Second, func(w *fixture) {
			w.Settings.Gates.Consistency.For = phases.Duration(5 * time.Second)
			w.traffic(10*time.Second, 0, time.Second, steady(counts{comparison(telemetry.Agreed): 1000}))
		}, phases.GateConsistency, phases.Pass, "5s of 5s covered"},
		{"a rehearsal that differs", dualRead, 10 * time.Second, func(w *fixture) {
			w.Settings.Gates.Consistency.For = phases.Duration(5 * time.Second)
			w.traffic(10*time.Second, 0, time.Second, steady(counts{comparison(telemetry.Agreed): 900, comparison(telemetry.Mismatch): 100}))
		}, phases.GateConsistency, phases.Fail, "surely broken"},
		{"not before its delay", dualRead, 4 * day, func(w *fixture) {
			w.Settings.Gates.Consistency.InitialDelay = phases.Duration(5 * day)
			w.traffic(4*day, 0, 5*time.Minute, agreeing)
		}, phases.GateConsistency, phases.Inconclusive, "is first evaluated at 2026-03-02"},
	} {
		t.Run(c.name, c.run)
	}
}

func TestFailureGates(t *testing.T) {
	t.Parallel()
	writes := func(ok, bad uint64) func(time.Duration) counts {
		return steady(counts{target(telemetry.Write, telemetry.OK): ok, target(telemetry.Write, telemetry.TimedOut): bad})
	}
	for _, c := range []gateCase{
		{"no writes", dualRead, day, func(*fixture) {}, phases.GateShadowWrites, phases.NoData, "no writes"},
		{"all good", dualRead, day, func(w *fixture) { w.traffic(day, 0, 5*time.Minute, writes(100, 0)) }, phases.GateShadowWrites, phases.Pass, "0 of 28800"},
		{"few", dualRead, time.Hour, func(w *fixture) { w.traffic(time.Hour, 0, 5*time.Minute, writes(100, 0)) }, phases.GateShadowWrites, phases.Inconclusive, "0 of 1200"},
		{"at the limit", dualRead, day, func(w *fixture) { w.traffic(day, 0, 30*time.Minute, writes(999, 1)) }, phases.GateShadowWrites, phases.Inconclusive, "48 of 48000"},
		{"surely above", dualRead, day, func(w *fixture) { w.traffic(day, 0, 5*time.Minute, writes(98, 2)) }, phases.GateShadowWrites, phases.Fail, "surely above 0.1 %"},
		{"a long good time hides no bad half hour", dualRead, 30 * day, func(w *fixture) {
			w.traffic(30*day, 10*time.Minute, 5*time.Minute, writes(10000, 0))
			w.traffic(10*time.Minute, 0, 5*time.Minute, writes(0, 40))
		}, phases.GateShadowWrites, phases.Fail, "80 of "},
		{"an outage that ended a moment ago", dualRead, 2 * day, func(w *fixture) {
			w.traffic(2*day, 2*time.Hour, 5*time.Minute, writes(1000, 0))
			w.traffic(2*time.Hour, 20*time.Minute, 5*time.Minute, writes(0, 1000))
			w.traffic(20*time.Minute, 0, 10*time.Second, writes(100, 0))
		}, phases.GateShadowWrites, phases.Fail, "Counted again since then (0 of 12000 failed), and closed for 30m"},
		{"an outage that is over is not added up for good", dualRead, 2 * day, func(w *fixture) {
			w.traffic(2*day, 2*time.Hour, 5*time.Minute, writes(1000, 0))
			w.traffic(2*time.Hour, 40*time.Minute, 5*time.Minute, writes(0, 1000))
			w.traffic(40*time.Minute, 0, 10*time.Second, writes(100, 0))
		}, phases.GateShadowWrites, phases.Pass, "0 of 24000"},
		{"an outage that is over, and little since", dualRead, 2 * day, func(w *fixture) {
			w.traffic(2*day, 2*time.Hour, 5*time.Minute, writes(1000, 0))
			w.traffic(2*time.Hour, 40*time.Minute, 5*time.Minute, writes(0, 1000))
			w.traffic(40*time.Minute, 0, 5*time.Minute, writes(100, 0))
		}, phases.GateShadowWrites, phases.Inconclusive, "0 of 800"},
		{"an outage that is over, and nothing since", dualRead, 2 * day, func(w *fixture) {
			w.traffic(2*day, 40*time.Minute, 5*time.Minute, writes(0, 1000))
		}, phases.GateShadowWrites, phases.NoData, "since the limit was surely broken, until"},
		{"a bad half hour that is over, after a long good time", dualRead, 30 * day, func(w *fixture) {
			w.traffic(30*day, 50*time.Minute, 5*time.Minute, writes(10000, 0))
			w.traffic(50*time.Minute, 40*time.Minute, 5*time.Minute, writes(0, 40))
			w.traffic(40*time.Minute, 0, 10*time.Second, writes(100, 0))
		}, phases.GateShadowWrites, phases.Pass, "0 of 24000"},
		{"a shorter calm", dualRead, 2 * day, func(w *fixture) {
			w.Settings.Gates.ShadowWrites.Calm = phases.Duration(5 * time.Second)
			w.traffic(2*day, 10*time.Minute, 5*time.Minute, writes(0, 1000))
			w.traffic(10*time.Minute, 0, 10*time.Second, writes(100, 0))
		}, phases.GateShadowWrites, phases.Pass, "0 of 6000"},
		{"another epoch's", dualRead, day, func(w *fixture) {
			w.traffic(day, 0, 5*time.Minute, writes(100, 0))
			for i := range w.Buckets {
				w.Buckets[i].Epoch = 6
			}
		}, phases.GateShadowWrites, phases.NoData, ""},
		{"another configuration's", dualRead, day, func(w *fixture) {
			w.traffic(day, 0, 5*time.Minute, writes(100, 0))
			for i := range w.Buckets {
				w.Buckets[i].ConfigHash = "c0"
			}
		}, phases.GateShadowWrites, phases.NoData, ""},
		{"background writes count too", dualRead, day, func(w *fixture) {
			s := target(telemetry.Write, telemetry.OK)
			s.Role = telemetry.Shadow
			w.traffic(day, 0, 5*time.Minute, steady(counts{s: 100}))
		}, phases.GateShadowWrites, phases.Pass, ""},
		{"reads that the target answers", cutover, day, func(w *fixture) {
			w.traffic(day, 0, 5*time.Minute, steady(counts{target(telemetry.Read, telemetry.OK): 100}))
		}, phases.GateTargetReads, phases.Pass, ""},
		{"reads that fall back to legacy", cutover, day, func(w *fixture) {
			w.traffic(day, 0, 5*time.Minute, steady(counts{target(telemetry.Read, telemetry.Failed): 100, fallback: 100}))
		}, phases.GateTargetReads, phases.Fail, "surely above"},
		{"reads that an open breaker refused", cutover, day, func(w *fixture) {
			w.traffic(day, 0, 5*time.Minute, steady(counts{
				target(telemetry.Read, telemetry.OK): 90, target(telemetry.Read, telemetry.Failed): 1, fallback: 1,
				target(telemetry.Read, telemetry.Rejected): 9, ofLegacy(telemetry.Untried): 9,
			}))
		}, phases.GateTargetReads, phases.Fail, "were not tried)"},
		{"reads that legacy answered for reasons of the instance's own", cutover, day, func(w *fixture) {
			w.traffic(day, 0, 5*time.Minute, steady(counts{
				target(telemetry.Read, telemetry.OK): 100, ofLegacy(telemetry.Lapsed): 30, ofLegacy(telemetry.Degraded): 30, ofLegacy(telemetry.Missed): 30,
			}))
		}, phases.GateTargetReads, phases.Pass, ""},
		{"canceled by callers", cutover, day, func(w *fixture) {
			w.traffic(day, 0, 5*time.Minute, steady(counts{target(telemetry.Read, telemetry.OK): 90, target(telemetry.Read, telemetry.Cancelled): 100}))
		}, phases.GateTargetReads, phases.Pass, "0 of 25920"},
		{"an open breaker", cutover, day, func(w *fixture) {
			w.traffic(day, 0, 5*time.Minute, steady(counts{target(telemetry.Read, telemetry.OK): 90, target(telemetry.Read, telemetry.Rejected): 10}))
		}, phases.GateTargetReads, phases.Fail, "10 of 100 reads"},
	} {
		t.Run(c.name, c.run)
	}
}

// TestFailureGateIsDue: at the time that a gate names it opens, if the traffic goes on as it did. A good
// while before that it does not.
func TestFailureGateIsDue(t *testing.T) {
	t.Parallel()
	for name, outage := range map[string]time.Duration{"from the step's beginning": 0, "from the end of an outage": 90 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const began = 3 * time.Hour // before noon
			after := func(d time.Duration) phases.Evaluation {
				w := newFixture(t, dualRead, began)
				w.State.Now = noon.Add(d)
				w.traffic(began, -d, 5*time.Minute, func(ago time.Duration) counts {
					if ago > began-outage {
						return counts{target(telemetry.Write, telemetry.Failed): 50}
					}
					return counts{target(telemetry.Write, telemetry.OK): 50}
				})
				return w.Gate(w.Settings.Gates.Ahead(phases.DualRead)[1])
			}
			e := after(0)
			left := e.Due.Sub(noon)
			if e.Name != phases.GateShadowWrites || e.Verdict != phases.Inconclusive || left < time.Hour {
				t.Fatalf("%s %s (%s), due %s", e.Name, e.Verdict, e.Detail, e.Due)
			}
			if e := after((left * 9 / 10).Truncate(5 * time.Minute)); e.Verdict != phases.Inconclusive {
				t.Errorf("early: %s (%s)", e.Verdict, e.Detail)
			}
			if e := after(left + 5*time.Minute); e.Verdict != phases.Pass {
				t.Errorf("when it was due: %s (%s)", e.Verdict, e.Detail)
			}
		})
	}
}

func TestOtherGates(t *testing.T) {
	t.Parallel()
	waited := telemetry.Series{Operation: telemetry.Write, Store: telemetry.Both, Role: telemetry.Added, Outcome: telemetry.OK}
	one := 1.0
	ask := func(w *fixture, r judge.Reading) {
		w.Settings.Gates.Custom = []phases.CustomGate{{Question: phases.Question{Name: "ask", PromQL: "x", Below: &one}, Before: []phases.Phase{phases.Cutover}}}
		w.Answers = map[string]judge.Answer{"ask": {Reading: r}}
	}
	drilled := func(w *fixture, ago time.Duration, config string) {
		w.Settings.Gates.Drill.Within = phases.Duration(7 * day)
		w.State.Drill = &phases.DrillResult{ConfigHash: config, Passed: noon.Add(-ago)}
	}
	rehearsed := func(w *fixture, ago map[string]time.Duration) {
		drilled(w, time.Hour, "c1")
		w.Settings.Gates.Drill.Faults, w.State.Drill.Faults = []string{"errors", "latency"}, map[string]time.Time{}
		for kind, d := range ago {
			w.State.Drill.Faults[kind] = noon.Add(-d)
		}
	}
	for _, c := range []gateCase{
		{"no write timed", dualRead, day, func(*fixture) {}, phases.GateAddedLatency, phases.NoData, ""},
		{"quick writes", dualRead, day, func(w *fixture) { w.timed(waited, durations(5000, 2*time.Millisecond, 1)) }, phases.GateAddedLatency, phases.Pass, "limit 10ms"},
		{"slow writes", dualRead, day, func(w *fixture) { w.timed(waited, durations(5000, 20*time.Millisecond, 1)) }, phases.GateAddedLatency, phases.Fail, ""},
		{"about the limit", dualRead, day, func(w *fixture) { w.timed(waited, durations(5000, 6*time.Millisecond, 1)) }, phases.GateAddedLatency, phases.Inconclusive, ""},
		{"fifty writes", dualRead, day, func(w *fixture) { w.timed(waited, durations(50, time.Millisecond, 1)) }, phases.GateAddedLatency, phases.Inconclusive, "a bound takes"},

		{"no drill", dualRead, day, func(w *fixture) { w.Settings.Gates.Drill.Within = 1 }, phases.GateDrill, phases.NoData, "no drill"},
		{"a drill of yesterday", dualRead, day, func(w *fixture) { drilled(w, day, "c1") }, phases.GateDrill, phases.Pass, ""},
		{"exactly a week ago", dualRead, day, func(w *fixture) { drilled(w, 7*day, "c1") }, phases.GateDrill, phases.Pass, ""},
		{"longer ago", dualRead, day, func(w *fixture) { drilled(w, 7*day+1, "c1") }, phases.GateDrill, phases.Fail, ""},
		{"a drill with the one fault of two", dualRead, day, func(w *fixture) { rehearsed(w, map[string]time.Duration{"errors": day}) }, phases.GateDrill, phases.NoData, "no drill with the fault latency"},
		{"drills with both faults", dualRead, day, func(w *fixture) { rehearsed(w, map[string]time.Duration{"errors": day, "latency": 7 * day}) }, phases.GateDrill, phases.Pass, "fault latency"},
		{"of which one is older", dualRead, day, func(w *fixture) { rehearsed(w, map[string]time.Duration{"errors": 7*day + 1, "latency": day}) }, phases.GateDrill, phases.Fail, "fault errors"},
		{"a drill of another configuration", dualRead, day, func(w *fixture) { drilled(w, day, "c0") }, phases.GateDrill, phases.NoData, ""},

		{"no answer", dualRead, day, func(w *fixture) { ask(w, judge.Reading{}); w.Answers = nil }, "ask", phases.NoData, "was not queried"},
		{"an answer below", dualRead, day, func(w *fixture) { ask(w, judge.Reading{Value: 0.5}) }, "ask", phases.Pass, "the answer is 0.5"},
		{"exactly at the limit", dualRead, day, func(w *fixture) { ask(w, judge.Reading{Value: 1}) }, "ask", phases.Fail, "wanted is below 1"},
		{"no number", dualRead, day, func(w *fixture) { ask(w, judge.Reading{Value: nan}) }, "ask", phases.NoData, "NaN"},
		{"the source's own verdict", dualRead, day, func(w *fixture) { ask(w, judge.Reading{Verdict: phases.Error, Detail: "connection refused"}) }, "ask", phases.Error, "connection refused"},
	} {
		t.Run(c.name, c.run)
	}
}

// TestFailedVerdictPersists: until a later evaluation clears it.
func TestFailedVerdictPersists(t *testing.T) {
	t.Parallel()
	one := 1.0
	w := newFixture(t, dualRead, day)
	w.Settings.Gates.Custom = []phases.CustomGate{{Question: phases.Question{Name: "ask", PromQL: "x", Below: &one}, Before: []phases.Phase{phases.Cutover}}}
	evaluate := func(r judge.Reading, want phases.Verdict, detail string) {
		t.Helper()
		w.Answers = map[string]judge.Answer{"ask": {Reading: r}}
		got := w.gate("ask")
		if got.Verdict != want || !strings.Contains(got.Detail, detail) || strings.Count(got.Detail, "failed at") > 1 {
			t.Errorf("%s (%s), want %s (%s)", got.Verdict, got.Detail, want, detail)
		}
		w.State.Evaluations = []phases.Evaluation{got}
	}
	down := judge.Reading{Verdict: phases.NoData, Detail: "no answer"}
	evaluate(down, phases.NoData, "no answer")
	evaluate(judge.Reading{Value: 5}, phases.Fail, "the answer is 5")
	evaluate(down, phases.Fail, "failed at")
	evaluate(down, phases.Fail, "the answer is 5")
	evaluate(judge.Reading{Value: 0.1}, phases.Pass, "0.1")
	evaluate(down, phases.NoData, "no answer")
	evaluate(judge.Reading{Value: 5}, phases.Fail, "")
	w.State.Evaluations[0].ConfigHash = "c0"
	evaluate(down, phases.NoData, "no answer")
	evaluate(judge.Reading{Value: 5}, phases.Fail, "")
	w.State.Evaluations[0].At = w.State.Status.RouteSince.Add(-1)
	evaluate(down, phases.NoData, "no answer")
}

// TestConsistencyGateOverAMonth: thirty days, evaluated every hour, at a tenth of the limit.
// The gate passes soon after its 72 hours and stays open.
func TestConsistencyGateOverAMonth(t *testing.T) {
	t.Parallel()
	w := newFixture(t, dualRead, 30*day)
	i := 0
	w.traffic(30*day, 0, 5*time.Minute, func(time.Duration) counts {
		if i++; i%100 == 50 {
			return counts{comparison(telemetry.Agreed): 99, comparison(telemetry.Mismatch): 1}
		}
		return counts{comparison(telemetry.Agreed): 100}
	})
	all := w.Buckets
	for hour := 1; hour <= 30*24; hour += 5 {
		w.Buckets = all[:hour*12]
		end := w.Buckets[len(w.Buckets)-1].Ended
		w.State.Now = end
		for _, m := range w.Settings.Gates.Ahead(phases.DualRead)[:1] {
			got := w.Gate(m)
			if passes := got.Verdict == phases.Pass; passes != (hour >= 72) {
				t.Fatalf("after %d hours: %s (%s)", hour, got.Verdict, got.Detail)
			}
			if hour < 72 && hour > 24 && (got.Due.Before(end) || got.Due.After(noon.Add(-27*day+time.Hour))) {
				t.Errorf("after %d hours it is due at %s", hour, got.Due)
			}
		}
	}
}

// TestGatesNeverPassAboveTheLimit: for any counts.
func TestGatesNeverPassAboveTheLimit(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		w := newFixture(t, cutover, day)
		n := rapid.Uint64Range(0, 200_000).Draw(rt, "n")
		k := rapid.Uint64Range(0, n).Draw(rt, "k")
		w.traffic(time.Hour, 0, 10*time.Minute, steady(counts{
			target(telemetry.Write, telemetry.OK): n - k, target(telemetry.Write, telemetry.Failed): k,
			target(telemetry.Read, telemetry.OK): n - k, target(telemetry.Read, telemetry.Failed): k, comparison(telemetry.Agreed): n - k, comparison(telemetry.Mismatch): k,
		}))
		for _, m := range w.Settings.Gates.Ahead(phases.Cutover) {
			got := w.reevaluate(w.Gate(m))
			if got.Verdict == phases.Pass && (got.Value >= got.Limit || got.Bound > got.Limit) {
				rt.Fatalf("%s: %+v", m.Name, got)
			}
			if got.Verdict == phases.Fail && k*1000 <= n {
				rt.Fatalf("%s: %+v", m.Name, got)
			}
		}
	})
}
