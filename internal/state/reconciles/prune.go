package reconciles

import (
	"context"
	"time"

	"github.com/stranglerfig/migrator/internal/statedb"
)

// Prune deletes the findings of runs that ended longer than keep ago. It never deletes
// those that a snapshot reads (of the newest run of each kind, and of the newest that
// found differences), nor those of a run that can be resumed. The runs themselves, with
// their counts, stay.
func (r *Runs) Prune(ctx context.Context, keep time.Duration) error {
	_, err := r.pool.Exec(ctx, `DELETE FROM migrator.reconcile_findings f USING migrator.reconcile_runs r
		WHERE r.id = f.run AND r.migration = $1 AND r.finished_at < clock_timestamp() - $2::interval
		  AND (r.status IN ('done', 'cancelled')
		    OR r.status = 'stopped' AND NOT EXISTS (SELECT FROM migrator.reconcile_jobs j WHERE j.run = r.id))
		  AND r.id <> ALL (ARRAY(SELECT max(id) FROM migrator.reconcile_runs
			WHERE migration = $1 AND status = 'done' GROUP BY GROUPING SETS ((whole, two_way), (differences > 0))))`, r.migration, keep)
	return statedb.Explain(err)
}
