package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode"

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
	shown := make([]string, len(holders))
	for i, h := range holders {
		shown[i] = h.String()
	}
	return hint.Errorf(hint.Hint{Text: "wait until they end, or end one with " + holders[0].end()},
		"%w: %s could not be locked in time; it is locked by %s", errBusy, l.table(), strings.Join(shown, ", "))
}

// holder is a transaction that holds the table, or a partition of it.
type holder struct {
	pid   int    // 0: it is prepared, and belongs to no session
	about string // of a session
	gid   string // of a prepared transaction, which waits for COMMIT PREPARED or ROLLBACK PREPARED
	owner string
	age   time.Duration
}

// maxGID is how much of a prepared transaction's identifier is shown. Its program chose it.
const maxGID = 40

func (h holder) String() string {
	if h.gid == "" {
		return fmt.Sprintf("pid %d (%s)", h.pid, h.about)
	}
	gid := []rune(h.gid)
	if len(gid) > maxGID {
		gid = append(gid[:maxGID], '…')
	}
	return fmt.Sprintf("prepared transaction %q (of %q, prepared %s ago)", string(gid), h.owner, h.age.Round(100*time.Millisecond))
}

// end is the command that ends the transaction.
func (h holder) end() string {
	if h.gid == "" {
		return fmt.Sprintf("SELECT pg_terminate_backend(%d)", h.pid)
	}
	return "ROLLBACK PREPARED " + shownLiteral(h.gid) + " (or COMMIT PREPARED, as its transaction manager decided), as its owner or a superuser, in this database"
}

// shownLiteral is the SQL literal of a text that may hold signs which a terminal interprets: those are
// escaped.
func shownLiteral(s string) string {
	var b strings.Builder
	escaped := false
	for _, r := range s {
		switch {
		case r == '\'':
			b.WriteString("''")
		case r == '\\':
			escaped = true
			b.WriteString(`\\`)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			escaped = true
			fmt.Fprintf(&b, `\U%08X`, r)
		}
	}
	if escaped {
		return "E'" + b.String() + "'"
	}
	return "'" + b.String() + "'"
}

// holders are the transactions that hold the table, or a partition of it, in a writer's mode or a
// stronger one; those that are prepared first, since they don't end by themselves. Their
// statements, which may contain values, are never read.
func (l *Legacy) holders(ctx context.Context) ([]holder, error) {
	rows, err := l.pool.Query(ctx, `
		SELECT DISTINCT p.prepared, coalesce(k.pid, 0) AS pid,
		       coalesce(nullif(a.application_name, ''), 'unnamed application') || ', ' || coalesce(a.state, 'state unknown') ||
		       coalesce(', transaction open for ' || extract(epoch FROM statement_timestamp() - a.xact_start)::numeric(20,1) || ' s', '') ||
		       coalesce(', query begun ' || extract(epoch FROM statement_timestamp() - a.query_start)::numeric(20,1) || ' s ago', ''),
		       coalesce(p.gid, ''), coalesce(p.owner::text, ''), coalesce(extract(epoch FROM statement_timestamp() - p.prepared), 0)::float8
		FROM pg_locks k LEFT JOIN pg_stat_activity a ON a.pid = k.pid
		LEFT JOIN (pg_locks x JOIN pg_prepared_xacts p ON p.transaction = x.transactionid)
		  ON k.pid IS NULL AND x.pid IS NULL AND x.locktype = 'transactionid' AND x.virtualtransaction = k.virtualtransaction
		WHERE k.locktype = 'relation' AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())
		  AND k.relation IN (SELECT $1::oid UNION SELECT relid::oid FROM pg_partition_tree($1::oid::regclass))
		  AND k.granted AND k.pid IS DISTINCT FROM pg_backend_pid() AND (k.pid IS NOT NULL OR p.gid IS NOT NULL)
		  AND k.mode IN ('RowShareLock', 'RowExclusiveLock', 'ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
		ORDER BY p.prepared, pid LIMIT 10`, l.shape.oid)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (h holder, err error) {
		var prepared *time.Time
		var seconds float64
		err = row.Scan(&prepared, &h.pid, &h.about, &h.gid, &h.owner, &seconds)
		h.age = time.Duration(seconds * float64(time.Second))
		return h, err
	})
}

// checkPrepared reports prepared transactions, which hold their locks until a program ends them.
func (l *Legacy) checkPrepared(ctx context.Context, f *findings) error {
	var most int
	if err := l.pool.QueryRow(ctx, "SELECT current_setting('max_prepared_transactions')::int").Scan(&most); err != nil || most == 0 {
		return err
	}
	holders, err := l.holders(ctx)
	if err != nil {
		return err
	}
	held := false
	for _, h := range holders {
		if h.gid != "" {
			held = true
			f.warn("legacy-prepared", h.end(), "%s holds %s: the backfill's barrier and the fence wait for it", h, l.table())
		}
	}
	if !held {
		f.good("legacy-prepared", "max_prepared_transactions is %d; no prepared transaction holds %s", most, l.table())
	}
	return nil
}
