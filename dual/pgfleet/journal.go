package pgfleet

import (
	"cmp"
	"context"
	"slices"
	"time"

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
	var at phases.Route
	var live liveRoutes
	// [journal-held], [journal-version], [journal-changes], [no-journal-fails]: in the function.
	err := f.oneTrip(ctx, foreground, `SELECT * FROM migrator.journal_keys($1, $2, $3, $4, $5)`, []any{f.migration, rows.keys, rows.versions, rows.changes, rows.reasons},
		&at.Phase, &at.Percent, &at.Epoch, statedb.ScanShadow(&at.Shadow), &live.phases, &live.percents)
	if err != nil {
		return dual.JournalResult{}, err
	}
	routes, err := live.list()
	if err != nil {
		return dual.JournalResult{}, err
	}
	return dual.JournalResult{Route: at, TargetRead: statedb.AnyReadsTarget(at, routes), Fenced: statedb.Fenced(at.Phase)}, nil
}

// HasJournaled implements dual.JournalReader.
func (f *Fleet) HasJournaled(ctx context.Context, key record.Key) (has bool, err error) {
	err = f.with(ctx, background, func(q sender) error {
		return q.QueryRow(ctx, `SELECT migrator.has_journaled($1, $2)`, f.migration, []byte(key)).Scan(&has)
	})
	return has, explain(err)
}

// Captured implements dual.CaptureReader.
func (f *Fleet) Captured(ctx context.Context) (c dual.Captured, err error) {
	var alone *bool
	var at, caughtUp *time.Time
	err = f.with(ctx, background, func(q sender) error {
		return q.QueryRow(ctx, `SELECT alone, at, caught_up FROM migrator.captured($1)`, f.migration).Scan(&alone, &at, &caughtUp)
	})
	if statedb.LacksFunction(err) { // an older schema: it has no answer
		return dual.Captured{}, nil
	}
	if err == nil && alone != nil {
		c = dual.Captured{Alone: *alone, At: statedb.OrZero(at), CaughtUp: statedb.OrZero(caughtUp)}
	}
	return c, explain(err)
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
