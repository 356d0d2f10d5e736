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
	pingAfter      = 30 * time.Second // how long a connection may be silent before it is asked
	reconnectMost  = 30 * time.Second // longest mean wait between two attempts to connect
	reconnectFirst = 100 * time.Millisecond
)

// Notifications listens, on a connection of its own, for new epochs of the migration, and
// connects again whenever it is lost. After each connect it hints at the present
// epoch, since one may have been missed meanwhile. It returns ctx's error.
func (f *Fleet) Notifications(ctx context.Context, hint func(epoch int64)) error {
	wait := reconnectFirst
	for {
		began := time.Now()
		f.listen(ctx, hint)
		if time.Since(began) > pingAfter {
			wait = reconnectFirst
		}
		// From half to one and a half times the wait: a fleet that lost its server
		// together does not come back together.
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

// listen returns when the connection fails or ctx ends. Its errors are nobody's: a
// hint is only a hint, renewals tell the truth.
func (f *Fleet) listen(ctx context.Context, hint func(epoch int64)) {
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
	if present, err := f.present(ctx, conn); err == nil {
		hint(present.Epoch)
	}
	for {
		epoch, err := f.next(ctx, conn)
		if err != nil {
			return
		}
		if epoch > 0 {
			hint(epoch)
		}
	}
}

// next returns the epoch of a notification, 0 for one that is not for us, or for
// a silence after which the connection was found alive.
func (f *Fleet) next(ctx context.Context, conn *pgx.Conn) (int64, error) {
	waiting, cancel := context.WithTimeout(ctx, pingAfter)
	defer cancel()
	n, err := conn.WaitForNotification(waiting)
	if err != nil {
		if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) || conn.IsClosed() {
			return 0, err
		}
		ping, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		return 0, conn.Ping(ping)
	}
	var news struct {
		Migration string `json:"migration"`
		Epoch     int64  `json:"epoch"`
	}
	if n.Channel != channel || json.Unmarshal([]byte(n.Payload), &news) != nil || news.Migration != f.migration {
		return 0, nil
	}
	return news.Epoch, nil
}

// String names the fleet without its URL.
func (f *Fleet) String() string { return fmt.Sprintf("fleet of %s", f.migration) }
