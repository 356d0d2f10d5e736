package reconcile_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/backfill"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/backfills"
	"github.com/stranglerfig/migrator/internal/state/reconciles"
	"github.com/stranglerfig/migrator/internal/test/pairtest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
)

// TestARestartOfTheStateEndsNoJob: it crashes, and is away for longer than a second in a backfill, in a run that
// compares, and while the journal is emptied; each goes on and says what it waited for.
func TestARestartOfTheStateEndsNoJob(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t)
	if _, _, err := state.Migrate(t.Context(), server.URL()); err != nil {
		t.Fatal(err)
	}
	store := openState(t, server.URL())
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 1, 4000)
	if _, err := store.Transition(t.Context(), "move", func(e phases.Snapshot) (phases.Move, error) {
		return phases.Move{From: e.Status.Route, To: phases.Route{Phase: phases.ShadowWrite}, Cause: phases.CauseAdvance, Reason: "test"}, nil
	}); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var shown []string
	ctx := hint.OnWait(t.Context(), func(what string, _ hint.Hint) {
		mu.Lock()
		defer mu.Unlock()
		shown = append(shown, what)
	})
	// restart returns once the server is away, which it is for another second and a half.
	back := make(chan error, 1)
	restart := func() func() {
		return sync.OnceFunc(func() {
			if err := server.Kill(); err != nil {
				t.Error(err)
			}
			go func() {
				time.Sleep(1500 * time.Millisecond)
				back <- server.Restart(t.Context())
			}()
		})
	}
	check := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if err := <-back; err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		defer mu.Unlock()
		// A run may need the state only after a while: it compares what it has taken.
		if slices.ContainsFunc(shown, func(s string) bool { return !strings.Contains(s, "the state database: ") }) || (len(shown) == 0 && what == "the backfill") {
			t.Errorf("%s: it did not show what it waited for: %q", what, shown)
		}
		shown = nil
	}

	stop := restart()
	b := backfill.Backfill{
		Legacy: p.Legacy, Barrier: p.Legacy, Locker: p.Legacy, Target: p.Target, Ledger: backfills.New(store.Pool(), "move"),
		ChunkRows: 500, NotAfter: notAfter,
		Report: func(p backfill.Progress) {
			if p.Done > 1 {
				stop()
			}
		},
	}
	done, err := b.Run(ctx)
	check("the backfill", err)
	if latest, err := backfills.New(store.Pool(), "move").Latest(ctx); err != nil || latest.Finished.IsZero() || latest.Rows != 4000 || done.Done != len(done.Chunks) {
		t.Errorf("%+v, %v", latest, err)
	}

	rc, _ := reconciler(p)
	ledger := reconciles.New(store.Pool(), "move")
	rc.Ledger, rc.Jobs, rc.Rate, rc.ChunkRows = ledger, ledger, 4000, 250
	stop = restart()
	rc.Report = func(r reconcile.Run) {
		if r.Checked > 500 {
			stop()
		}
	}
	r, _, err := rc.Run(ctx, reconcile.RunOptions{Full: true, TwoWay: true})
	check("the run", err)
	if saved, err := ledger.Run(ctx, r.ID); err != nil || saved.Status != reconcile.Done || saved.Checked != 4000 || saved.Differences != 0 {
		t.Errorf("%+v, %v", saved, err)
	}

	if _, err := store.Pool().Exec(ctx, `INSERT INTO migrator.journal (migration, key, version, changes, reason, first_at, last_at)
		SELECT 'move', convert_to(i::text, 'UTF8'), repeat('0', 32), 1, 'timeout', now(), now() FROM generate_series(1, 4000) i`); err != nil {
		t.Fatal(err)
	}
	stop = restart()
	rc.Report, rc.OnJournal = nil, func(int64, int64) { stop() }
	n, err := rc.RepairJournal(ctx)
	check("the journal", err)
	if left, err := ledger.JournalLength(ctx); err != nil || left != 0 || n != 4000 {
		t.Errorf("%d cleared, %d left, %v", n, left, err)
	}
}
