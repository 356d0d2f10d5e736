package statedb

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/phases"
)

// TurnstileExclusive takes the turnstile alone; migrator.enter takes it in share mode. Its number is a hash
// of the migration's name: two migrations that share one wait for each other, no more.
const TurnstileExclusive = `SELECT pg_advisory_xact_lock(hashtextextended('migrator route ' || $1, 0))`

// Exclusive runs f in a transaction that has the migration's row alone: no instance joins, renews
// or journals until it ends. If its process freezes, the database ends it after patience, and with
// it the wait of the fleet.
func Exclusive(ctx context.Context, pool *pgxpool.Pool, migration string, patience time.Duration, f func(tx pgx.Tx) error) error {
	// The transaction that has the row may be of a frozen process: the database ends it after
	// patience.
	ctx = WithPatience(ctx, patience+phases.StatementWithin)
	var blocker Blocker
	err := InTx(ctx, pool, ReadCommitted, func(tx pgx.Tx) error {
		found := false
		b := &pgx.Batch{}
		b.Queue(`SELECT set_config('idle_in_transaction_session_timeout', $1, true)`, fmt.Sprint(patience.Milliseconds()))
		// [journal-serial], [join-locked]: the turnstile first: transactions that share the row
		// overlap, and an exclusive lock of the row alone might never get its turn between them.
		b.Queue(TurnstileExclusive, migration)
		b.Queue(`SELECT true FROM migrator.migrations WHERE name = $1 FOR UPDATE`, migration).
			Query(func(rows pgx.Rows) error { found = rows.Next(); return rows.Err() })
		end := watchBlocker(ctx, pool, tx.Conn().PgConn().PID())
		err := tx.SendBatch(ctx, b).Close()
		if blocker = end(); err != nil {
			return err
		}
		blocker = Blocker{} // it has let go
		if !found {
			return UnknownMigration(ctx, tx, migration)
		}
		return f(tx)
	})
	return named(Explain(err), blocker)
}

type dryRun struct{}

// DryRun returns a context in which each Exclusive and InTx, and each change by a JobLock, does all of its work, and
// then rolls it back: what would be refused is refused.
func DryRun(ctx context.Context) context.Context { return context.WithValue(ctx, dryRun{}, true) }

// IsDryRun reports whether the context is one of DryRun.
func IsDryRun(ctx context.Context) bool { return ctx.Value(dryRun{}) != nil }

var errRolledBack = errors.New("dry run")

// InTx runs f in a transaction, which is rolled back in a dry run.
func InTx(ctx context.Context, pool *pgxpool.Pool, options pgx.TxOptions, f func(tx pgx.Tx) error) error {
	return inTx(ctx, pool, options, f)
}

type beginner interface {
	BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
}

func inTx(ctx context.Context, db beginner, options pgx.TxOptions, f func(tx pgx.Tx) error) error {
	err := pgx.BeginTxFunc(ctx, db, options, func(tx pgx.Tx) error {
		err := f(tx)
		if err == nil && IsDryRun(ctx) {
			err = errRolledBack
		}
		return err
	})
	if errors.Is(err, errRolledBack) {
		return nil
	}
	return err
}

// JobLock is the lock of the one process that runs a job, and the connection whose
// session has it. The job saves through that connection: a process that no longer has
// the lock can't save.
type JobLock struct {
	mu     sync.Mutex
	conn   *pgx.Conn // nil: released
	config *pgx.ConnConfig
	job    string
}

// ErrReleased refuses a use of a JobLock that was released.
var ErrReleased = errors.New("the lock of this run was released")

// TakeJob returns nil if another session has the job.
func TakeJob(ctx context.Context, pool *pgxpool.Pool, job string) (*JobLock, error) {
	cfg := pool.Config().ConnConfig.Copy()
	cfg.RuntimeParams["application_name"] = "migrator " + job
	conn, err := connectJob(ctx, cfg, job)
	if err != nil || conn == nil {
		return nil, err
	}
	return &JobLock{conn: conn, config: cfg, job: job}, nil
}

// Do runs f in a transaction of the lock's own connection.
func (r *JobLock) Do(ctx context.Context, f func(tx pgx.Tx) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn == nil {
		return ErrReleased
	}
	if r.conn.IsClosed() {
		return fmt.Errorf("the connection with the lock of %s was closed: another run may have begun", r.job)
	}
	// [backfill-alone]: the session that has the lock makes the change: a closed connection ends
	// both the lock and the change.
	return Explain(inTx(ctx, r.conn, ReadCommitted, f))
}

// Persist is Do for an f that does no harm when it is done twice. While the state database is away it waits; then
// it takes the lock again, over another connection. retaken is called after that, before f: another
// process may have had the job meanwhile.
func (r *JobLock) Persist(ctx context.Context, retaken func(), f func(tx pgx.Tx) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Persist(ctx, func() error {
		if r.conn == nil {
			return ErrReleased
		}
		if r.conn.IsClosed() {
			if err := r.retake(ctx); err != nil {
				return err
			}
			retaken()
		}
		return Explain(inTx(ctx, r.conn, ReadCommitted, f))
	})
}

// retake takes the lock over another connection.
func (r *JobLock) retake(ctx context.Context) error {
	conn, err := connectJob(ctx, r.config, r.job)
	switch {
	case err != nil:
		return err
	case conn == nil: // by another process, or by the old session, whose end the server has not seen yet
		return fmt.Errorf("another session has the lock of %s: %w", r.job, errConnClosed)
	}
	r.conn = conn
	return nil
}

// errConnClosed reports that a job has lost the connection that had its lock.
var errConnClosed = errors.New("the connection to the state database was closed")

// connectJob returns a connection that has the lock of a job; nil if another session has it.
func connectJob(ctx context.Context, config *pgx.ConnConfig, job string) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to the state database: %w", err)
	}
	// Without keepalives, a process whose machine vanished would keep the lock for two hours.
	_, err = conn.Exec(ctx, `SELECT set_config('tcp_keepalives_idle', '10', false),
		set_config('tcp_keepalives_interval', '5', false), set_config('tcp_keepalives_count', '3', false)`)
	got := false
	if err == nil {
		err = conn.QueryRow(ctx, `SELECT pg_try_advisory_lock(hashtextextended('migrator job ' || $1, 0))`, job).Scan(&got)
	}
	if err != nil || !got {
		closeJob(conn, false)
		return nil, Explain(err)
	}
	return conn, nil
}

// closeJob unlocks first: the database may notice the end of a connection only after the
// next run has asked for the lock.
func closeJob(conn *pgx.Conn, unlock bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if unlock {
		_, _ = conn.Exec(ctx, `SELECT pg_advisory_unlock_all()`)
	}
	_ = conn.Close(ctx)
}

// Release gives up the lock and closes its connection.
func (r *JobLock) Release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn != nil {
		closeJob(r.conn, true)
		r.conn = nil
	}
}

// JobHolder names the session that has the job, for the error that refuses a second
// one; "" if it is not known.
func JobHolder(ctx context.Context, q Querier, job string) string {
	b, err := LockHolder(ctx, q, "migrator job "+job)
	if err != nil || b.PID == 0 {
		return ""
	}
	return fmt.Sprintf(" (%s)", b)
}
