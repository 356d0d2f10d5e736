// Package backfills stores the backfills of a migration and their progress, and has the lock of the running one.
package backfills

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/internal/backfill"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// Runs are the backfills of one migration. Begin and Save belong to one running
// backfill: use a separate value for each.
type Runs struct {
	pool      *pgxpool.Pool
	migration string

	mu     sync.Mutex
	lock   *statedb.JobLock
	chunks []store.Chunk // as they were last saved
}

var _ backfill.Ledger = (*Runs)(nil)

// New returns the backfills of the migration.
func New(pool *pgxpool.Pool, migration string) *Runs {
	return &Runs{pool: pool, migration: migration}
}

// Begin takes the lock and resumes the unfinished backfill, if it began since the
// migration last left legacy, or records a new one. It is refused while any instance, its
// lease live or lapsed, may still be on legacy: that instance's writes are not shadowed,
// and a barrier taken now would not cover them.
func (b *Runs) Begin(ctx context.Context) (p backfill.Progress, release func(), err error) {
	job := "backfill " + b.migration
	r, err := statedb.TakeJob(ctx, b.pool, job)
	if err != nil {
		return p, nil, err
	}
	if r == nil {
		return p, nil, fmt.Errorf("%w%s", backfill.ErrRunning, statedb.JobHolder(ctx, b.pool, job))
	}
	err = r.Do(ctx, func(tx pgx.Tx) error {
		epoch, legacy, err := b.ready(ctx, tx)
		if err != nil {
			return err
		}
		p, err = b.resume(ctx, tx, epoch, legacy)
		return err
	})
	if err != nil {
		r.Release()
		return backfill.Progress{}, nil, err
	}
	b.mu.Lock()
	b.lock, b.chunks = r, slices.Clone(p.Chunks)
	b.mu.Unlock()
	return p, r.Release, nil
}

// ready returns the present epoch and the last one that a run must not be of.
func (b *Runs) ready(ctx context.Context, tx pgx.Tx) (epoch, before int64, err error) {
	// [backfill-barrier]: no move commits between this read of the leases and the record of the
	// run. [fields-barrier]: and no instance joins, which may move the columns of before.
	if _, err := tx.Exec(ctx, statedb.TurnstileExclusive, b.migration); err != nil {
		return 0, 0, err
	}
	var at phases.Route
	var legacy, fields int64
	var open, lost bool
	err = tx.QueryRow(ctx, `SELECT phase, percent, epoch, fields_epoch, former_moves <> '',
			EXISTS (SELECT FROM migrator.captures WHERE migration = name AND lost_at IS NOT NULL AND attempt = '') FROM migrator.migrations WHERE name = $1 FOR UPDATE`, b.migration).
		Scan(&at.Phase, &at.Percent, &at.Epoch, &fields, &open, &lost)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, 0, statedb.UnknownMigration(ctx, tx, b.migration)
	}
	if err != nil {
		return 0, 0, err
	}
	// [capture-reentry]: in-process writers may keep reads with the target while what capture has lost is copied. It
	// replaces nothing newer, and no fence begins before it has ended.
	reenters := lost && (at.Phase == phases.Cutover || at.Phase == phases.Grace)
	if at.Phase != phases.ShadowWrite && at.Phase != phases.DualRead && !reenters {
		return 0, 0, hint.Errorf(hint.Hint{Do: hint.Status}, "%w: it is at %s, and a backfill belongs to shadow-write or dual-read", backfill.ErrNotReady, at)
	}
	rows, err := tx.Query(ctx, `WITH legacy AS (
			SELECT coalesce(max(epoch), 0) AS epoch FROM migrator.epochs WHERE migration = $1 AND phase = 'legacy')
		SELECT legacy.epoch, coalesce(array_agg(l.instance ORDER BY l.instance) FILTER (WHERE l.instance IS NOT NULL), '{}')
		FROM legacy LEFT JOIN migrator.leases l
		  ON l.migration = $1 AND `+statedb.LeaseCountsSQL+` AND l.acknowledged_epoch <= legacy.epoch
		GROUP BY legacy.epoch`, b.migration)
	if err != nil {
		return 0, 0, err
	}
	var behind []string
	if _, err := pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (struct{}, error) {
		return struct{}{}, row.Scan(&legacy, &behind)
	}); err != nil {
		return 0, 0, err
	}
	// [backfill-barrier]: a write under legacy after the barrier is shadowed by no instance, and a
	// row that was read at the barrier's version would hide it.
	if len(behind) > 0 {
		return 0, 0, hint.Errorf(hint.Hint{Do: hint.FleetList}, "%w: %s may still be on legacy", backfill.ErrNotReady, strings.Join(behind, ", "))
	}
	if open {
		if err := b.closeFields(ctx, tx); err != nil {
			return 0, 0, err
		}
	}
	return at.Epoch, max(legacy, fields-1), nil
}

