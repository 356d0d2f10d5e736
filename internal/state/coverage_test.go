package state_test

import (
	"math"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/state/reconciles"
	"github.com/stranglerfig/migrator/reconcile"
)

func TestCoverage(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	r := reconciles.New(s.Pool(), testMigration)
	const window = 30 * 24 * time.Hour
	coverage := func() reconcile.Coverage {
		t.Helper()
		c, err := r.CoverageNow(t.Context(), window)
		must(t, err)
		return c
	}
	want := func(runs int64, checked, clean float64) {
		t.Helper()
		c := coverage()
		if c.Runs != runs || math.Abs(c.Checked-checked) > 1e-9 || math.Abs(c.Clean-clean) > 1e-9 {
			t.Errorf("%+v, want %d runs, %v checked, %v clean", c, runs, checked, clean)
		}
	}
	blocks := func(of int64, ranges ...reconcile.Range) reconcile.Covered {
		return reconcile.Covered{Space: "public.items", Generation: 7, Size: of, Records: of * 10, Ranges: ranges}
	}
	run := func(edit func(*reconcile.Run), covered ...reconcile.Covered) reconcile.Run {
		t.Helper()
		made, release, err := r.Begin(t.Context(), reconcile.Run{Slices: 4})
		must(t, err)
		must(t, r.Cover(t.Context(), made.ID, []reconcile.Covered{{Space: "public.wrong", Size: 1, Ranges: []reconcile.Range{{From: 0, To: 1}}}}))
		must(t, r.Cover(t.Context(), made.ID, covered)) // cut into chunks again: the last call counts
		made.Status = reconcile.Done
		if edit != nil {
			edit(&made)
		}
		must(t, r.Save(t.Context(), made, nil))
		release()
		made, err = r.Run(t.Context(), made.ID)
		must(t, err)
		return made
	}
	want(0, 0, 0)
	first := run(nil, blocks(100, reconcile.Range{From: 0, To: 20}, reconcile.Range{From: 50, To: 55}))
	want(1, 0.25, 0.25)
	run(nil, blocks(100, reconcile.Range{From: 10, To: 30}))
	want(2, 0.35, 0.35) // ten of them twice
	run(func(r *reconcile.Run) { r.Status = reconcile.Stopped }, blocks(100, reconcile.Range{From: 0, To: 100}))
	want(2, 0.35, 0.35)
	run(nil, blocks(200, reconcile.Range{From: 190, To: 200})) // the table has grown
	want(3, 0.225, 0.225)
	run(func(r *reconcile.Run) { r.Differences = 1 }, blocks(200, reconcile.Range{From: 100, To: 140}))
	want(4, 0.425, 0)
	run(func(r *reconcile.Run) { r.Repaired = 1 }, blocks(200, reconcile.Range{From: 100, To: 140}))
	want(5, 0.425, 0) // a repaired range is no verified one
	run(nil, blocks(200, reconcile.Range{From: 0, To: 10}))
	want(6, 0.425, 0.05)

	// A partition more, thrice as large by its records.
	other := reconcile.Covered{Space: "public.more", Generation: 8, Size: 10, Records: 6000, Ranges: []reconcile.Range{{From: 0, To: 5}}}
	run(nil, blocks(200), other)
	want(7, 0.25*0.425+0.75*0.5, 0.25*0.05+0.75*0.5)
	// Rewritten: its rows are elsewhere.
	rewritten := blocks(200, reconcile.Range{From: 0, To: 20})
	rewritten.Generation = 9
	run(nil, rewritten, other)
	want(8, 0.25*0.1+0.75*0.5, 0.25*0.1+0.75*0.5)
	run(nil, blocks(0)) // and emptied
	want(9, 1, 1)

	exec(t, s, "UPDATE migrator.reconcile_runs SET finished_at = finished_at - interval '31 days' WHERE id = $1", first.ID)
	run(nil, blocks(200, reconcile.Range{From: 190, To: 200}))
	want(9, (20+10+40+10)/200.0, 0.05+0.05)

	got, err := r.Coverage(t.Context(), first, window)
	must(t, err)
	if got.Runs != 0 { // what counts is when the state says that it finished
		t.Errorf("%+v", got)
	}
	applied := applied()
	applied.Config, applied.ConfigHash = []byte(`{"name":"products","other":1}`), "h2"
	if _, _, err := s.Apply(t.Context(), applied); err != nil {
		t.Fatal(err)
	}
	want(0, 0, 0)
}
