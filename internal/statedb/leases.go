package statedb

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/phases"
)

// LiveRoutesSQL reads every route that an instance with a live lease may still be on, and
// those on which an instance with a lapsed lease continues to read the target.
// [held-routes], [journal-held]: from the lowest epoch that a counted lease acknowledged: its
// instance may be on any later one. [lapsed-held]: on routes that read the target alone a lapsed
// lease counts too. [loss-held]: epochs that were only reported are rows of epochs as well.
const LiveRoutesSQL = `SELECT e.phase, e.percent, e.epoch FROM migrator.epochs e
	WHERE e.migration = $1 AND e.epoch >= (SELECT min(l.acknowledged_epoch) FROM migrator.leases l
		WHERE l.migration = $1 AND (l.expires_at > clock_timestamp()
			OR e.phase IN ('fenced', 'lifting', 'returning', 'retain', 'complete')) AND ` + LeaseCountsSQL + `)
	ORDER BY e.epoch DESC`

// CollectRoutes reads the rows of LiveRoutesSQL.
func CollectRoutes(into *[]phases.Route) func(pgx.Rows) error {
	return func(rows pgx.Rows) (err error) {
		*into, err = pgx.CollectRows(rows, ScanRoute)
		return err
	}
}

// AnyReadsTarget reports whether an instance on one of the routes reads the target.
func AnyReadsTarget(present phases.Route, live []phases.Route) bool {
	for _, r := range live {
		if r.ReadsTarget() {
			return true
		}
	}
	return present.ReadsTarget()
}

// LeaseCountsSQL is true if the lease still counts, live or lapsed.
// [superseded-counts]: a superseded lease ends in the future, when it would have expired.
// [lapsed-blocks]: an expired lease has not ended.
const LeaseCountsSQL = `(l.ended_at IS NULL OR l.ended_at > clock_timestamp())`

// MayHaveLostWritesSQL is true if, between the epoch that the lease acknowledged and now,
// its instance may have been on a route that writes the target after legacy. No other
// process knows the writes that it had committed in legacy and not yet applied.
// [unclean-mark]: from the acknowledged epoch on, since the instance may have swapped to any later
// one.
const MayHaveLostWritesSQL = `EXISTS (SELECT FROM migrator.epochs e WHERE e.migration = l.migration
	AND e.epoch >= l.acknowledged_epoch AND e.phase IN ('shadow-write', 'dual-read', 'cutover', 'grace'))`

const markSettledSQL = `UPDATE migrator.epochs e SET settled_at = clock_timestamp()
	FROM migrator.migrations m
	WHERE m.name = $1 AND e.migration = m.name AND e.epoch = m.epoch AND e.settled_at IS NULL
	  AND NOT EXISTS (SELECT FROM migrator.leases l WHERE l.migration = m.name AND ` + LeaseCountsSQL + `
	                  AND (l.acknowledged_epoch < m.epoch OR l.expires_at <= clock_timestamp()))`

// MarkSettled records when the present epoch was settled. It runs after, not in, the
// transaction that may have settled it: of two instances that acknowledge at once,
// the one that commits last then sees both. No decision rests on the record, so a
// failure to write it is ignored; the next renewal writes it.
func MarkSettled(ctx context.Context, pool *pgxpool.Pool, migration string) {
	_, _ = pool.Exec(ctx, markSettledSQL, migration)
}