// closeFields ends the time in which instances may move the columns of before.
func (b *Runs) closeFields(ctx context.Context, tx pgx.Tx) error {
	var others []string
	if err := tx.QueryRow(ctx, `SELECT coalesce(array_agg(DISTINCT l.instance ORDER BY l.instance), '{}')
		FROM migrator.leases l JOIN migrator.migrations m ON m.name = l.migration
		WHERE m.name = $1 AND `+statedb.LeaseCountsSQL+` AND l.moves IS DISTINCT FROM m.moves`, b.migration).Scan(&others); err != nil {
		return err
	}
	// [fields-barrier]: what such an instance writes after the barrier lacks the new columns, and is
	// newer than what the run reads.
	if len(others) > 0 {
		return hint.Errorf(hint.Hint{Do: hint.FleetList, Text: "and restart them with a program that knows the new columns"},
			"%w: %s may still move the columns of before", backfill.ErrNotReady, strings.Join(others, ", "))
	}
	_, err := tx.Exec(ctx, `SELECT migrator.close_fields($1)`, b.migration)
	return err
}

func (b *Runs) resume(ctx context.Context, tx pgx.Tx, epoch, legacy int64) (backfill.Progress, error) {
	// [backfill-reentry]: a run from before the migration was last in legacy is not resumed: its
	// barrier does not cover the writes made there.
	rows, err := tx.Query(ctx, unfinishedSQL, b.migration, legacy+1)
	if err != nil {
		return backfill.Progress{}, err
	}
	p, err := pgx.CollectExactlyOneRow(rows, scanBackfill)
	if !errors.Is(err, pgx.ErrNoRows) {
		return p, err
	}
	p = backfill.Progress{Epoch: epoch}
	err = tx.QueryRow(ctx, `INSERT INTO migrator.backfills (migration, epoch, progress, chunks, began_at)
		VALUES ($1, $2, '{}', '[]', clock_timestamp()) RETURNING id, began_at`, b.migration, epoch).Scan(&p.ID, &p.Began)
	return p, err
}

