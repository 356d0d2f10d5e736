package judge_test

import (
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/internal/judge"
	"github.com/stranglerfig/migrator/internal/stats/sketch"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

var (
	dualRead = phases.Route{Phase: phases.DualRead, Percent: phases.All, Epoch: 7}
	cutover  = phases.Route{Phase: phases.Cutover, Percent: 500, Epoch: 7}
)

// fixture is a synthesised migration.
type fixture struct {
	t *testing.T
	judge.Snapshot
}

func newFixture(t *testing.T, at phases.Route, stay time.Duration) *fixture {
	t.Helper()
	w := &fixture{t: t}
	w.Settings = phases.DefaultSettings()
	w.State = phases.Snapshot{Now: noon, Status: phases.Status{
		Migration: "products", Route: at, ConfigHash: "c1", PhaseSince: noon.Add(-stay), RouteSince: noon.Add(-stay),
	}}
	return w
}

type counts map[telemetry.Series]uint64

func comparison(o telemetry.Outcome) telemetry.Series {
	return telemetry.Series{Operation: telemetry.Comparison, Store: telemetry.Both, Role: telemetry.Shadow, Outcome: o}
}

func target(op telemetry.Operation, o telemetry.Outcome) telemetry.Series {
	return telemetry.Series{Operation: op, Store: telemetry.Target, Role: telemetry.Serving, Outcome: o}
}

// ofLegacy is a read that legacy answered where the route names the target.
func ofLegacy(r telemetry.Role) telemetry.Series {
	return telemetry.Series{Operation: telemetry.Read, Store: telemetry.Legacy, Role: r, Outcome: telemetry.OK}
}

var fallback = ofLegacy(telemetry.Fallback)

// traffic adds buckets of length step, from ago to until before now. n returns the counts of
// the bucket that begins that long before now.
func (w *fixture) traffic(ago, until, step time.Duration, n func(ago time.Duration) counts) {
	for ; ago > until; ago -= step {
		b := telemetry.Bucket{
			Epoch: w.State.Status.Route.Epoch, ConfigHash: w.State.Status.ConfigHash, Instances: 2,
			Began: noon.Add(-ago), Ended: noon.Add(-ago + step),
		}
		for s, n := range n(ago) {
			if n > 0 {
				b.Counts = append(b.Counts, telemetry.Count{Series: s, N: n})
			}
		}
		w.Buckets = append(w.Buckets, b)
	}
}

func steady(c counts) func(time.Duration) counts { return func(time.Duration) counts { return c } }

// timed adds one bucket of the last minute with durations.
func (w *fixture) timed(s telemetry.Series, sketch *sketch.Sketch) {
	w.Buckets = append(w.Buckets, telemetry.Bucket{
		Epoch: w.State.Status.Route.Epoch, ConfigHash: w.State.Status.ConfigHash,
		Began: noon.Add(-time.Minute), Ended: noon,
		Counts: []telemetry.Count{{Series: s, N: sketch.Count(), Latency: sketch}},
	})
}

// durations are about log-normal around a median, the same for the same seed.
func durations(n int, median time.Duration, seed uint64) *sketch.Sketch {
	r := rand.New(rand.NewPCG(seed, 1))
	s := new(sketch.Sketch)
	for range n {
		d := float64(median)
		for range 3 {
			d *= 1 + 0.35*r.NormFloat64()*0.577
		}
		s.Add(time.Duration(max(d, 1000)), 1)
	}
	return s
}

func (w *fixture) gate(name string) phases.Evaluation {
	w.t.Helper()
	for _, m := range w.Settings.Gates.Ahead(w.State.Status.Route.Phase) {
		if m.Name == name {
			return w.reevaluate(w.Gate(m))
		}
	}
	w.t.Fatalf("no gate %s ahead of %s", name, w.State.Status.Route)
	return phases.Evaluation{}
}

func (w *fixture) trigger(name string) phases.Evaluation {
	w.t.Helper()
	for _, t := range w.Settings.Triggers.All() {
		if t.Name == name {
			return w.reevaluate(w.Trigger(t))
		}
	}
	w.t.Fatalf("no trigger %s", name)
	return phases.Evaluation{}
}

// reevaluate computes the verdict again from the recorded inputs alone, as a database returns
// them.
func (w *fixture) reevaluate(e phases.Evaluation) phases.Evaluation {
	w.t.Helper()
	var stored map[string]any // jsonb preserves neither the order of keys nor blanks
	if err := json.Unmarshal(e.Inputs, &stored); err != nil {
		w.t.Fatal(err)
	}
	recorded := e
	recorded.Inputs, _ = json.Marshal(stored)
	recorded.Verdict, recorded.Detail, recorded.Samples, recorded.Value, recorded.Bound, recorded.Limit = "", "", 0, 0, 0, 0
	again, err := judge.Reevaluate(recorded)
	if err != nil {
		w.t.Fatal(err)
	}
	again.Inputs = e.Inputs
	if diff := cmp.Diff(e, again, cmpopts.EquateComparable(record.Version{})); diff != "" {
		w.t.Errorf("%s, reevaluated from its inputs %s:\n%s", e.Name, e.Inputs, diff)
	}
	if e.Epoch != 7 || e.ConfigHash != "c1" || !e.At.Equal(noon) || e.Detail == "" {
		w.t.Errorf("%+v", e)
	}
	return e
}
