package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/oneline"
	"github.com/stranglerfig/migrator/store"
)

// While a lock on the table is waited for, every write that comes later queues behind the request. So
// each try is short, and writes pass before the next one. Later tries are longer, for tables whose
// transactions overlap without end.
const (
	firstTry   = 100 * time.Millisecond
	longestTry = 400 * time.Millisecond
	waitShown  = 2 * time.Second // from when on a wait is reported,
	waitAgain  = 5 * time.Second // and how often

	patientTries = 2               // of one wait, behind autovacuum,
	patientMost  = 2 * time.Second // and how long each lasts at most
)

// locked runs do in a transaction that holds the migration's advisory lock and the
// table's lock in the given mode. It tries to get them until timeout; do may be called
// once in each try, whose transaction is rolled back if a lock is not free. The advisory lock
// comes first, to avoid a deadlock: a locked read holds it in shared mode while it
// waits for a row, and the row's writer has a lock on the table. A transaction with a
// lock on the table must therefore never wait for the advisory lock.
func (l *Legacy) locked(ctx context.Context, timeout time.Duration, mode string, do func(pgx.Tx) error) error {
	try := l.patiently(ctx, func(left, wait time.Duration) error { return l.tryLocked(ctx, left, wait, mode, do) })
	err := inTries(ctx, timeout, try, func(waited time.Duration) { l.showWait(ctx, waited, timeout) })
	return l.explainLock(ctx, asNotInstalled(err))
}

// inTries calls try until it has its locks, or the timeout is over. It waits for each lock on the table for
// wait at most; left is what remains of the timeout. show is called now and then while it lasts.
func inTries(ctx context.Context, timeout time.Duration, try func(left, wait time.Duration) error, show func(waited time.Duration)) error {
	began := time.Now()
	deadline, shown := began.Add(timeout), began.Add(waitShown-waitAgain)
	for n := 0; ; n++ {
		wait := min(firstTry<<min(n/5, 10), longestTry)
		left := max(time.Until(deadline), time.Millisecond)
		err := try(left, min(wait, left))
		if !isBusy(err) || time.Until(deadline) <= wait {
			return err
		}
		if now := time.Now(); now.Sub(shown) >= waitAgain {
			shown = now
			show(now.Sub(began))
		}
		if err := pause(ctx, wait); err != nil {
			return err
		}
	}
}

// patiently makes some tries longer where autovacuum holds the table.
func (l *Legacy) patiently(ctx context.Context, try func(left, wait time.Duration) error) func(left, wait time.Duration) error {
	patient := 0
	return func(left, wait time.Duration) error {
		began := time.Now()
		err := try(left, wait)
		if !isBusy(err) || patient == patientTries {
			return err
		}
		if long := l.patience(ctx); long > 0 && time.Since(began)+long <= left {
			patient++
			err = try(left-time.Since(began), long)
		}
		return err
	}
}

// patience is how long a try must last to get the table from autovacuum; 0: autovacuum does not hold it, or writes
// would have to wait for too long. The server cancels an autovacuum for a lock that was waited for during
// deadlock_timeout, and no sooner: behind shorter tries it goes on, for hours on a large table. One that prevents
// wraparound is never cancelled.
func (l *Legacy) patience(ctx context.Context) time.Duration {
	var milliseconds int64
	var held bool
	// A worker has no role, which every role may see; its kind is shown to some alone.
	err := l.pool.QueryRow(ctx, `SELECT (SELECT setting::int8 FROM pg_settings WHERE name = 'deadlock_timeout'), EXISTS (
			SELECT FROM pg_locks k JOIN pg_stat_activity a ON a.pid = k.pid
			WHERE k.locktype = 'relation' AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND k.granted
			  AND k.relation IN (SELECT $1::oid UNION SELECT relid::oid FROM pg_partition_tree($1::oid::regclass))
			  AND k.mode = 'ShareUpdateExclusiveLock' AND a.usesysid IS NULL)`, l.shape.oid).Scan(&milliseconds, &held)
	long := time.Duration(milliseconds)*time.Millisecond + firstTry
	if err != nil || !held || long > patientMost {
		return 0
	}
	return long
}

