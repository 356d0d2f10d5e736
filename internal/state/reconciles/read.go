package reconciles

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/record"
)

const runSQL = `SELECT id, epoch, config_hash, whole, two_way, repair, slice, slices, status, checked, scanned, suspects,
	differences, repaired, classes::text, error, expected, unsettled, journalled, refused, forced, places, recent, recent_different, recent_only, began_at, finished_at FROM migrator.reconcile_runs`

func scanRun(row pgx.CollectableRow) (r reconcile.Run, err error) {
	var classes string
	var finished *time.Time
	err = row.Scan(&r.ID, &r.Epoch, &r.ConfigHash, &r.Full, &r.TwoWay, &r.Repair, &r.Slice, &r.Slices, &r.Status, &r.Checked,
		&r.Scanned, &r.Suspects, &r.Differences, &r.Repaired, &classes, &r.Error, &r.Expected, &r.Unsettled, &r.Journaled, &r.Refused, &r.Forced, &r.Places, &r.Recent, &r.RecentDifferent, &r.RecentOnly, &r.Began, &finished)
	if err != nil {
		return r, err
	}
	r.Finished = statedb.OrZero(finished)
	if classes != "{}" {
		err = json.Unmarshal([]byte(classes), &r.Classes)
	}
	return r, err
}

// List returns up to limit runs, newest first.
func (r *Runs) List(ctx context.Context, limit int) ([]reconcile.Run, error) {
	rows, err := r.pool.Query(ctx, runSQL+` WHERE migration = $1 ORDER BY id DESC LIMIT $2`, r.migration, limit)
	if err != nil {
		return nil, statedb.Explain(err)
	}
	runs, err := pgx.CollectRows(rows, scanRun)
	return runs, statedb.Explain(err)
}

// Latest returns the newest run, whatever its status; nil if there is none.
func (r *Runs) Latest(ctx context.Context) (*reconcile.Run, error) {
	runs, err := r.List(ctx, 1)
	if err != nil || len(runs) == 0 {
		return nil, err
	}
	return &runs[0], nil
}

// Run returns one run of this migration.
func (r *Runs) Run(ctx context.Context, id int64) (reconcile.Run, error) {
	rows, err := r.pool.Query(ctx, runSQL+` WHERE migration = $1 AND id = $2`, r.migration, id)
	if err != nil {
		return reconcile.Run{}, statedb.Explain(err)
	}
	run, err := pgx.CollectExactlyOneRow(rows, scanRun)
	if errors.Is(err, pgx.ErrNoRows) {
		return run, noRun(r.migration, id)
	}
	return run, statedb.Explain(err)
}

// UnknownRunError refuses the number of a run that there is not.
type UnknownRunError struct {
	Migration string
	Run       int64
}

func (e *UnknownRunError) Error() string {
	return fmt.Sprintf("%s has no reconcile run %d", e.Migration, e.Run)
}

// Hint implements hint.Hinter.
func (e *UnknownRunError) Hint() hint.Hint { return hint.Hint{Do: hint.ReconcileList} }

func noRun(migration string, id int64) error { return &UnknownRunError{migration, id} }

// Findings returns up to limit findings of a run, in the order they were made.
func (r *Runs) Findings(ctx context.Context, id int64, limit int) ([]reconcile.Finding, error) {
	rows, err := r.pool.Query(ctx, `SELECT f.key, f.raw_key, f.class, f.path, f.paths, f.detail, f.version, f.repaired, f.repair, f.at, f.lost
		FROM migrator.reconcile_findings f JOIN migrator.reconcile_runs r ON r.id = f.run
		WHERE r.migration = $1 AND f.run = $2 ORDER BY f.id LIMIT $3`, r.migration, id, limit)
	if err != nil {
		return nil, statedb.Explain(err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (f reconcile.Finding, err error) {
		var key, raw []byte
		var version string
		err = row.Scan(&key, &raw, &f.Class, &f.Path, &f.Paths, &f.Detail, &version, &f.Repaired, &f.Repair, &f.At, &f.Lost)
		if err != nil {
			return f, err
		}
		f.Key, f.RawKey = record.Key(key), string(raw)
		f.Version, err = record.ParseVersion(version)
		return f, err
	})
	return found, statedb.Explain(err)
}

// Journal returns up to limit journalled keys greater than after, in the order of
// their bytes; "" starts, and is itself returned first if it is there.
func (r *Runs) Journal(ctx context.Context, after record.Key, limit int) (list []reconcile.JournaledKey, err error) {
	err = statedb.Persist(ctx, func() error { list, err = r.journal(ctx, after, limit); return err })
	return list, err
}

func (r *Runs) journal(ctx context.Context, after record.Key, limit int) ([]reconcile.JournaledKey, error) {
	// A condition that the index serves: a page must not pass over all keys before it.
	from := "key > $2"
	if after == "" {
		from = "key >= $2"
	}
	list, err := statedb.Page(ctx, r.pool, func(row pgx.CollectableRow) (j reconcile.JournaledKey, err error) {
		var key []byte
		var version string
		if err := row.Scan(&key, &version, &j.Changes, &j.Reason, &j.Since); err != nil {
			return j, err
		}
		j.Key = record.Key(key)
		j.Version, err = record.ParseVersion(version)
		return j, err
	}, `SELECT key, version, changes, reason, first_at FROM migrator.journal
		WHERE migration = $1 AND `+from+` ORDER BY key LIMIT $3`, r.migration, []byte(after), limit)
	return list, statedb.Explain(err)
}

// JournalLength counts the journalled keys.
func (r *Runs) JournalLength(ctx context.Context) (n int64, err error) {
	err = statedb.Persist(ctx, func() error {
		return statedb.Explain(r.pool.QueryRow(ctx, `SELECT count(*) FROM migrator.journal WHERE migration = $1`, r.migration).Scan(&n))
	})
	return n, err
}

// Clear removes journalled keys, each unless it has been journalled again since. The count
// alone does not show that: another repairer may have cleared the key, and it may have been
// journalled again with the same count. So Since must be equal too, unless it is zero.
func (r *Runs) Clear(ctx context.Context, entries []reconcile.JournaledKey) (cleared int64, err error) {
	keys, changes, since := make([][]byte, len(entries)), make([]int64, len(entries)), make([]*time.Time, len(entries))
	for i, e := range entries {
		keys[i], changes[i] = []byte(e.Key), e.Changes
		if !e.Since.IsZero() {
			since[i] = &e.Since
		}
	}
	// [journal-changes]: compare-and-set on what was read before the repair.
	err = statedb.Persist(ctx, func() error {
		return statedb.Explain(r.pool.QueryRow(ctx, `SELECT migrator.clear_journal($1, $2, $3, $4)`, r.migration, keys, changes, since).Scan(&cleared))
	})
	return cleared, err
}
