package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stranglerfig/migrator/internal/test/pairtest"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
)

// A repair writes, so it stops when its run is cancelled.
func TestACancelledRepairEnds(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 1, 3000)
	runBackfill(t, p)
	rc, _ := reconciler(p)
	ledger, sql := stateReconciles(t)
	rc.Ledger, rc.Jobs = ledger, ledger
	rc.MaxDifference, rc.RepairRate = phases.Whole, 20
	damaged := damage(t, p, 20, 3000)
	var cancelled bool
	rc.Report = func(r reconcile.Run) {
		if r.Repaired > 0 && !cancelled {
			cancelled = true
			sql(`UPDATE migrator.reconcile_runs SET status = 'cancelled', finished_at = clock_timestamp()`)
		}
	}
	r, _, err := rc.Run(t.Context(), repaired)
	if !errors.Is(err, reconcile.ErrCancelled) || r.Status != reconcile.Cancelled || r.Repaired == 0 || r.Repaired >= damaged {
		t.Errorf("%v, %+v", err, r)
	}
}

// A run that was stopped while it listed the target lists it from the beginning: what
// only the target has counts once, whether it was kept or had no room among the
// findings.
func TestExtrasOfAStoppedRunCountOnce(t *testing.T) {
	t.Parallel()
	const extras = 60
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 1, 1000)
	runBackfill(t, p)
	p.Exec(t, fmt.Sprintf("DELETE FROM items WHERE id <= %d", extras)) // without deletes in the target
	rc, _ := reconciler(p)
	ledger, _ := stateReconciles(t)
	rc.Ledger, rc.Jobs = ledger, ledger
	rc.Findings, rc.Quarantine, rc.Batch = 20, 15, 10
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	rc.Report = func(r reconcile.Run) {
		if r.Classes[reconcile.Extra] > extras/2 {
			cancel()
		}
	}
	first, kept, err := rc.Run(ctx, full)
	if !errors.Is(err, context.Canceled) || first.Differences <= int64(len(kept)) || first.Differences >= extras {
		t.Fatalf("%v, %d kept, %+v", err, len(kept), first)
	}
	rc.Report = nil
	last, _ := run(t, rc, reconcile.RunOptions{Resume: first.ID})
	if last.ID != first.ID || last.Differences != extras || last.Classes[reconcile.Extra] != extras || last.Checked != 1000-extras {
		t.Errorf("%+v", last)
	}
}

// A repair that was stopped in the middle is resumed: each difference counts
// once, whether it was repaired before, was kept, or had no room among the findings.
func TestAStoppedRepairIsResumed(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 1, 3000)
	runBackfill(t, p)
	rc, _ := reconciler(p)
	ledger, _ := stateReconciles(t)
	rc.Ledger, rc.Jobs = ledger, ledger
	rc.MaxDifference, rc.RepairRate, rc.Findings = phases.Whole, 20, 60
	damaged := damage(t, p, 20, 3000) // 150, of which not half are kept
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	rc.Report = func(r reconcile.Run) {
		if r.Repaired >= 60 {
			cancel()
		}
	}
	first, _, err := rc.Run(ctx, repaired)
	if !errors.Is(err, context.Canceled) || first.Repaired < 60 || first.Repaired >= damaged || first.Differences != damaged {
		t.Fatalf("%v, %+v", err, first)
	}
	rc.Report, rc.RepairRate = nil, 0
	last, found := run(t, rc, reconcile.RunOptions{Resume: first.ID})
	if last.ID != first.ID || last.Repaired != damaged || last.Differences != damaged || last.Checked != 3000 {
		t.Errorf("%+v", last)
	}
	for _, f := range found {
		if !f.Repaired {
			t.Errorf("%+v", f)
		}
	}
	p.WantSame(t)
	rc.Jobs = nil
	wantClean(t, rc)
}

// A run keeps its rate: one that began without a limit is resumed without, whatever the
// settings say by then.
func TestAResumedRunKeepsItsRate(t *testing.T) {
	t.Parallel()
	const rows = 3000
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 1, rows)
	runBackfill(t, p)
	rc, _ := reconciler(p)
	ledger, _ := stateReconciles(t)
	rc.Ledger, rc.Jobs = ledger, ledger
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	rc.Report = func(reconcile.Run) { cancel() }
	first, _, err := rc.Run(ctx, full)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("%v, %+v", err, first)
	}
	rc.Report, rc.Rate, rc.Batch = nil, 500, 100
	if last, _ := run(t, rc, reconcile.RunOptions{Resume: first.ID}); last.ID != first.ID || last.Checked != rows || last.Differences != 0 {
		t.Errorf("%+v", last)
	}
}
