package pgfleet

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/stranglerfig/migrator/internal/statedb"
)

const (
	// idleAfter is how long a session beside the one that listens stays open unused.
	idleAfter = 10 * time.Second
	// background is how long a call that no operation waits for waits for the session that
	// listens, before another one is opened.
	background = 250 * time.Millisecond
	foreground = 0
)

// sender sends one batch, or single statements.
type sender interface {
	statedb.Querier
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// lender lends the session that listens to one call at a time: an instance at rest has no other session.
type lender struct {
	mu        sync.Mutex
	listening int           // sessions that listen, or are about to
	free      []*loan       // those of them that only wait
	more      chan struct{} // closed when there is another one
}

// loan is one wait of a listening session, during which it is lent.
type loan struct {
	interrupt func()         // ends the wait
	conn      chan *pgx.Conn // receives the session once the wait has ended; nil: it has failed
	returned  chan struct{}
}

// with calls do with a session: the one that listens, if it is free within this time, else one of
// the pool. do is called again, with a session of the pool, if it failed before it had sent anything.
func (f *Fleet) with(ctx context.Context, wait time.Duration, do func(sender) error) error {
	l := f.lender.borrow(ctx, wait)
	if l == nil {
		return do(f.pool)
	}
	conn := <-l.conn
	if conn == nil {
		return do(f.pool)
	}
	err := func() error {
		defer close(l.returned)
		return do(conn)
	}()
	if err != nil && pgconn.SafeToRetry(err) && ctx.Err() == nil {
		return do(f.pool)
	}
	return err
}

// borrow takes a session that listens; nil: there is none that is free in time.
func (l *lender) borrow(ctx context.Context, wait time.Duration) *loan {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for {
		l.mu.Lock()
		if n := len(l.free); n > 0 {
			taken := l.free[n-1]
			l.free = l.free[:n-1]
			l.mu.Unlock()
			taken.interrupt()
			return taken
		}
		if l.more == nil {
			l.more = make(chan struct{})
		}
		more, listening := l.more, l.listening
		l.mu.Unlock()
		if listening == 0 || wait == 0 {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil
		}
	}
}

// listens counts the sessions that listen.
func (l *lender) listens(n int) {
	l.mu.Lock()
	l.listening += n
	l.mu.Unlock()
}

// offer lends the session of a wait.
func (l *lender) offer(o *loan) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.free = append(l.free, o)
	if l.more != nil {
		close(l.more)
		l.more = nil
	}
}

// withdraw ends an offer; false: it was taken.
func (l *lender) withdraw(o *loan) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := slices.Index(l.free, o)
	if n < 0 {
		return false
	}
	l.free = slices.Delete(l.free, n, n+1)
	return true
}

// notification waits for one on a session that listens, and lends the session meanwhile. Without an
// error it is nil after a loan.
func (f *Fleet) notification(ctx context.Context, conn *pgx.Conn) (*pgconn.Notification, error) {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	l := &loan{interrupt: cancel, conn: make(chan *pgx.Conn, 1), returned: make(chan struct{})}
	f.lender.offer(l)
	n, err := conn.WaitForNotification(waiting)
	if f.lender.withdraw(l) {
		return n, err
	}
	if conn.IsClosed() {
		l.conn <- nil
		return n, err
	}
	l.conn <- conn
	<-l.returned
	switch {
	case n != nil:
		return n, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case conn.IsClosed() || conn.PgConn().TxStatus() != 'I': // a call failed in its transaction
		return nil, errFailedCall
	}
	return nil, nil //nolint:nilnil // a loan, and no notification
}

var errFailedCall = errors.New("a call on this session failed")
