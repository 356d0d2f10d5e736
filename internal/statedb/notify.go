package statedb

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	channel        = "migrator"
	pingAfter      = 30 * time.Second // how long a connection may be silent before it is pinged
	reconnectMost  = 30 * time.Second // longest mean wait between two attempts to connect
	reconnectFirst = 100 * time.Millisecond
)

// Listen hears, on its own connection, what the state's functions notify of, and reconnects whenever that
// connection fails. It calls connected after each connect, since a notification may have been missed
// before, and heard with each payload. It returns ctx's error.
func Listen(ctx context.Context, config *pgx.ConnConfig, connected func(context.Context, *pgx.Conn), heard func(payload string)) error {
	wait := reconnectFirst
	for {
		began := time.Now()
		listen(ctx, config, connected, heard)
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
func listen(ctx context.Context, config *pgx.ConnConfig, connected func(context.Context, *pgx.Conn), heard func(payload string)) {
	conn, err := pgx.ConnectConfig(ctx, config.Copy())
	if err != nil {
		return
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing)
	}()
	if _, err := conn.Exec(ctx, `LISTEN `+channel); err != nil {
		return
	}
	connected(ctx, conn) // after LISTEN, so that nothing falls between the two
	for {
		payload, err := next(ctx, conn)
		if err != nil {
			return
		}
		if payload != "" {
			heard(payload)
		}
	}
}

// next returns a notification's payload, or "" for a silence after which a ping succeeded.
func next(ctx context.Context, conn *pgx.Conn) (string, error) {
	waiting, cancel := context.WithTimeout(ctx, pingAfter)
	defer cancel()
	n, err := conn.WaitForNotification(waiting)
	if err != nil {
		if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) || conn.IsClosed() {
			return "", err
		}
		ping, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		return "", conn.Ping(ping)
	}
	if n.Channel != channel {
		return "", nil
	}
	return n.Payload, nil
}
