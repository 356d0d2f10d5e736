package pgfleet

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/statedb"
)

// Notifications listens, on its own connection, for new epochs of the migration, and
// reconnects whenever that connection fails. The connection serves other calls too. After each connect it notifies of the
// present epoch, since one may have been missed meanwhile. It returns ctx's error.
func (f *Fleet) Notifications(ctx context.Context, notify func(epoch int64)) error {
	l := statedb.Listener{
		Connect: f.session,
		Connected: func(ctx context.Context, conn *pgx.Conn) {
			if present, _, err := f.route(ctx, conn); err == nil {
				notify(present.Epoch)
			}
			if f.owned {
				f.pool.Reset() // what joining has opened beside it
			}
		},
		Wait:  f.notification,
		Ended: func() { f.lender.listens(-1) },
		Heard: func(text string) {
			var payload struct {
				Migration string `json:"migration"`
				Epoch     int64  `json:"epoch"`
			}
			if json.Unmarshal([]byte(text), &payload) == nil && payload.Migration == f.migration && payload.Epoch > 0 {
				notify(payload.Epoch)
			}
		},
	}
	return l.Listen(ctx)
}

// session opens the one that listens. Of a pool of its own it is the one that joining has opened, and from now on calls
// that can wait do so for it: of a fleet that starts, each instance has one session too.
func (f *Fleet) session(ctx context.Context) (conn *pgx.Conn, err error) {
	f.lender.listens(1)
	defer func() {
		if err != nil {
			f.lender.listens(-1)
		}
	}()
	if !f.owned {
		return statedb.Beside(f.pool)(ctx)
	}
	pooled, err := f.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	return pooled.Hijack(), nil
}

// String names the fleet without its URL.
func (f *Fleet) String() string { return fmt.Sprintf("fleet of %s", f.migration) }
