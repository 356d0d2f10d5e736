package judge_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/phases"
)

const aDay = 24 * time.Hour

// TestNeverAtThisTraffic: a gate that lacks data, and can't get enough in the time that a migration has,
// says so with the estimate and what a person may do. One that only needs longer, that fails, or that
// has not yet seen a day's traffic does not.
func TestNeverAtThisTraffic(t *testing.T) {
	t.Parallel()
	agreed, read, written := comparison(telemetry.Agreed), target(telemetry.Read, telemetry.OK), target(telemetry.Write, telemetry.OK)
	every := func(gap time.Duration, c counts) func(time.Duration) counts {
		return func(ago time.Duration) counts {
			if ago%gap == 0 {
				return c
			}
			return nil
		}
	}
	for name, c := range map[string]struct {
		gate    string
		at      phases.Route
		stay    time.Duration
		traffic func(ago time.Duration) counts
		set     func(*phases.Settings)
		never   string // "": it may open
		advice  string
	}{
		"a record in an hour": {
			gate: phases.GateConsistency, at: dualRead, stay: 5 * aDay, traffic: every(time.Hour, counts{agreed: 1}),
			never: "120 of 1440 five-minute intervals have comparisons, and coverage wants 95 %", advice: "lower gates.consistency.coverage",
		},
		"and coverage is low": {
			gate: phases.GateConsistency, at: dualRead, stay: 5 * aDay, traffic: every(time.Hour, counts{agreed: 1}),
			set:   func(s *phases.Settings) { s.Gates.Consistency.Coverage = 10_000 },
			never: "about 3809 comparisons are needed, and 120 were made in 5d: 154 days more", advice: "raise gates.consistency.limit",
		},
		"one in each interval": {
			gate: phases.GateConsistency, at: dualRead, stay: 5 * aDay, traffic: steady(counts{agreed: 1}),
		},
		"nights without traffic": {
			gate: phases.GateConsistency, at: dualRead, stay: 5 * aDay, traffic: func(ago time.Duration) counts {
				if ago%aDay < 8*time.Hour {
					return nil
				}
				return counts{agreed: 100}
			},
			never: "five-minute intervals have comparisons", advice: "lower gates.consistency.coverage",
		},
		"no traffic for two days": {
			gate: phases.GateConsistency, at: dualRead, stay: 2 * aDay, traffic: steady(nil), never: "and none was made in 2d", advice: "compare more reads",
		},
		"no traffic for an hour":    {gate: phases.GateConsistency, at: dualRead, stay: time.Hour, traffic: steady(nil)},
		"few, but not for a day":    {gate: phases.GateConsistency, at: dualRead, stay: 20 * time.Hour, traffic: every(time.Hour, counts{agreed: 1})},
		"differences, and few more": {gate: phases.GateConsistency, at: dualRead, stay: 5 * aDay, traffic: steady(counts{agreed: 90, comparison(telemetry.Mismatch): 10})},
		"too near the limit": { // no number is enough: more traffic would not help
			gate: phases.GateConsistency, at: dualRead, stay: 5 * aDay, traffic: steady(counts{agreed: 999}),
			set: func(s *phases.Settings) { s.Gates.Consistency.For = phases.Duration(30 * aDay) },
		},
		"few reads of the target": {
			gate: phases.GateTargetReads, at: cutover, stay: 3 * aDay, traffic: every(6*time.Hour, counts{read: 1}),
			never: "reads from the target are needed, and 12 were made in 3d", advice: "min_samples",
		},
		"none at all":      {gate: phases.GateTargetReads, at: cutover, stay: 3 * aDay, traffic: steady(nil), never: "none was made in 3d", advice: "min_samples"},
		"reads enough":     {gate: phases.GateTargetReads, at: cutover, stay: 3 * aDay, traffic: steady(counts{read: 20})},
		"few writes":       {gate: phases.GateShadowWrites, at: dualRead, stay: 3 * aDay, traffic: every(aDay, counts{written: 1}), never: "writes to the target are needed", advice: "min_samples"},
		"no timed writes":  {gate: phases.GateAddedLatency, at: dualRead, stay: 3 * aDay, traffic: steady(nil), never: "timed writes are needed, and none was made in 3d", advice: "gates.added_latency.min_samples"},
		"fewer than least": {gate: phases.GateTargetReads, at: cutover, stay: 3 * aDay, traffic: every(time.Hour, counts{read: 20}), set: func(s *phases.Settings) { s.Gates.TargetReads.MinSamples = 100_000 }, never: "about 100000 reads from the target are needed, and 1440 were made in 3d: 205 days more", advice: "min_samples"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newFixture(t, c.at, c.stay)
			w.traffic(c.stay, 0, 5*time.Minute, c.traffic)
			if c.set != nil {
				c.set(&w.Settings)
			}
			e := w.gate(c.gate)
			never := strings.HasPrefix(e.Detail, "never at this traffic: ")
			if never != (c.never != "") || !strings.Contains(e.Detail, c.never) {
				t.Errorf("%s: %s, want never: %q", e.Verdict, e.Detail, c.never)
			}
			if !never {
				if e.Hint.Do == hint.Override {
					t.Errorf("the hint is %s", e.Hint)
				}
				return
			}
			if e.Verdict != phases.NoData && e.Verdict != phases.Inconclusive || !e.Due.IsZero() || e.Hint.Do != hint.Override || len(e.Hint.Of) != 1 || e.Hint.Of[0] != c.gate || !strings.Contains(e.Hint.Text, c.advice) {
				t.Errorf("%s, due %s, %s", e.Verdict, e.Due, e.Hint)
			}
			// The gate says it too.
			w.State.Evaluations = []phases.Evaluation{e}
			for _, g := range phases.Gates(next(w), w.Settings, w.State) {
				if g.Gate == c.gate && (!g.Never || g.Open() || !g.Due.IsZero()) {
					t.Errorf("%+v", g)
				}
			}
		})
	}
}

func next(w *fixture) phases.Route {
	to, err := w.Settings.Next(w.State.Status.Route)
	if err != nil {
		w.t.Fatal(err)
	}
	return to
}
