package state_test

import (
	"math"
	"testing"

	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/state"
)

func TestChangesOfRoute(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	if all, err := s.Changes(t.Context(), migration); err != nil || len(all) != 0 {
		t.Fatalf("before the first: %+v, %v", all, err)
	}
	walk(t, s, nil, shadowWrite)
	a := join(t, s, "a", state.FleetOptions{})
	must(t, s.Pause(t.Context(), migration, "lunch")) // which changes no route
	must(t, s.Resume(t.Context(), migration, ""))
	walk(t, s, nil, dualRead)
	all, err := s.Changes(t.Context(), migration)
	must(t, err)
	if len(all) != 2 || !all[0].Superseded || all[1].Superseded || !all[1].Settled.IsZero() {
		t.Fatalf("before it is acknowledged: %+v", all)
	}
	a.ack(t, 3)
	if all, err = s.Changes(t.Context(), migration); err != nil || len(all) != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	last := all[1]
	if last.From != phases.ShadowWrite || last.To != phases.DualRead || last.Cause != phases.CauseAdvance || last.At.IsZero() || last.Settled.Before(last.At) {
		t.Errorf("the last: %+v", last)
	}
}

func TestCoverage(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	r := s.Reconciles(migration)
	run := func(want float64, slices int, edit func(*reconcile.Run)) {
		t.Helper()
		made, release, err := r.Begin(t.Context(), reconcile.Run{Slices: slices, Full: slices == 0})
		must(t, err)
		made.Status = reconcile.Done
		edit(&made)
		must(t, r.Save(t.Context(), made, nil))
		release()
		if got, err := s.Coverage(t.Context(), migration); err != nil || math.Abs(got-want) > 1e-9 {
			t.Errorf("coverage %v, want %v (%v)", got, want, err)
		}
	}
	clean := func(*reconcile.Run) {}
	if got, err := s.Coverage(t.Context(), migration); err != nil || got != 0 {
		t.Errorf("without a run: %v, %v", got, err)
	}
	run(0.25, 4, clean)
	run(0.5, 4, clean)
	run(0.5, 4, func(r *reconcile.Run) { r.Status = reconcile.Stopped })
	run(0.1, 10, clean) // of another size: the others' slices are not these
	run(0, 10, func(r *reconcile.Run) { r.Differences = 1 })
	run(0, 10, func(r *reconcile.Run) { r.Repaired = 1 })
	run(1, 0, clean)
	run(1, 10, clean)
	other := applied()
	other.Config, other.ConfigHash = []byte(`{"name":"products","other":1}`), "h2"
	if _, _, err := s.Apply(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Coverage(t.Context(), migration); err != nil || got != 0 {
		t.Errorf("by another description: %v, %v", got, err)
	}
}
