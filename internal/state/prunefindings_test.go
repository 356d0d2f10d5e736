package state_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/state/reconciles"
	"github.com/stranglerfig/migrator/reconcile"
)

// TestOldFindingsArePruned, but not those that a snapshot or a resumed run reads.
func TestOldFindingsArePruned(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	r := reconciles.New(s.Pool(), testMigration)
	const old, young = 100 * 24 * time.Hour, 80 * 24 * time.Hour
	var want []int64
	ended := func(stays bool, whole bool, status reconcile.Status, age time.Duration) int64 {
		t.Helper()
		run, release, err := r.Begin(t.Context(), reconcile.Run{Full: whole, TwoWay: whole})
		must(t, err)
		release()
		exec(t, s, `UPDATE migrator.reconcile_runs SET status = $2, finished_at = clock_timestamp() - $3::interval WHERE id = $1`, run.ID, string(status), age)
		exec(t, s, `INSERT INTO migrator.reconcile_findings (run, key, raw_key, class, path, paths, detail, version, repaired, repair, at)
			SELECT $1, i::text::bytea, '', 'missing', '', '{}', '', '', false, '', now() FROM generate_series(1, 3) i`, run.ID)
		if stays {
			want = append(want, run.ID)
		}
		return run.ID
	}
	ended(false, true, reconcile.Done, old)
	failed := ended(true, false, reconcile.Done, old)
	exec(t, s, `UPDATE migrator.reconcile_runs SET differences = 3 WHERE id = $1`, failed) // the newest that found any
	ended(false, false, reconcile.Done, old)
	ended(true, true, reconcile.Done, old)  // the newest full one
	ended(true, false, reconcile.Done, old) // the newest sampled one
	ended(true, true, reconcile.Stopped, young)
	ended(true, true, reconcile.Cancelled, young)
	ended(false, true, reconcile.Cancelled, old)
	ended(false, true, reconcile.Stopped, old) // none of its jobs is left: a resumed run would start over
	resumable := ended(true, true, reconcile.Stopped, old)
	exec(t, s, `INSERT INTO migrator.reconcile_jobs (run, number, chunks) VALUES ($1, 0, '[]')`, resumable)
	for range 2 {
		must(t, r.Prune(t.Context(), 90*24*time.Hour))
		left := value[[]int64](t, s, `SELECT array_agg(DISTINCT run ORDER BY run) FROM migrator.reconcile_findings`)
		if !slices.Equal(left, want) {
			t.Errorf("findings of runs %v are left, want %v", left, want)
		}
	}
	if n := value[int64](t, s, `SELECT count(*) FROM migrator.reconcile_runs`); n != 10 {
		t.Errorf("%d runs are left", n)
	}
}