func (l *Legacy) tryLocked(ctx context.Context, left, wait time.Duration, mode string, do func(pgx.Tx) error) error {
	return inTx(ctx, l.pool, pgx.ReadWrite, func(tx pgx.Tx) error {
		if err := setLockTimeout(ctx, tx, left); err != nil {
			return err
		}
		// [repair-era], [fence-era]: no locked read is between its row and its era while the era
		// changes.
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", advisoryName(l.name)); err != nil {
			return err
		}
		// lock_timeout is for each partition by itself; statement_timeout bounds them together.
		var limit string
		if err := tx.QueryRow(ctx, `SELECT current_setting('statement_timeout') FROM
			(SELECT set_config('lock_timeout', $1, true)) AS s`, milliseconds(wait)).Scan(&limit); err != nil {
			return err
		}
		if err := setStatementTimeout(ctx, tx, milliseconds(2*wait)); err != nil {
			return err
		}
		// A partitioned table's partitions are locked with it.
		// [backfill-barrier], [fence-lock]: waits for every open writer of the table.
		if _, err := tx.Exec(ctx, "LOCK TABLE "+l.shape.name.Sanitize()+" IN "+mode+" MODE"); err != nil {
			if hasState(err, stateCanceled) {
				err = fmt.Errorf("%w: %w", errCutOff, err)
			}
			return err
		}
		if err := setStatementTimeout(ctx, tx, limit); err != nil {
			return err
		}
		return do(tx)
	})
}

func setLockTimeout(ctx context.Context, tx pgx.Tx, d time.Duration) error {
	_, err := tx.Exec(ctx, "SELECT set_config('lock_timeout', $1, true)", milliseconds(d))
	return err
}

func setStatementTimeout(ctx context.Context, tx pgx.Tx, d string) error {
	_, err := tx.Exec(ctx, "SELECT set_config('statement_timeout', $1, true)", d)
	return err
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// errCutOff reports that all locks of one statement took too long together.
var errCutOff = errors.New("the partitions' locks took too long")

func isBusy(err error) bool { return hasState(err, stateLockNotAvailable) || errors.Is(err, errCutOff) }

// showWait reports who holds the table that is waited for.
func (l *Legacy) showWait(ctx context.Context, waited, timeout time.Duration) {
	what := fmt.Sprintf("the lock of %s (%s of at most %s; each try is short, and writes pass in between)",
		l.table(), waited.Round(100*time.Millisecond), timeout)
	holders, err := l.holders(ctx)
	if err != nil || len(holders) == 0 {
		hint.Waiting(ctx, what, hint.Hint{})
		return
	}
	hint.Waiting(ctx, what+"; it is held by "+holders[0].String(), hint.Hint{Text: "let it end, or " + holders[0].end()})
}

// errBusy reports that open transactions kept a lock until the timeout.
var errBusy = store.ErrBusy

// explainLock adds the holders of the lock to the error of a lock timeout.
func (l *Legacy) explainLock(ctx context.Context, err error) error {
	if !isBusy(err) {
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

	database string // of a prepared transaction of another one
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
	database := "this database"
	if h.database != "" {
		database = "the database " + quote(oneline.Escape(h.database))
	}
	return "ROLLBACK PREPARED " + shownLiteral(h.gid) + " (or COMMIT PREPARED, as its transaction manager decided), as its owner or a superuser, in " + database
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

// aboutSession is the SQL of what a session a of pg_stat_activity is. Its statement, which may contain values, is
// never read.
const aboutSession = `CASE WHEN a.pid IS NOT NULL AND a.usesysid IS NULL THEN 'autovacuum' ELSE coalesce(nullif(a.application_name, ''), 'unnamed application') END ||
	', ' || coalesce(a.state, 'state unknown') ||
	coalesce(', transaction open for ' || extract(epoch FROM statement_timestamp() - a.xact_start)::numeric(20,1) || ' s', '') ||
	coalesce(', query begun ' || extract(epoch FROM statement_timestamp() - a.query_start)::numeric(20,1) || ' s ago', '')`

// holders are the transactions that hold the table, or a partition of it, in a writer's mode or a
// stronger one; those that are prepared first, since they don't end by themselves.
func (l *Legacy) holders(ctx context.Context) ([]holder, error) {
	rows, err := l.pool.Query(ctx, `
		SELECT DISTINCT p.prepared, coalesce(k.pid, 0) AS pid,
		       `+aboutSession+`,
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
