package reconcile_test

import (
	"errors"
	"testing"

	"github.com/stranglerfig/migrator/internal/backfill"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/backfills"
	"github.com/stranglerfig/migrator/internal/state/reconciles"
	"github.com/stranglerfig/migrator/internal/test/pairtest"
	"github.com/stranglerfig/migrator/internal/test/statetest"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
)

// The same on the state database: gates read what a run saves.
func TestBackfillAndReconcileOnTheStateDatabase(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	url := statetest.URL(t)
	store, err := state.Open(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	if _, _, err := store.Apply(ctx, state.Applied{Migration: "move", Config: []byte("{}"), ConfigHash: "h", Schema: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 1, 2000)
	b := &backfill.Backfill{
		Legacy: p.Legacy, Barrier: p.Legacy, Locker: p.Legacy, Target: p.Target, Ledger: backfills.New(store.Pool(), "move"), NotAfter: notAfter, ChunkRows: 300,
	}
	if _, err := b.Run(ctx); !errors.Is(err, backfill.ErrNotReady) {
		t.Fatalf("got %v, want it refused at legacy", err)
	}
	_, err = store.Transition(ctx, "move", func(e phases.Snapshot) (phases.Move, error) {
		return phases.Move{From: e.Status.Route, To: phases.Route{Phase: phases.ShadowWrite}, Cause: phases.CauseAdvance, Reason: "test"}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Run(ctx); err != nil {
		t.Fatal(err)
	}
	rc, _ := reconciler(p)
	ledger := reconciles.New(store.Pool(), "move")
	rc.Ledger = ledger
	if err := p.Redis.Del(ctx, "item:5").Err(); err != nil {
		t.Fatal(err)
	}
	first, _ := run(t, rc, repaired)
	kept, err := ledger.Findings(ctx, first.ID, 10)
	if err != nil || len(kept) != 1 || kept[0].Key != "5" || kept[0].Class != reconcile.Missing || !kept[0].Repaired {
		t.Fatalf("%+v, %v", kept, err)
	}
	e, err := store.Snapshot(ctx, "move")
	if err != nil || e.FullReconcile.Clean() || e.Backfill == nil || e.Backfill.Finished.IsZero() {
		t.Fatalf("%+v, %v", e, err)
	}
	wantClean(t, rc)
	if e, err = store.Snapshot(ctx, "move"); err != nil || !e.FullReconcile.Clean() || e.FullReconcile.Checked != 2000 {
		t.Fatalf("%+v, %v", e.FullReconcile, err)
	}
}
