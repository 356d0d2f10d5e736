package state

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
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
// the name; the others wait as standbys until ctx ends. All leaderships of a Store, led and awaited, share
// one session of the database. lead's context ends when ctx
// does, and when the connection that has the lock closes: at once if the process sees
// its end, within 4 s if the network drops all packets. PostgreSQL releases the lock of
// a machine that vanished after 25 s. Then, when lead has returned, the process is a
// standby again. After a leader's process is killed, a standby leads within some 2 s. A
// frozen leader may for a moment be one of two: each of its changes must be guarded by a
// compare-and-set.
//
// It returns what lead returned, or ctx's error if lead did not run to its end.
func (s *Store) Lead(ctx context.Context, name string, lead func(ctx context.Context) error) error {
	for {
		c := &candidate{
			name: name, elected: make(chan struct{}), lost: make(chan error, 1), released: make(chan struct{}),
			blocked: func(b statedb.Blocker) { statedb.Blocked(ctx, b) },
		}
		s.leaders.join(s, c)
		select {
		case <-ctx.Done():
			s.leaders.leave(s, c)
			return ctx.Err()
		case <-c.elected:
		}
		failpoint.Here("state.leader.elected")
		gone, result := c.run(ctx, lead)
		s.leaders.leave(s, c)
		switch {
		case gone == nil:
			return result
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
}

// candidate is one call of Lead.
type candidate struct {
	name     string
	elected  chan struct{} // closed once it has the lock
	lost     chan error    // takes the loss of a lock that it had
	released chan struct{} // closed once it is no candidate any more, and its lock is free
	blocked  func(statedb.Blocker)

	// Of the session's goroutine alone.
	leads bool
	asked int
}

// run leads until lead returns; gone is the loss that interrupted it, and so explains its error.
func (c *candidate) run(ctx context.Context, lead func(ctx context.Context) error) (gone, result error) {
	var g errgroup.Group
	leading, stop := context.WithCancel(ctx)
	g.Go(func() error {
		defer stop()
		result = lead(leading)
		return nil
	})
	g.Go(func() error {
		defer stop()
		select {
		case gone = <-c.lost:
		case <-leading.Done():
		}
		return nil
	})
	_ = g.Wait()
	return gone, result
}

// leaders is the one session of a Store that has the locks of all its leaderships, and asks for those that
// it lacks. The session exists while there are candidates.
type leaders struct {
	mu       sync.Mutex
	joining  []*candidate
	leaving  []*candidate
	running  bool
	announce chan struct{} // wakes the session's goroutine; has room for one
}

func (l *leaders) join(s *Store, c *candidate) { l.enqueue(s, &l.joining, c) }

// leave returns once the candidate's lock is free, as far as the session still answers: the next one who
// asks gets it.
func (l *leaders) leave(s *Store, c *candidate) {
	l.enqueue(s, &l.leaving, c)
	<-c.released
}

// enqueue adds the candidate to a list that the session's goroutine takes, which it starts if there is none.
func (l *leaders) enqueue(s *Store, list *[]*candidate, c *candidate) {
	l.mu.Lock()
	defer l.mu.Unlock()
	*list = append(*list, c)
	if l.announce == nil {
		l.announce = make(chan struct{}, 1)
	}
	if !l.running {
		l.running = true
		go l.run(s)
	}
	select {
	case l.announce <- struct{}{}:
	default:
	}
}

// take returns who has joined and left since it was called last; over: there is no candidate any more, and
// the next one to join starts another session.
func (l *leaders) take(present int) (joined, left []*candidate, over bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	joined, left = l.joining, l.leaving
	l.joining, l.leaving = nil, nil
	if over = present+len(joined) == 0 && len(left) == 0; over {
		l.running = false
	}
	return joined, left, over
}

func (l *leaders) run(s *Store) {
	wait := &backoff.ExponentialBackOff{
		InitialInterval: 200 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: leadRetry,
	}
	wait.Reset()
	all := &election{}
	for {
		if _ = all.renew(l, nil); all.over {
			return
		}
		answered := all.hold(l, s)
		if all.over {
			return
		}
		if answered { // the next pause is the shortest again
			wait.Reset()
		}
		all.pause(l, wait.NextBackOff())
	}
}

// election is the candidates of one Store, as its session's goroutine has them.
type election struct {
	candidates []*candidate
	over       bool
}

// hold opens a session, and asks and checks on it until it ends or there is no candidate any more. answered:
// the database has answered it.
func (e *election) hold(l *leaders, s *Store) (answered bool) {
	conn, err := s.leadConn(context.Background())
	if err != nil {
		return false
	}
	defer func() {
		// The database may see the end of a connection later than the next one asks.
		closing, cancel := context.WithTimeout(context.Background(), leadPatience)
		defer cancel()
		_, _ = conn.Exec(closing, `SELECT pg_advisory_unlock_all()`)
		_ = conn.Close(closing)
	}()
	for {
		err := e.look(l, conn)
		if err == nil && !e.over {
			answered = true
			err = e.rest(l, conn)
		}
		if e.over {
			return answered
		}
		if err != nil {
			e.lose(err)
			return answered
		}
	}
}

// look lets candidates join and leave, and asks the database for all locks in one statement.
func (e *election) look(l *leaders, conn *pgx.Conn) error {
	if err := e.renew(l, conn); err != nil || e.over {
		return err
	}
	var asking []*candidate
	var names []string
	var held []bool
	for _, c := range e.candidates {
		// Of two candidates with one name, one asks: a session may take a lock twice.
		if c.leads || !slices.ContainsFunc(e.candidates, func(o *candidate) bool { return o.name == c.name && o.leads }) && !slices.Contains(names, c.name) {
			asking, names, held = append(asking, c), append(names, c.name), append(held, c.leads)
		}
	}
	limited, cancel := context.WithTimeout(context.Background(), leadPatience)
	defer cancel()
	rows, err := conn.Query(limited, leaderSQL, names, held)
	if err != nil {
		return fmt.Errorf("%w: %w", errLeadershipLost, err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[bool])
	if err != nil {
		return fmt.Errorf("%w: %w", errLeadershipLost, err)
	}
	for i, c := range asking {
		switch {
		case c.leads && !got[i]: // as behind a pooler that shares sessions
			return fmt.Errorf("%w: the session does not have the lock", errLeadershipLost)
		case got[i] && !c.leads:
			c.leads = true
			close(c.elected)
		case !got[i]:
			if c.asked++; c.asked%reportHolder == strangerAfter {
				c.reportStranger(conn)
			}
		}
	}
	return nil
}

// leaderSQL checks the locks that the session has, and asks for the others. A standby polls: waiting inside
// pg_advisory_lock would keep a snapshot open for days and so hold back vacuum, perhaps in the legacy
// database. A standby of the database gives no lock: its advisory locks are not those of the primary, and
// there would be two leaders.
const leaderSQL = `WITH mine AS MATERIALIZED (SELECT classid::bigint << 32 | objid::bigint AS h FROM pg_locks
		WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted AND objsubid = 1)
	SELECT CASE WHEN c.held THEN k.h IN (SELECT h FROM mine) WHEN pg_is_in_recovery() THEN false ELSE pg_try_advisory_lock(k.h) END
	FROM unnest($1::text[], $2::boolean[]) WITH ORDINALITY AS c (name, held, n), hashtextextended('migrator leader ' || c.name, 0) AS k (h)
	ORDER BY c.n`

// renew lets candidates join and leave. The lock of one that leaves is free before it has left.
func (e *election) renew(l *leaders, conn *pgx.Conn) error {
	joined, left, over := l.take(len(e.candidates))
	e.candidates, e.over = append(e.candidates, joined...), over
	var err error
	for _, c := range left {
		if c.leads && conn != nil && err == nil {
			limited, cancel := context.WithTimeout(context.Background(), leadPatience)
			_, err = conn.Exec(limited, `SELECT pg_advisory_unlock(hashtextextended('migrator leader ' || $1, 0))`, c.name)
			cancel()
		}
		e.candidates = slices.DeleteFunc(e.candidates, func(o *candidate) bool { return o == c })
		close(c.released)
	}
	if len(left) > 0 && err == nil {
		return e.renew(l, conn)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errLeadershipLost, err)
	}
	return nil
}

// rest waits until it is time to ask again, or a candidate joins or leaves; an error if the session ends.
func (e *election) rest(l *leaders, conn *pgx.Conn) error {
	waiting, cancel := context.WithTimeout(context.Background(), leadAsk)
	defer cancel()
	woken := make(chan struct{})
	go func() {
		defer close(woken)
		select {
		case <-l.announce:
			cancel()
		case <-waiting.Done():
		}
	}()
	_, err := conn.WaitForNotification(waiting) // no LISTEN is active: only the connection's end is reported
	quiet := waiting.Err() != nil
	cancel()
	<-woken
	if err != nil && (!quiet || conn.IsClosed()) {
		return fmt.Errorf("%w: %w", errLeadershipLost, err)
	}
	return nil
}

// pause waits before the next attempt to connect, while candidates may leave.
func (e *election) pause(l *leaders, d time.Duration) {
	over := time.NewTimer(d)
	defer over.Stop()
	for {
		if _ = e.renew(l, nil); e.over {
			return
		}
		select {
		case <-over.C:
			return
		case <-l.announce:
		}
	}
}

// lose ends all leaderships of a session that has ended, or may have. Until then two processes may lead:
// each of their steps is a compare-and-set ([one-decides]).
func (e *election) lose(err error) {
	e.candidates = slices.DeleteFunc(e.candidates, func(c *candidate) bool {
		if c.leads {
			c.lost <- err
		}
		return c.leads
	})
}

// reportStranger reports a session that has the leader's lock and does not call itself a leader: then
// the migration may be without one.
func (c *candidate) reportStranger(conn *pgx.Conn) {
	limited, cancel := context.WithTimeout(context.Background(), leadPatience)
	defer cancel()
	if holder, err := statedb.LockHolder(limited, conn, "migrator leader "+c.name); err == nil && holder.PID != 0 && holder.Application != leaderName {
		c.blocked(holder)
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
	_, err = conn.Exec(limited, `SELECT set_config('tcp_keepalives_idle', '10', false) || set_config('tcp_keepalives_interval', '5', false)
		|| set_config('tcp_keepalives_count', '3', false)`)
	if err != nil {
		_ = conn.Close(context.WithoutCancel(ctx))
		return nil, err
	}
	return conn, nil
}
