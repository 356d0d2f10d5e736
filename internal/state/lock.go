package state

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

// The turnstile's number is a hash of the migration's name: two migrations that
// share one wait for each other, no more.
const (
	turnstileShared = `SELECT pg_advisory_xact_lock_shared(hashtextextended('migrator route ' || $1, 0))`
	turnstileAlone  = `SELECT pg_advisory_xact_lock(hashtextextended('migrator route ' || $1, 0))`
)

// alone runs f in a transaction that holds the migration's row alone: no instance
// joins, renews or journals meanwhile, and every one that did is seen. If the
// process freezes in it, the database ends it after patience; the fleet waits that long.
func (s *Store) alone(ctx context.Context, migration string, f func(tx pgx.Tx) error) error {
	return alone(ctx, s.pool, migration, phases.TransitionPatience, f)
}

func alone(ctx context.Context, pool *pgxpool.Pool, migration string, patience time.Duration, f func(tx pgx.Tx) error) error {
	// Whoever has it may be frozen: the database ends that after patience.
	ctx = patient(ctx, patience+phases.StatementWithin)
	err := pgx.BeginTxFunc(ctx, pool, readCommitted, func(tx pgx.Tx) error {
		found := false
		b := &pgx.Batch{}
		b.Queue(`SELECT set_config('idle_in_transaction_session_timeout', $1, true)`, fmt.Sprint(patience.Milliseconds()))
		b.Queue(turnstileAlone, migration)
		b.Queue(`SELECT true FROM migrator.migrations WHERE name = $1 FOR UPDATE`, migration).
			Query(func(rows pgx.Rows) error { found = rows.Next(); return rows.Err() })
		if err := tx.SendBatch(ctx, b).Close(); err != nil {
			return err
		}
		if !found {
			return unknown(ctx, tx, migration)
		}
		return f(tx)
	})
	return explain(err)
}

// runner is the lock of the one process that runs a job, and the connection that
// holds it. What the job saves goes through that connection: a runner that has
// lost its lock can't save.
type runner struct {
	mu   sync.Mutex
	conn *pgx.Conn
	job  string
}

var errNoRunner = errors.New("the lock of this run was released")

// take returns nil if another session has the job.
func take(ctx context.Context, pool *pgxpool.Pool, job string) (*runner, error) {
	cfg := pool.Config().ConnConfig.Copy()
	cfg.RuntimeParams["application_name"] = "migrator " + job
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to the state database: %w", err)
	}
	r := &runner{conn: conn, job: job}
	// A runner whose machine vanished would keep the lock for two hours otherwise.
	_, err = conn.Exec(ctx, `SELECT set_config('tcp_keepalives_idle', '10', false),
		set_config('tcp_keepalives_interval', '5', false), set_config('tcp_keepalives_count', '3', false)`)
	got := false
	if err == nil {
		err = conn.QueryRow(ctx, `SELECT pg_try_advisory_lock(hashtextextended('migrator job ' || $1, 0))`, job).Scan(&got)
	}
	if err != nil || !got {
		r.close(false)
		return nil, explain(err)
	}
	return r, nil
}

// do runs f in a transaction of the lock's own connection.
func (r *runner) do(ctx context.Context, f func(tx pgx.Tx) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn == nil {
		return errNoRunner
	}
	if r.conn.IsClosed() {
		return fmt.Errorf("the connection that held the lock of %s is gone: another run may have begun", r.job)
	}
	return explain(pgx.BeginTxFunc(ctx, r.conn, readCommitted, f))
}

func (r *runner) release() { r.close(true) }

// close unlocks first: the database may see the end of a connection later than
// the next run asks.
func (r *runner) close(unlock bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if unlock {
		_, _ = r.conn.Exec(ctx, `SELECT pg_advisory_unlock_all()`)
	}
	_ = r.conn.Close(ctx)
	r.conn = nil
}

// runnerNow says who has the job, for the error that refuses a second one.
func runnerNow(ctx context.Context, q querier, job string) string {
	var since time.Time
	var pid int32
	var from string
	err := q.QueryRow(ctx, `SELECT a.pid, a.backend_start, coalesce(host(a.client_addr), 'this host')
		FROM pg_locks l JOIN pg_stat_activity a USING (pid), hashtextextended('migrator job ' || $1, 0) h
		WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
		  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
		  AND l.classid::bigint = (h >> 32) & 4294967295 AND l.objid::bigint = h & 4294967295
		LIMIT 1`, job).Scan(&pid, &since, &from)
	if err != nil {
		return ""
	}
	return fmt.Sprintf(" (from %s, since %s, database session %d)", from, since.UTC().Format(time.RFC3339), pid)
}
