package statedb

import (
	"context"

	"github.com/stranglerfig/migrator/phases"
)

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

// MarkSettled records when the present epoch was settled. It runs after, not in, the
// transaction that may have settled it: of two instances that acknowledge at once,
// the one that commits last then sees both. No decision rests on the record, so a
// failure to write it is ignored; the next renewal writes it.
func MarkSettled(ctx context.Context, q Querier, migration string) {
	_, _ = q.Exec(ctx, `SELECT migrator.settle($1)`, migration)
}
