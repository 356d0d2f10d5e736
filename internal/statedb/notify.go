package statedb

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	channel        = "migrator"
	pingAfter      = 30 * time.Second // how long a connection may be silent before it is pinged
	reconnectMost  = 30 * time.Second // longest mean wait between two attempts to connect
	reconnectFirst = 100 * time.Millisecond
)

// Listener hears, on its own connection, what the state's functions notify of.
type Listener struct {
	Connect func(context.Context) (*pgx.Conn, error) // the session becomes the listener's, which closes it
	// Connected is called after each connect, since a notification may have been missed before.
	Connected func(context.Context, *pgx.Conn)
	// Wait waits for a notification, for as long as its context lasts; neither one nor an error: it is called again. nil:
	// the connection's own.
	Wait  func(context.Context, *pgx.Conn) (*pgconn.Notification, error)
	Ended func() // nil: nothing; when a connection that Connect has returned has failed
	Heard func(payload string)
}

// Beside opens sessions as the pool's, which the pool does not count.
func Beside(pool *pgxpool.Pool) func(context.Context) (*pgx.Conn, error) {
	return func(ctx context.Context) (*pgx.Conn, error) { return pgx.ConnectConfig(ctx, pool.Config().ConnConfig) }
}

// Listen reconnects whenever the connection fails. It returns ctx's error.
func (l *Listener) Listen(ctx context.Context) error {
	wait := reconnectFirst
	for {
		began := time.Now()
		l.listen(ctx)
		if time.Since(began) > pingAfter {
			wait = reconnectFirst
		}
		// From half to one and a half times the wait: clients that were disconnected together do
		// not reconnect together.
		timer := time.NewTimer(wait/2 + rand.N(wait))
		wait = min(2*wait, reconnectMost)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

// listen returns when the connection fails or ctx ends. It drops its errors:
// notifications only save time.
func (l *Listener) listen(ctx context.Context) {
	conn, err := l.Connect(ctx)
	if err != nil {
		return
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing)
	}()
	if l.Ended != nil {
		defer l.Ended()
	}
	if _, err := conn.Exec(ctx, `LISTEN `+channel); err != nil {
		return
	}
	l.Connected(ctx, conn) // after LISTEN, so that nothing falls between the two
	for {
		payload, err := l.next(ctx, conn)
		if err != nil {
			return
		}
		if payload != "" {
			l.Heard(payload)
		}
	}
}

// next returns a notification's payload, or "" for a silence after which a ping succeeded.
func (l *Listener) next(ctx context.Context, conn *pgx.Conn) (string, error) {
	waiting, cancel := context.WithTimeout(ctx, pingAfter)
	defer cancel()
	wait := l.Wait
	if wait == nil {
		wait = func(ctx context.Context, conn *pgx.Conn) (*pgconn.Notification, error) {
			return conn.WaitForNotification(ctx)
		}
	}
	n, err := wait(waiting, conn)
	if err != nil {
		if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) || conn.IsClosed() {
			return "", err
		}
		ping, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		return "", conn.Ping(ping)
	}
	if n == nil || n.Channel != channel {
		return "", nil
	}
	return n.Payload, nil
}
