// Package embedding is the smallest application that takes part in a migration:
// customers, kept in a PostgreSQL table, that are being moved. docs/embedding.md
// quotes the regions between "docs:" comments; a test keeps both the same, and
// another takes this program through every phase.
package embedding

import (
	"time"

	"github.com/jackc/pgx/v5"
)

// Schema is the table as it was before the migration.
const Schema = `
CREATE TABLE customers (
	id      bigint PRIMARY KEY,
	email   text NOT NULL,
	name    text,
	points  integer NOT NULL DEFAULT 0,
	changed timestamptz NOT NULL DEFAULT now()
)`

// docs: value

// Customer is the application's own type. Its tags are the table's columns.
type Customer struct {
	ID      int64     `db:"id"`
	Email   string    `db:"email"`
	Name    *string   `db:"name"` // NULL and "" differ
	Points  int       `db:"points"`
	Changed time.Time `db:"changed"`
}

// docs: end

const customerColumns = "id, email, name, points, changed"

// scan reads customerColumns, and more behind them.
func scan(row pgx.Row, more ...any) (c Customer, err error) {
	err = row.Scan(append([]any{&c.ID, &c.Email, &c.Name, &c.Points, &c.Changed}, more...)...)
	return c, err
}

// now is the present time at PostgreSQL's precision.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
