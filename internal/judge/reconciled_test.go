package judge_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/judge"
	"github.com/stranglerfig/migrator/phases"
)

// TestAReconcileStandsInForInstances: with capture alone and no instance a clean, full reconcile of this phase is judged
// in the place of comparisons and reads. Nothing else opens these gates, and what instances show counts if they are there.
func TestAReconcileStandsInForInstances(t *testing.T) {
	t.Parallel()
	run := func(change func(*phases.ReconcileResult)) func(*fixture) {
		return func(w *fixture) {
			r := &phases.ReconcileResult{Run: 5, ConfigHash: "c1", Began: noon.Add(-time.Minute), Full: true, TwoWay: true, Checked: 12}
			change(r)
			w.State.FullReconcile = r
		}
	}
	clean := run(func(*phases.ReconcileResult) {})
	for what, c := range map[string]struct {
		change func(*fixture)
		want   phases.Verdict
		says   string
	}{
		"none":               {func(*fixture) {}, phases.NoData, "no full, two-way one has finished"},
		"clean":              {clean, phases.Pass, "run 5 checked 12 records"},
		"before this phase":  {run(func(r *phases.ReconcileResult) { r.Began = noon.Add(-2 * time.Hour) }), phases.NoData, "before this phase"},
		"with differences":   {run(func(r *phases.ReconcileResult) { r.Differences = 1 }), phases.NoData, "not clean"},
		"another config":     {run(func(r *phases.ReconcileResult) { r.ConfigHash = "c0" }), phases.NoData, "another configuration"},
		"an instance":        {func(w *fixture) { clean(w); w.State.Fleet.Live = 1 }, phases.NoData, ""},
		"a lapsed instance":  {func(w *fixture) { clean(w); w.State.Fleet.Lapsed = []string{"a"} }, phases.NoData, ""},
		"writers are beside": {func(w *fixture) { clean(w); w.Settings.Capture = phases.CaptureBeside }, phases.NoData, ""},
	} {
		w := newFixture(t, cutover, time.Hour)
		w.Settings.Capture = phases.CaptureOnly
		c.change(w)
		for _, m := range w.Settings.Gates.Before(phases.Cutover, phases.Grace) {
			if m.Name != phases.GateConsistency && m.Name != phases.GateTargetReads {
				continue
			}
			e := w.Gate(m)
			if e.Verdict != c.want || !strings.Contains(e.Detail, c.says) {
				t.Errorf("%s: %s is %s (%s), want %s", what, m.Name, e.Verdict, e.Detail, c.want)
			}
			if again, err := judge.Reevaluate(e); err != nil || again.Verdict != e.Verdict || again.Detail != e.Detail {
				t.Errorf("%s: evaluated again: %+v, %v", what, again, err)
			}
		}
	}
}
