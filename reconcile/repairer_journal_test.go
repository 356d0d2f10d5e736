package reconcile_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stranglerfig/migrator/internal/state/reconciles"
	"github.com/stranglerfig/migrator/internal/test/pairtest"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/store"
)

// begun has something done as soon as a run has begun, and counts what is cleared.
type begun struct {
	*reconciles.Runs
	then    func()
	cleared int
}

func (b *begun) Begin(ctx context.Context, run reconcile.Run) (reconcile.Run, func(), error) {
	run, release, err := b.Runs.Begin(ctx, run)
	b.then()
	return run, release, err
}

func (b *begun) Clear(ctx context.Context, list []reconcile.JournaledKey) (int64, error) {
	b.cleared += len(list)
	return b.Runs.Clear(ctx, list)
}

// The journal's repair writes too: it waits while its run is paused, and ends when
// the run is cancelled.
func TestTheJournalsRepairWaitsWhileItsRunIsPaused(t *testing.T) {
	t.Parallel()
	const keys = 20
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 1, 1000)
	runBackfill(t, p)
	rc, _ := reconciler(p)
	ledger, sql := stateReconciles(t)
	b := &begun{Runs: ledger}
	rc.Ledger, rc.Jobs = b, ledger
	journal := func() {
		sql(`INSERT INTO migrator.journal (migration, key, version, changes, reason, first_at, last_at)
			SELECT 'move', convert_to(i::text, 'UTF8'), repeat('0', 32), 1, 'timeout', now(), now() FROM generate_series(1, $1) i`, keys)
	}
	paused := 0
	ledger.OnPause = func(_ int64, why string) {
		if why == "" {
			return
		}
		paused++
		if b.cleared > 0 {
			t.Errorf("%d keys were repaired by a paused run", b.cleared)
		}
		sql(`UPDATE migrator.reconcile_runs SET status = 'running'`)
	}
	journal()
	b.then = func() { sql(`UPDATE migrator.reconcile_runs SET status = 'paused', said = 'lunch'`) }
	var shown [2]int64
	rc.OnJournal = func(cleared, of int64) { shown = [2]int64{cleared, of} }
	if r, _ := run(t, rc, repaired); paused != 1 || r.Journaled != keys || b.cleared != keys || shown != [2]int64{keys, keys} {
		t.Errorf("paused %d times, %d cleared, shown as %d, %+v", paused, b.cleared, shown, r)
	}

	journal()
	b.cleared = 0
	b.then = func() {
		sql(`UPDATE migrator.reconcile_runs SET status = 'cancelled', finished_at = now() WHERE status = 'running'`)
	}
	r, _, err := rc.Run(t.Context(), repaired)
	if !errors.Is(err, reconcile.ErrCancelled) || r.Status != reconcile.Cancelled || b.cleared != 0 {
		t.Errorf("%v, %d cleared, %+v", err, b.cleared, r)
	}
}

// A target that was lost while it was repaired or compared proves nothing: its keys stay in the
// journal, and no run is done.
func TestALostTargetClearsNoKeyAndProvesNothing(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 1, 100)
	runBackfill(t, p)
	rc, _ := reconciler(p)
	ledger, sql := stateReconciles(t)
	rc.Ledger, rc.Jobs = ledger, ledger
	sql(`INSERT INTO migrator.journal (migration, key, version, changes, reason, first_at, last_at)
		SELECT 'move', convert_to(i::text, 'UTF8'), repeat('0', 32), 1, 'timeout', now(), now() FROM generate_series(1, 3) i`)
	rc.SameTarget = func(context.Context) error { return store.ErrMarkLost }
	if cleared, err := rc.RepairJournal(t.Context()); !errors.Is(err, store.ErrMarkLost) || cleared != 0 {
		t.Errorf("%d keys were cleared: %v", cleared, err)
	}
	for _, o := range []reconcile.RunOptions{repaired, {Full: true}} {
		if r, _, err := rc.Run(t.Context(), o); !errors.Is(err, store.ErrMarkLost) || r.Status != reconcile.Stopped || r.Journaled != 0 {
			t.Errorf("%+v: %v, %+v", o, err, r)
		}
	}
	looks := 0
	rc.SameTarget = func(context.Context) error { looks++; return nil }
	if r, _ := run(t, rc, repaired); r.Journaled != 3 || looks != 2 {
		t.Errorf("the target is back: %d looks, %+v", looks, r)
	}
}
