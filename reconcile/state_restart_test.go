package reconcile_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

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

// losingBackfills loses the state database when the second chunk is about to be saved.
type losingBackfills struct {
	backfill.Ledger
	lose func()
}

func (l losingBackfills) Save(ctx context.Context, p backfill.Progress) error {
	if p.Done > 1 {
		l.lose()
	}
	return l.Ledger.Save(ctx, p)
}

// losingRuns loses it when a run that has compared is about to be saved, or the first page of the
// journal about to be cleared.
type losingRuns struct {
	reconcile.Ledger
	lose func()
}

func (l losingRuns) Save(ctx context.Context, run reconcile.Run, found []reconcile.Finding, rechecked ...int) error {
	if run.Checked > 0 {
		l.lose()
	}
	return l.Ledger.Save(ctx, run, found, rechecked...)
}

func (l losingRuns) Clear(ctx context.Context, entries []reconcile.JournaledKey) (int64, error) {
	l.lose()
	return l.Ledger.Clear(ctx, entries)
}

// TestARestartOfTheStateEndsNoJob: it crashes, and is away in a backfill, in a run that compares, and while
// the journal is emptied; each shows what it waits for, and goes on.
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
	shown := make(chan string, 100)
	ctx := hint.OnWait(t.Context(), func(what string, _ hint.Hint) { shown <- what })
	// restart returns once the server is away. It comes back when the job has shown that it waits, as each must
	// sooner or later: none can end without the state.
	ended, back := make(chan struct{}), make(chan error, 1)
	restart := func() func() {
		return sync.OnceFunc(func() {
			if err := server.Kill(); err != nil {
				t.Error(err)
			}
			go func() {
				what := "nothing"
				select {
				case what = <-shown:
				case <-ended:
				}
				if !strings.Contains(what, "the state database: ") {
					t.Errorf("shown while the state was away: %s", what)
				}
				back <- server.Restart(t.Context())
			}()
		})
	}
	check := func(what string, err error) {
		t.Helper()
		close(ended)
		if err := errors.Join(err, <-back); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		ended, shown = make(chan struct{}), make(chan string, 100)
	}

	b := backfill.Backfill{
		Legacy: p.Legacy, Barrier: p.Legacy, Locker: p.Legacy, Target: p.Target,
		Ledger: losingBackfills{backfills.New(store.Pool(), "move"), restart()}, ChunkRows: 500, NotAfter: notAfter,
	}
	done, err := b.Run(ctx)
	check("the backfill", err)
	if latest, err := backfills.New(store.Pool(), "move").Latest(ctx); err != nil || latest.Finished.IsZero() || latest.Rows != 4000 || done.Done != len(done.Chunks) {
		t.Errorf("%+v, %v", latest, err)
	}

	rc, _ := reconciler(p)
	ledger := reconciles.New(store.Pool(), "move")
	rc.Ledger, rc.Jobs, rc.ChunkRows = losingRuns{ledger, restart()}, ledger, 250
	r, _, err := rc.Run(ctx, reconcile.RunOptions{Full: true, TwoWay: true})
	check("the run", err)
	if saved, err := ledger.Run(ctx, r.ID); err != nil || saved.Status != reconcile.Done || saved.Checked != 4000 || saved.Differences != 0 {
		t.Errorf("%+v, %v", saved, err)
	}

	if _, err := store.Pool().Exec(ctx, `INSERT INTO migrator.journal (migration, key, version, changes, reason, first_at, last_at)
		SELECT 'move', convert_to(i::text, 'UTF8'), repeat('0', 32), 1, 'timeout', now(), now() FROM generate_series(1, 4000) i`); err != nil {
		t.Fatal(err)
	}
	rc.Ledger = losingRuns{ledger, restart()}
	n, err := rc.RepairJournal(ctx)
	check("the journal", err)
	if left, err := ledger.JournalLength(ctx); err != nil || left != 0 || n != 4000 {
		t.Errorf("%d cleared, %d left, %v", n, left, err)
	}
}
