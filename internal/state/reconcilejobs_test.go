package state_test

import (
	"context"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/state/reconciles"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/store"
)

// TestAJobThatHasFailedIsTriedAgainByAResumedRun, as the error's hint promises.
func TestAJobThatHasFailedIsTriedAgainByAResumedRun(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	work := func(id int64) (counted int64, err error) {
		t.Helper()
		r := reconciles.New(s.Pool(), testMigration)
		run, release, err := r.Begin(ctx, reconcile.Run{ID: id, Full: true})
		must(t, err)
		defer release()
		if id == 0 {
			must(t, r.Enqueue(ctx, run.ID, reconcile.Terms{Lease: time.Minute}, []reconcile.Job{{Chunks: []store.Chunk{{Rows: 5}}}}))
			exec(t, s, `UPDATE migrator.reconcile_jobs SET state = 'failed', failures = 3, worker = 'another', error = 'no route to host'`)
		}
		err = r.Work(ctx, run.ID, 1,
			func(context.Context, reconcile.Job) (*reconcile.Tally, error) {
				return &reconcile.Tally{Checked: 5}, nil
			},
			func(_ reconcile.Job, t *reconcile.Tally) error {
				counted += t.Checked
				return nil
			})
		return counted, err
	}
	if _, err := work(0); does(err) != hint.ReconcileResume {
		t.Fatalf("%v", err)
	}
	list, err := reconciles.New(s.Pool(), testMigration).List(ctx, 1)
	must(t, err)
	if counted, err := work(list[0].ID); err != nil || counted != 5 {
		t.Errorf("resumed: %d counted, %v", counted, err)
	}
}
