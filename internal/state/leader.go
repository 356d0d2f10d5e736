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
	leadAsk      = time.Second      // how often a standby asks, and a leader makes sure that it still leads
	leadPatience = 3 * time.Second  // how long the leader's connection may take to answer
	leadRetry    = 15 * time.Second // longest wait between two attempts to connect
)

// errLeadershipLost tells that the session which had the lock, or waited for it, is gone.
var errLeadershipLost = errors.New("leadership lost")

// Lead runs lead in one process at a time of all that share the state database and
// the name; the others wait as standbys, as long as ctx does. lead's context ends
// when ctx does, and when the connection that holds the lock is lost: at once if
// its end is seen, within 4 s if the network swallows everything, while PostgreSQL
// gives the lock of a machine that vanished away after 25 s. Then, when lead has
// returned, it waits its turn again. A process that was killed is followed within
// some 2 s. A leader that was frozen may for a moment be one of two: what it does
// must be guarded by a compare-and-set of its own.
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
		// It led, so the database answered: the pauses begin at the shortest again.
		case led:
			wait.Reset()
		}
		if err := statedb.Sleep(ctx, wait.NextBackOff()); err != nil {
			return err
		}
	}
}

// leadOnce waits and leads on one connection. errLost when that is gone.
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
	// A standby asks again and again. To wait inside pg_advisory_lock would hold a
	// snapshot for days, and vacuum with it, in what may be the legacy database too.
	for {
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
		// The watch ends the lead when the lock is gone, at the latest after a question that is not
		// answered. Until then two may lead: every step of theirs is a compare-and-set
		// ([one-decides]).
		gone = awaitLoss(leading, conn, name)
		return nil
	})
	_ = g.Wait()
	// A lost lock explains whatever lead returned, which was cut off.
	if gone != nil {
		return true, gone
	}
	return true, result
}

func (s *Store) leadConn(ctx context.Context) (*pgx.Conn, error) {
	cfg := s.pool.Config().ConnConfig.Copy()
	cfg.RuntimeParams["application_name"] = "migrator leader"
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

// askOn asks the connection a question of yes or no. The end of ctx does not
// interrupt it, which would break the connection, but the connection's silence does.
func askOn(ctx context.Context, conn *pgx.Conn, sql string, args ...any) (yes bool, err error) {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), leadPatience)
	defer cancel()
	if err := conn.QueryRow(limited, sql, args...).Scan(&yes); err != nil {
		return false, fmt.Errorf("%w: %w", errLeadershipLost, err)
	}
	return yes, nil
}

// awaitLoss returns nil when ctx ends, errLost when the connection does, or when
// its session has no lock any more: so it is behind a pooler that shares sessions.
func awaitLoss(ctx context.Context, conn *pgx.Conn, name string) error {
	for ctx.Err() == nil {
		waiting, cancel := context.WithTimeout(ctx, leadAsk)
		_, err := conn.WaitForNotification(waiting) // nothing is listened to: only the connection's end comes
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
