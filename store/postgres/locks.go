package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/store"
)

// locked runs do in a transaction that holds the migration's advisory lock and the
// table's lock in the given mode. It waits up to timeout in all. The advisory lock
// comes first, to avoid a deadlock: a locked read holds it in shared mode while it
// waits for a row, and the row's writer has a lock on the table. A transaction with a
// lock on the table must therefore never wait for the advisory lock.
func (l *Legacy) locked(ctx context.Context, timeout time.Duration, mode string, do func(pgx.Tx) error) error {
	err := inTx(ctx, l.pool, pgx.ReadWrite, func(tx pgx.Tx) error {
		began := time.Now()
		if err := setLockTimeout(ctx, tx, timeout); err != nil {
			return err
		}
		// [repair-era], [fence-era]: no locked read is between its row and its era while the era
		// changes.
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", advisoryName(l.name)); err != nil {
			return err
		}
		if err := setLockTimeout(ctx, tx, timeout-time.Since(began)); err != nil {
			return err
		}
		// A partitioned table's partitions are locked with it.
		// [backfill-barrier], [fence-lock]: waits for every open writer of the table.
		if _, err := tx.Exec(ctx, "LOCK TABLE "+l.shape.name.Sanitize()+" IN "+mode+" MODE"); err != nil {
			return err
		}
		return do(tx)
	})
	return l.explainLock(ctx, asNotInstalled(err))
}

func setLockTimeout(ctx context.Context, tx pgx.Tx, d time.Duration) error {
	_, err := tx.Exec(ctx, "SELECT set_config('lock_timeout', $1, true)", milliseconds(d))
	return err
}

// errBusy reports that open transactions kept a lock until the timeout.
var errBusy = store.ErrBusy

// explainLock adds the holders of the lock to the error of a lock timeout.
func (l *Legacy) explainLock(ctx context.Context, err error) error {
	if !hasState(err, stateLockNotAvailable) {
		return err
	}
	holders, holdersErr := l.holders(ctx)
	switch {
	case holdersErr != nil:
		return fmt.Errorf("%w: %s could not be locked in time (SQLSTATE %s)", errBusy, l.table(), stateLockNotAvailable)
	case len(holders) == 0:
		return hint.Errorf(hint.Hint{Do: hint.Retry}, "%w: %s could not be locked in time; the transactions that held it have ended since", errBusy, l.table())
	}
	return hint.Errorf(hint.Hint{Text: "wait until they end, or end one with SELECT pg_terminate_backend(" + strings.Fields(holders[0])[1] + ")"},
		"%w: %s could not be locked in time; it is locked by %s", errBusy, l.table(), strings.Join(holders, ", "))
}

// holders describes the transactions that hold the table, or a partition of it, in
// a writer's mode or a stronger one. It never shows their statements, which may contain
// values.
func (l *Legacy) holders(ctx context.Context) ([]string, error) {
	rows, err := l.pool.Query(ctx, `
		SELECT DISTINCT ON (k.pid) 'pid ' || coalesce(k.pid::text, '0') || ' (' ||
		       CASE WHEN k.pid IS NULL THEN 'a prepared transaction: see pg_prepared_xacts'
		       ELSE coalesce(nullif(a.application_name, ''), 'unnamed application') || ', ' || coalesce(a.state, 'state unknown') ||
		            coalesce(', transaction open for ' || extract(epoch FROM clock_timestamp() - a.xact_start)::numeric(20,1) || ' s', '') ||
		            coalesce(', query begun ' || extract(epoch FROM clock_timestamp() - a.query_start)::numeric(20,1) || ' s ago', '') END || ')'
		FROM pg_locks k LEFT JOIN pg_stat_activity a ON a.pid = k.pid
		WHERE k.locktype = 'relation' AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())
		  AND k.relation IN (SELECT $1::oid UNION SELECT relid::oid FROM pg_partition_tree($1::oid::regclass))
		  AND k.granted AND k.pid IS DISTINCT FROM pg_backend_pid()
		  AND k.mode IN ('RowShareLock', 'RowExclusiveLock', 'ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
		ORDER BY k.pid LIMIT 10`, l.shape.oid)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
