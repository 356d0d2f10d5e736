package state

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/statedb"
)

const (
	leadAsk      = time.Second     // how often a standby asks for the lock, and a leader checks that it still has it
	leadPatience = 3 * time.Second // how long the leader's connection may take to answer
	// A session that keeps the lock without being a leader is reported after some times of asking, and
	// again each minute.
	strangerAfter = 3
	reportHolder  = 60
	leaderName    = "migrator leader"
	leadRetry     = 15 * time.Second // longest wait between two attempts to connect
)

// errLeadershipLost reports that the session which had the lock, or waited for it, ended.
var errLeadershipLost = errors.New("leadership lost")

// LeaderName is the name under which the daemons of a migration lead.
func LeaderName(migration string) string { return "keep " + migration }

// Lead runs lead in one process at a time of all that share the state database and
// the name; the others wait as standbys until ctx ends. lead's context ends when ctx
// does, and when the connection that has the lock closes: at once if the process sees
// its end, within 4 s if the network drops all packets. PostgreSQL releases the lock of
// a machine that vanished after 25 s. Then, when lead has returned, the process is a
// standby again. After a leader's process is killed, a standby leads within some 2 s. A
// frozen leader may for a moment be one of two: each of its changes must be guarded by a
// compare-and-set.
//
// It returns what lead returned, or ctx's error if lead did not run to its end.
func (s *Store) Lead(ctx context.Context, name string, lead func(ctx context.Context) error) error {
	wait := &backoff.ExponentialBackOff{
		InitialInterval: 200 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: leadRetry,
	}
	wait.Reset()
	for {
		led, err := s.leadOnce(ctx, name, lead)
		switch {
		case !errors.Is(err, errLeadershipLost):
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		// It led, so the database answered: the next pause is the shortest again.
		case led:
			wait.Reset()
		}
		if err := statedb.Sleep(ctx, wait.NextBackOff()); err != nil {
			return err
		}
	}
}

// leadOnce waits and leads on one connection. errLeadershipLost when it closes.
func (s *Store) leadOnce(ctx context.Context, name string, lead func(ctx context.Context) error) (led bool, err error) {
	conn, err := s.leadConn(ctx)
	if err != nil {
		return false, err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), leadPatience)
		defer cancel()
		// The database may see the end of a connection later than the next one asks.
		_, _ = conn.Exec(closing, `SELECT pg_advisory_unlock_all()`)
		_ = conn.Close(closing)
	}()
	// A standby polls. Waiting inside pg_advisory_lock would keep a snapshot open for days and
	// so hold back vacuum, perhaps in the legacy database.
	for asked := 1; ; asked++ {
		// A standby of the database gives no lock: its advisory locks are not those of the primary,
		// and there would be two leaders.
		got, err := askOn(ctx, conn, `SELECT CASE WHEN pg_is_in_recovery() THEN false
			ELSE pg_try_advisory_lock(hashtextextended('migrator leader ' || $1, 0)) END`, name)
		if err != nil {
			return false, err
		}
		if got {
			break
		}
		if asked%reportHolder == strangerAfter {
			s.reportStranger(ctx, conn, name)
		}
		if err := statedb.Sleep(ctx, leadAsk); err != nil {
			return false, err
		}
	}
	failpoint.Here("state.leader.elected")
	var result, gone error
	var g errgroup.Group
	leading, stop := context.WithCancel(ctx)
	g.Go(func() error {
		defer stop()
		result = lead(leading)
		return nil
	})
	g.Go(func() error {
		defer stop()
		// awaitLoss ends the leadership when the session no longer has the lock, at the latest after
		// a query without an answer. Until then two processes may lead: each of their steps is a
		// compare-and-set ([one-decides]).
		gone = awaitLoss(leading, conn, name)
		return nil
	})
	_ = g.Wait()
	// The end of the leadership interrupted lead, and so explains its error.
	if gone != nil {
		return true, gone
	}
	return true, result
}

// reportStranger reports a session that has the leader's lock and does not call itself a leader: then
// the migration may be without one.
func (s *Store) reportStranger(ctx context.Context, conn *pgx.Conn, name string) {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), leadPatience)
	defer cancel()
	if holder, err := statedb.LockHolder(limited, conn, "migrator leader "+name); err == nil && holder.PID != 0 && holder.Application != leaderName {
		statedb.Blocked(ctx, holder)
	}
}

// Led reports whether a process leads under the name.
func (s *Store) Led(ctx context.Context, name string) (bool, error) {
	holder, err := statedb.LockHolder(ctx, s.pool, "migrator leader "+name)
	return holder.PID != 0, statedb.Explain(err)
}

func (s *Store) leadConn(ctx context.Context) (*pgx.Conn, error) {
	cfg := s.pool.Config().ConnConfig.Copy()
	cfg.RuntimeParams["application_name"] = leaderName
	limited, cancel := context.WithTimeout(ctx, leadPatience)
	defer cancel()
	conn, err := pgx.ConnectConfig(limited, cfg)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errLeadershipLost, err)
	}
	_, err = askOn(ctx, conn, `SELECT set_config('tcp_keepalives_idle', '10', false) || set_config('tcp_keepalives_interval', '5', false)
		|| set_config('tcp_keepalives_count', '3', false) <> ''`)
	if err != nil {
		_ = conn.Close(context.WithoutCancel(ctx))
		return nil, err
	}
	return conn, nil
}

// askOn runs a query with a boolean result on the connection. The end of ctx does not
// interrupt it, because that would break the connection; a time limit does.
func askOn(ctx context.Context, conn *pgx.Conn, sql string, args ...any) (yes bool, err error) {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), leadPatience)
	defer cancel()
	if err := conn.QueryRow(limited, sql, args...).Scan(&yes); err != nil {
		return false, fmt.Errorf("%w: %w", errLeadershipLost, err)
	}
	return yes, nil
}

// awaitLoss returns nil when ctx ends, and errLeadershipLost when the connection ends or
// its session no longer has the lock (as behind a pooler that shares sessions).
func awaitLoss(ctx context.Context, conn *pgx.Conn, name string) error {
	for ctx.Err() == nil {
		waiting, cancel := context.WithTimeout(ctx, leadAsk)
		_, err := conn.WaitForNotification(waiting) // no LISTEN is active: only the connection's end is reported
		quiet := waiting.Err() != nil
		cancel()
		if err != nil && (!quiet || conn.IsClosed()) {
			return fmt.Errorf("%w: %w", errLeadershipLost, err)
		}
		locked, err := askOn(ctx, conn, `SELECT EXISTS (SELECT FROM pg_locks l, hashtextextended('migrator leader ' || $1, 0) h
			WHERE l.locktype = 'advisory' AND l.pid = pg_backend_pid() AND l.granted AND l.objsubid = 1
			  AND l.classid::bigint = (h >> 32) & 4294967295 AND l.objid::bigint = h & 4294967295)`, name)
		switch {
		case err != nil:
			return err
		case !locked:
			return fmt.Errorf("%w: the session does not have the lock", errLeadershipLost)
		}
	}
	return nil
}
