package pgfleet

import (
	"cmp"
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// Journal records changes that did not reach the target, and returns what they mean for
// readers. Either a transition finds the keys, or the result includes the transition:
// both lock the migration's row.
func (f *Fleet) Journal(ctx context.Context, entries []dual.JournalEntry) (dual.JournalResult, error) {
	rows := mergeEntries(entries)
	var g dual.Grant
	var live []phases.Route
	err := f.oneTrip(ctx, &g, func(b *pgx.Batch) {
		// [journal-held]: read in the transaction that journals: a route that an instance may have
		// swapped to, and not acknowledged yet, counts too.
		b.Queue(statedb.LiveRoutesSQL, f.migration).Query(statedb.CollectRoutes(&live))
		// [journal-version]: the highest failed version. [journal-changes]: the count only grows, so a
		// repair that began before finds the difference. [no-journal-fails]: behind a fence no key
		// enters, and the result has Fenced set.
		b.Queue(`INSERT INTO migrator.journal AS j (migration, key, version, changes, reason, first_at, last_at)
			SELECT m.name, l.key, l.version, l.changes, l.reason, clock_timestamp(), clock_timestamp()
			FROM migrator.migrations m, unnest($2::bytea[], $3::text[], $4::bigint[], $5::text[]) AS l (key, version, changes, reason)
			WHERE m.name = $1 AND m.phase = ANY ($6::text[])
			ORDER BY l.key
			ON CONFLICT (migration, key) DO UPDATE SET
				version = greatest(j.version, excluded.version), changes = j.changes + excluded.changes,
				reason = excluded.reason, last_at = excluded.last_at`,
			f.migration, rows.keys, rows.versions, rows.changes, rows.reasons, statedb.JournalingPhases())
	})
	if err != nil {
		return dual.JournalResult{}, err
	}
	return dual.JournalResult{Route: g.Route, TargetRead: statedb.AnyReadsTarget(g.Route, live), Fenced: statedb.Fenced(g.Route.Phase)}, nil
}

// HasJournaled implements dual.JournalReader.
func (f *Fleet) HasJournaled(ctx context.Context, key record.Key) (has bool, err error) {
	err = f.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM migrator.journal WHERE migration = $1 AND key = $2)`, f.migration, []byte(key)).Scan(&has)
	return has, statedb.Explain(err)
}

type journalRows struct {
	keys     [][]byte
	versions []string
	changes  []int64
	reasons  []string
}

const longestReason = 500 // bytes of one reason that are kept

// mergeEntries makes one row for each key, since one statement can't change a row twice,
// and sorts them: two concurrent calls with the same keys must lock them in one order.
func mergeEntries(entries []dual.JournalEntry) (rows journalRows) {
	sorted := slices.Clone(entries)
	slices.SortStableFunc(sorted, func(a, b dual.JournalEntry) int { return cmp.Compare(a.Key, b.Key) })
	for i := 0; i < len(sorted); {
		key, highest, changes, reason := sorted[i].Key, record.Version{}, int64(0), ""
		for ; i < len(sorted) && sorted[i].Key == key; i++ {
			// [journal-version]: of several versions of one key in one call, the highest.
			highest, reason = highest.Max(sorted[i].Version), sorted[i].Reason
			changes++
		}
		rows.keys = append(rows.keys, []byte(key))
		rows.versions = append(rows.versions, string(highest.AppendText32(nil)))
		rows.changes = append(rows.changes, changes)
		rows.reasons = append(rows.reasons, statedb.CleanText(reason[:min(len(reason), longestReason)]))
	}
	return rows
}
