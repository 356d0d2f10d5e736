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
		Config: f.pool.Config().ConnConfig,
		Connected: func(ctx context.Context, conn *pgx.Conn) {
			if present, _, err := f.route(ctx, conn); err == nil {
				notify(present.Epoch)
			}
			f.lender.listens(1)
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

// String names the fleet without its URL.
func (f *Fleet) String() string { return fmt.Sprintf("fleet of %s", f.migration) }
