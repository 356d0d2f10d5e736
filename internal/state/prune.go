package state

import (
	"context"

	"github.com/stranglerfig/migrator/internal/statedb"
)

// Prune deletes old evaluations and notifications. Call it once an hour. Of evaluations
// it keeps
//
//   - for six hours, all, as far back as a trigger looks;
//   - for a week, of each gate and trigger the newest of each twenty minutes, each whose verdict differs from
//     that of the one before, the last hundred, and those of alerts;
//   - for 90 days, of each gate and trigger the newest of each hour, and each whose
//     verdict differs from that of the one before;
//   - for ever, those that an entry of the history names.
//
// Delivered notifications are deleted after 30 days, undelivered ones after 7; entries of a return journal
// once it was emptied.
func (s *Store) Prune(ctx context.Context, migration string) error {
	_, err := s.pool.Exec(ctx, `SELECT migrator.prune($1)`, migration)
	if err != nil {
		return statedb.Explain(err)
	}
	return s.PruneReturn(ctx, migration)
}