// Save stores p over the connection that has the lock: a process that no longer has the
// lock can't save. The database sets Began and Finished.
func (b *Runs) Save(ctx context.Context, p backfill.Progress) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lock == nil {
		return statedb.ErrReleased
	}
	saved := slices.Clone(p.Chunks)
	finished := !p.Finished.IsZero()
	changed := !slices.Equal(saved, b.chunks)
	p.Chunks = nil
	progress, err := json.Marshal(p)
	if err != nil {
		return err
	}
	// [backfill-alone]: a process that no longer has the lock can't save. [backfill-reentry]: nor
	// can one whose migration has been back in legacy since the run began.
	// A process that had the job while the lock was lost may have stored other chunks.
	retaken := func() { changed = true }
	err = b.lock.Persist(ctx, retaken, func(tx pgx.Tx) error {
		var chunks *string
		if changed {
			doc, err := json.Marshal(saved)
			if err != nil {
				return err
			}
			text := string(doc)
			chunks = &text
		}
		tag, err := tx.Exec(ctx, `UPDATE migrator.backfills b SET progress = $3::jsonb, chunks = coalesce($4::jsonb, chunks),
				finished_at = CASE WHEN $5 THEN coalesce(finished_at, clock_timestamp()) END
			WHERE id = $2 AND migration = $1 AND void_at IS NULL AND (finished_at IS NULL OR $5)
			  AND epoch > (SELECT coalesce(max(e.epoch), 0) FROM migrator.epochs e WHERE e.migration = $1 AND e.phase = 'legacy')
			  AND epoch >= (SELECT m.fields_epoch FROM migrator.migrations m WHERE m.name = $1)`,
			b.migration, p.ID, string(progress), chunks, finished)
		if err == nil && tag.RowsAffected() == 0 {
			return hint.Errorf(hint.Hint{Do: hint.BackfillRun, Text: "in shadow-write or dual-read"},
				"%w: since backfill %d began it has been back in legacy, its columns were changed, legacy may have lost transactions, or another process has finished it", backfill.ErrNotReady, p.ID)
		}
		return err
	})
	if err == nil {
		b.chunks = saved
	}
	return err
}

// Latest is the newest backfill that has taken its barrier; nil if there is none. Of one that was refused before, for
// want of capture or of a lock, there is a row and nothing else: the next one uses it.
func (b *Runs) Latest(ctx context.Context) (*backfill.Progress, error) {
	return b.newest(ctx, backfillSQL+` WHERE migration = $1 AND `+statedb.BackfillCountsSQL+` ORDER BY id DESC LIMIT 1`, b.migration)
}

// Unfinished is the backfill that runs, or that the next one resumes; nil if there is none. from is the first epoch that
// it may be of.
func (b *Runs) Unfinished(ctx context.Context, from int64) (p *backfill.Progress, running bool, err error) {
	if p, err = b.newest(ctx, unfinishedSQL, b.migration, from); err != nil || p == nil {
		return nil, false, err
	}
	holder, err := statedb.LockHolder(ctx, b.pool, "migrator job backfill "+b.migration)
	if running = holder.PID != 0; err != nil || !running && p.Barrier.IsZero() {
		return nil, false, statedb.Explain(err)
	}
	return p, running, nil
}

func (b *Runs) newest(ctx context.Context, query string, arguments ...any) (*backfill.Progress, error) {
	rows, err := b.pool.Query(ctx, query, arguments...)
	if err != nil {
		return nil, statedb.Explain(err)
	}
	p, err := pgx.CollectExactlyOneRow(rows, scanBackfill)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return &p, statedb.Explain(err)
}

const backfillSQL = `SELECT id, epoch, progress::text, chunks::text, began_at, finished_at FROM migrator.backfills`

// unfinishedSQL is the run that is resumed.
const unfinishedSQL = backfillSQL + ` WHERE migration = $1 AND finished_at IS NULL AND void_at IS NULL AND epoch >= $2 ORDER BY id DESC LIMIT 1`

func scanBackfill(row pgx.CollectableRow) (p backfill.Progress, err error) {
	var id, epoch int64
	var progress, chunks string
	var began time.Time
	var finished *time.Time
	if err := row.Scan(&id, &epoch, &progress, &chunks, &began, &finished); err != nil {
		return p, err
	}
	if err := json.Unmarshal([]byte(progress), &p); err != nil {
		return p, fmt.Errorf("backfill %d: its progress can't be read: %w", id, err)
	}
	if err := json.Unmarshal([]byte(chunks), &p.Chunks); err != nil {
		return p, fmt.Errorf("backfill %d: its chunks can't be read: %w", id, err)
	}
	p.ID, p.Epoch, p.Began, p.Finished = id, epoch, began, statedb.OrZero(finished)
	return p, nil
}
