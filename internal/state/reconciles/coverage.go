package reconciles

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
)

var _ reconcile.Coverer = (*Runs)(nil)

// Cover implements reconcile.Coverer.
func (r *Runs) Cover(ctx context.Context, run int64, covered []reconcile.Covered) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lock == nil {
		return statedb.ErrReleased
	}
	return r.lock.Persist(ctx, func() {}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM migrator.reconcile_coverage WHERE run = $1`, run); err != nil {
			return err
		}
		for _, c := range covered {
			_, err := tx.Exec(ctx, `INSERT INTO migrator.reconcile_coverage (run, relation, file, blocks, records, covered)
				VALUES ($1, $2, $3, $4, $5, $6::text::int8multirange)`, run, c.Space, c.Generation, c.Size, c.Records, multirange(c.Ranges))
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func multirange(ranges []reconcile.Range) string {
	var b strings.Builder
	b.WriteByte('{')
	for i, r := range ranges {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "[%d,%d)", r.From, r.To)
	}
	b.WriteByte('}')
	return b.String()
}

// coverageSQL counts the done runs of one config hash that finished within a time.
// Relations are those of the newest, and only runs that read the same files of them
// count: after VACUUM FULL the rows are in other places. Multiranges are taken apart before they are added
// up, since PostgreSQL 14 adds up ranges alone.
const coverageSQL = `WITH runs AS (
		SELECT r.id, r.differences + r.repaired + r.journalled = 0 AND r.id > coalesce((SELECT max(d.id) FROM migrator.reconcile_runs d
			WHERE d.migration = $1 AND d.differences > 0 AND d.id <= $3), 0) AS clean
		FROM migrator.reconcile_runs r
		WHERE r.migration = $1 AND r.status = 'done' AND r.config_hash = $2 AND r.id <= $3
		  AND r.finished_at > $4::timestamptz - $5::interval AND r.finished_at <= $4),
	legacy AS (
		SELECT relation, file, blocks, greatest(records, 1)::float8 AS weight FROM migrator.reconcile_coverage
		WHERE run = (SELECT max(c.run) FROM migrator.reconcile_coverage c JOIN runs ON runs.id = c.run)),
	covered AS (
		SELECT l.relation, l.blocks, l.weight, range_agg(part) AS checked, range_agg(part) FILTER (WHERE runs.clean) AS clean, bool_or(runs.clean) AS ever
		FROM legacy l JOIN migrator.reconcile_coverage c USING (relation, file) JOIN runs ON runs.id = c.run
		LEFT JOIN LATERAL unnest(c.covered) AS part ON true GROUP BY 1, 2, 3),
	shares AS (
		SELECT blocks, weight,
		       CASE WHEN blocks = 0 THEN 1 ELSE (SELECT coalesce(sum(upper(x) - lower(x)), 0) FROM unnest(checked * int8multirange(int8range(0, blocks))) x) / blocks::float8 END AS checked,
		       CASE WHEN blocks = 0 THEN ever::integer ELSE (SELECT coalesce(sum(upper(x) - lower(x)), 0) FROM unnest(clean * int8multirange(int8range(0, blocks))) x) / blocks::float8 END AS clean
		FROM covered)
	SELECT (SELECT count(*) FROM runs), coalesce(sum(blocks), 0)::bigint,
	       coalesce(sum(checked * weight) / sum(weight), 0), coalesce(sum(clean * weight) / sum(weight), 0) FROM shares`

// CoverageNow is how much of legacy has been checked within the window before now, by
// the migration file that is applied.
func (r *Runs) CoverageNow(ctx context.Context, window time.Duration) (reconcile.Coverage, error) {
	var hash string
	var last int64
	var now time.Time
	err := r.pool.QueryRow(ctx, `SELECT config_hash, clock_timestamp(), (SELECT coalesce(max(id), 0) FROM migrator.reconcile_runs WHERE migration = $1)
		FROM migrator.migrations WHERE name = $1`, r.migration).Scan(&hash, &now, &last)
	if err != nil {
		return reconcile.Coverage{}, statedb.Explain(err)
	}
	return r.coverage(ctx, hash, last, now, window)
}

// Coverage is how much of legacy had been checked within the window before the end
// of a run, by runs with its config hash. The run must have finished.
func (r *Runs) Coverage(ctx context.Context, run reconcile.Run, window time.Duration) (reconcile.Coverage, error) {
	return r.coverage(ctx, run.ConfigHash, run.ID, run.Finished, window)
}

func (r *Runs) coverage(ctx context.Context, hash string, last int64, at time.Time, window time.Duration) (reconcile.Coverage, error) {
	c := reconcile.Coverage{Window: phases.Duration(window)}
	err := r.pool.QueryRow(ctx, coverageSQL, r.migration, hash, last, at, window).Scan(&c.Runs, &c.Blocks, &c.Checked, &c.Clean)
	return c, statedb.Explain(err)
}
