// Package tables has writes that change a table that moves and one that stays: orders move, and
// their audit stays in the shop's database.
package tables

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/kit"
	"github.com/stranglerfig/migrator/migration"
)

// Schema is both tables.
const Schema = `
CREATE TABLE orders (id bigint PRIMARY KEY, status text NOT NULL, shipped_by text);
CREATE TABLE audit (
	event    text PRIMARY KEY,
	order_id bigint NOT NULL, -- no foreign key: from retain on new orders are not in this database
	what     text NOT NULL,
	done     boolean NOT NULL DEFAULT false,
	at       timestamptz NOT NULL DEFAULT now()
);`

// ErrNotPaid refuses to ship an order.
var ErrNotPaid = errors.New("there is no such order that is paid and not shipped")

// Order moves. ShippedBy is the event that shipped it: no later write changes that, so the
// order itself shows which event took effect.
type Order struct {
	ID        int64   `db:"id"`
	Status    string  `db:"status"`
	ShippedBy *string `db:"shipped_by"`
}

// Orders are the shop's orders.
type Orders struct {
	*kit.Records[int64, Order]
	db *pgxpool.Pool
}

// Open joins the migration of the orders.
func Open(ctx context.Context, db *pgxpool.Pool, m *migration.Config, o kit.Options) (s *Orders, err error) {
	s = &Orders{db: db}
	s.Records, err = kit.Open(ctx, m, o, kit.Binding[int64, Order]{Read: s.read})
	return s, err
}

func (s *Orders) read(ctx context.Context, id int64) (v Order, found bool, err error) {
	err = s.db.QueryRow(ctx, `SELECT id, status, shipped_by FROM orders WHERE id = $1`, id).Scan(&v.ID, &v.Status, &v.ShippedBy)
	if errors.Is(err, pgx.ErrNoRows) {
		return v, false, nil
	}
	return v, err == nil, err
}

// docs: ship

const (
	intend = `INSERT INTO audit (event, order_id, what) VALUES ($1, $2, 'shipped') ON CONFLICT (event) DO NOTHING`
	finish = `INSERT INTO audit (event, order_id, what, done) VALUES ($1, $2, 'shipped', true) ON CONFLICT (event) DO UPDATE SET done = true`
)

// Ship ships a paid order. The event names the request: a caller that repeats the request
// gives the same event.
func (s *Orders) Ship(ctx context.Context, id int64, event string) error {
	if _, err := s.db.Exec(ctx, intend, event, id); err != nil {
		return err
	}
	if err := s.ship(ctx, id, event); err != nil {
		return err // Resolve removes the intent, or finishes it
	}
	_, _ = s.db.Exec(ctx, finish, event, id) // changes nothing where Legacy did it; if it fails, Resolve does it
	return nil
}

func (s *Orders) ship(ctx context.Context, id int64, event string) error {
	return s.Write(ctx, dual.Op[int64, Order]{
		Keys: []int64{id},
		// Both tables in one transaction, as before the migration.
		Legacy: func(ctx context.Context) (changes []dual.Change[int64, Order], err error) {
			err = pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
				c := dual.Change[int64, Order]{Key: id}
				v := &c.Value
				err := tx.QueryRow(ctx, `UPDATE orders SET status = 'shipped', shipped_by = $2
					WHERE id = $1 AND (status = 'paid' OR shipped_by = $2) RETURNING id, status, shipped_by, `+s.Version,
					id, event).Scan(&v.ID, &v.Status, &v.ShippedBy, &c.Version)
				if errors.Is(err, pgx.ErrNoRows) {
					return ErrNotPaid
				}
				if err == nil {
					_, err = tx.Exec(ctx, finish, event, id)
				}
				changes = []dual.Change[int64, Order]{c}
				return err
			})
			return changes, err
		},
		// The order alone: from retain on it is in another store, and no transaction has both.
		Update: func(_ int64, current Order, found bool) (Order, bool, error) {
			again := current.ShippedBy != nil && *current.ShippedBy == event
			if !found || current.Status != "paid" && !again {
				return current, false, ErrNotPaid
			}
			current.Status, current.ShippedBy = "shipped", &event
			return current, false, nil
		},
	})
}

// docs: end

// docs: resolve

// Resolve decides the intents of requests that ended before they could finish them: an order
// shows whether its event took effect. age must be longer than any request takes.
func (s *Orders) Resolve(ctx context.Context, age time.Duration) error {
	rows, err := s.db.Query(ctx, `SELECT event, order_id FROM audit WHERE NOT done AND at <= now() - $1::interval`, age)
	if err != nil {
		return err
	}
	type intent struct {
		Event string
		Order int64
	}
	intents, err := pgx.CollectRows(rows, pgx.RowToStructByPos[intent])
	if err != nil {
		return err
	}
	for _, i := range intents {
		v, _, err := s.Get(ctx, i.Order)
		if err != nil {
			return err
		}
		if v.ShippedBy != nil && *v.ShippedBy == i.Event {
			_, err = s.db.Exec(ctx, finish, i.Event, i.Order)
		} else {
			_, err = s.db.Exec(ctx, `DELETE FROM audit WHERE event = $1 AND NOT done`, i.Event)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// docs: end
