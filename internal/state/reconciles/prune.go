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
	_, err := r.pool.Exec(ctx, `SELECT migrator.prune_findings($1, $2)`, r.migration, keep)
	return statedb.Explain(err)
}
