// Package embedding is the smallest application that takes part in a migration:
// customers, kept in a PostgreSQL table, that are being moved. docs/embedding.md
// quotes the regions between "docs:" comments; a test keeps both the same, and
// another takes this program through every phase.
package embedding

import (
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/record"
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

// Customer is the application's own type.
type Customer struct {
	ID      int64
	Email   string
	Name    *string // NULL and "" differ
	Points  int
	Changed time.Time
}

// docs: end

// docs: columns

// columns write a customer to the target and read it from there. The texts are the
// canonical ones (record.Kind), the same that the backfill writes.
func columns() []dual.Column[Customer] {
	return []dual.Column[Customer]{
		{
			Name: "id",
			Get:  func(c *Customer) record.Value { return record.TextValue(strconv.FormatInt(c.ID, 10)) },
			Set:  func(c *Customer, v record.Value) (err error) { c.ID, err = strconv.ParseInt(v.Text, 10, 64); return },
		},
		{
			Name: "email",
			Get:  func(c *Customer) record.Value { return record.TextValue(c.Email) },
			Set:  func(c *Customer, v record.Value) error { c.Email = v.Text; return nil },
		},
		{
			Name: "name",
			Get: func(c *Customer) record.Value {
				if c.Name == nil {
					return record.NullValue
				}
				return record.TextValue(*c.Name)
			},
			Set: func(c *Customer, v record.Value) error {
				if v.State == record.Present {
					c.Name = &v.Text
				}
				return nil
			},
		},
		{
			Name: "points",
			Get:  func(c *Customer) record.Value { return record.TextValue(strconv.Itoa(c.Points)) },
			Set:  func(c *Customer, v record.Value) (err error) { c.Points, err = strconv.Atoi(v.Text); return },
		},
		{
			Name: "changed",
			Get:  func(c *Customer) record.Value { return record.TextValue(c.Changed.UTC().Format(instant)) },
			Set:  func(c *Customer, v record.Value) (err error) { c.Changed, err = time.Parse(instant, v.Text); return },
		},
	}
}

// instant is record.TimestampTZ: UTC, microseconds at most, no trailing zeros.
const instant = "2006-01-02T15:04:05.999999Z07:00"

// keyOf gives the key that legacy's columns give.
func keyOf(id int64) record.Key { return record.MakeKey(strconv.FormatInt(id, 10)) }

// docs: end

const customerColumns = "id, email, name, points, changed"

// scan reads customerColumns, and more behind them.
func scan(row pgx.Row, more ...any) (c Customer, err error) {
	err = row.Scan(append([]any{&c.ID, &c.Email, &c.Name, &c.Points, &c.Changed}, more...)...)
	return c, err
}

// now is the present time at PostgreSQL's precision.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
