package pgfleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

// Notifications listens, on its own connection, for new epochs of the migration, and
// reconnects whenever that connection fails. The connection serves other calls too. After each connect it notifies of the
// present epoch, since one may have been missed meanwhile. It returns ctx's error.
func (f *Fleet) Notifications(ctx context.Context, notify func(epoch int64)) error {
	wait := reconnectFirst
	for {
		began := time.Now()
		f.listen(ctx, notify)
		if time.Since(began) > pingAfter {
			wait = reconnectFirst
		}
		// From half to one and a half times the wait: a fleet that was disconnected together does
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
// notifications only save time, renewals return the route.
func (f *Fleet) listen(ctx context.Context, notify func(epoch int64)) {
	cfg := f.pool.Config().ConnConfig.Copy()
	conn, err := pgx.ConnectConfig(ctx, cfg)
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
	// After LISTEN, so that no epoch falls between the two.
	if present, _, err := f.route(ctx, conn); err == nil {
		notify(present.Epoch)
	}
	f.lender.listens(1)
	defer f.lender.listens(-1)
	for {
		epoch, err := f.next(ctx, conn)
		if err != nil {
			return
		}
		if epoch > 0 {
			notify(epoch)
		}
	}
}

// next returns the epoch of a notification. It returns 0 for a notification of another
// migration, for a silence after which a ping succeeded, and after a call of this session.
func (f *Fleet) next(ctx context.Context, conn *pgx.Conn) (int64, error) {
	n, err := f.notification(ctx, conn)
	if err != nil {
		if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) || conn.IsClosed() {
			return 0, err
		}
		ping, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		return 0, conn.Ping(ping)
	}
	if n == nil {
		return 0, nil
	}
	var payload struct {
		Migration string `json:"migration"`
		Epoch     int64  `json:"epoch"`
	}
	if n.Channel != channel || json.Unmarshal([]byte(n.Payload), &payload) != nil || payload.Migration != f.migration {
		return 0, nil
	}
	return payload.Epoch, nil
}

// String names the fleet without its URL.
func (f *Fleet) String() string { return fmt.Sprintf("fleet of %s", f.migration) }
