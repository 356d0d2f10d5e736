package embedding

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/dual/kit"
	"github.com/stranglerfig/migrator/migration"
)

// docs: open

// Customers is the application's store of customers.
type Customers struct {
	*kit.Records[int64, Customer] // Get, and what write.go needs: Write, Put, Delete
	db                            *pgxpool.Pool
}

// Open makes this process an instance of the migration's fleet. The application must not
// read or write customers before Open has succeeded: without a route no store is right.
func Open(ctx context.Context, db *pgxpool.Pool, m *migration.Config, o kit.Options) (c *Customers, err error) {
	c = &Customers{db: db}
	c.Records, err = kit.Open(ctx, m, o, kit.Binding[int64, Customer]{Read: c.fromLegacy})
	return c, err
}

// docs: end

// docs: get

// fromLegacy reads one customer as the application always did.
func (c *Customers) fromLegacy(ctx context.Context, id int64) (Customer, bool, error) {
	found, err := scan(c.db.QueryRow(ctx, "SELECT "+customerColumns+" FROM customers WHERE id = $1", id))
	if errors.Is(err, pgx.ErrNoRows) {
		return Customer{}, false, nil
	}
	return found, err == nil, err
}

// docs: end
