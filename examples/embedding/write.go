package embedding

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// Errors of the application's own.
var (
	ErrNoCustomer = errors.New("there is no such customer")
	ErrTooFew     = errors.New("not that many points")
	ErrTaken      = errors.New("the number is in use, or the customer has changed meanwhile")
)

type change = dual.Change[int64, Customer]

// docs: add

// AddPoints changes one customer. The write has two forms: Legacy while legacy has
// authority, Update once it has retired.
func (c *Customers) AddPoints(ctx context.Context, id int64, points int) error {
	at := now() // fixed here: both forms may run more than once
	return c.Write(ctx, dual.Op[int64, Customer]{
		Legacy: func(ctx context.Context) ([]change, error) {
			// One statement commits by itself. What it returns is the whole new row,
			// and the version that the write itself gave it.
			return c.one(c.db.QueryRow(ctx, "UPDATE customers SET points = points + $2, changed = $3 WHERE id = $1"+
				" RETURNING "+customerColumns+", "+c.Version, id, points, at))
		},
		Keys: []int64{id},
		Update: func(_ int64, current Customer, found bool) (Customer, bool, error) {
			if !found {
				return current, false, ErrNoCustomer
			}
			current.Points += points
			current.Changed = at
			return current, false, nil
		},
	})
}

// one reads the RETURNING of one written row.
func (c *Customers) one(row pgx.Row) ([]change, error) {
	var version record.Version
	written, err := scan(row, &version)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, ErrNoCustomer // nothing was written, nothing follows
	}
	return []change{{Key: written.ID, Value: written, Version: version}}, err
}

// docs: end

// docs: put

// Replace makes a customer, or replaces one whole. Put is for this: the value is
// known before the write, every column of it.
func (c *Customers) Replace(ctx context.Context, value Customer) error {
	value.Changed = now() // not the column's DEFAULT, which only legacy would know
	return c.Put(ctx, value.ID, value, func(ctx context.Context) (version record.Version, err error) {
		err = c.db.QueryRow(ctx, "INSERT INTO customers ("+customerColumns+") VALUES ($1, $2, $3, $4, $5)"+
			" ON CONFLICT (id) DO UPDATE SET email = $2, name = $3, points = $4, changed = $5 RETURNING "+c.Version,
			value.ID, value.Email, value.Name, value.Points, value.Changed).Scan(&version)
		return version, err
	})
}

// docs: end

// docs: delete

// Remove deletes a customer. A zero version means that there was nothing to delete.
func (c *Customers) Remove(ctx context.Context, id int64) error {
	return c.Delete(ctx, id, func(ctx context.Context) (version record.Version, err error) {
		err = c.db.QueryRow(ctx, "DELETE FROM customers WHERE id = $1 RETURNING "+c.Version, id).Scan(&version)
		if errors.Is(err, pgx.ErrNoRows) {
			return version, nil
		}
		return version, err
	})
}

// docs: end

// docs: several

// Transfer changes two customers in one transaction of legacy. From retain on each
// is written on its own: see the errors.
func (c *Customers) Transfer(ctx context.Context, from, to int64, points int) error {
	// Update may refuse the first key alone without harm. So what can go wrong with the second
	// one is looked at before.
	if _, found, err := c.Get(ctx, to); err != nil {
		return err
	} else if !found {
		return ErrNoCustomer
	}
	at := now()
	return c.Write(ctx, dual.Op[int64, Customer]{
		Legacy: func(ctx context.Context) (changes []change, err error) {
			err = pgx.BeginFunc(ctx, c.db, func(tx pgx.Tx) error {
				changes = nil
				for _, part := range []struct {
					id     int64
					points int
				}{{from, -points}, {to, points}} {
					written, err := c.one(tx.QueryRow(ctx, "UPDATE customers SET points = points + $2, changed = $3 WHERE id = $1"+
						" RETURNING "+customerColumns+", "+c.Version, part.id, part.points, at))
					if err != nil {
						return err
					}
					if written[0].Value.Points < 0 {
						return ErrTooFew // and the transaction is rolled back
					}
					changes = append(changes, written...)
				}
				return nil
			})
			return changes, err // after the commit, never before
		},
		Keys: []int64{from, to},
		Update: func(id int64, current Customer, found bool) (Customer, bool, error) {
			switch {
			case !found:
				return current, false, ErrNoCustomer
			case id == from && current.Points < points:
				return current, false, ErrTooFew
			case id == from:
				current.Points -= points
			default:
				current.Points += points
			}
			current.Changed = at
			return current, false, nil
		},
	})
}

// docs: end

// docs: key

// Renumber changes a customer's key. The old key is returned too, as deleted: to
// the target these are two records.
func (c *Customers) Renumber(ctx context.Context, from, to int64) error {
	before, found, err := c.Get(ctx, from) // for the second form
	if err != nil {
		return err
	}
	if !found {
		return ErrNoCustomer
	}
	return c.Write(ctx, dual.Op[int64, Customer]{
		Legacy: func(ctx context.Context) ([]change, error) {
			changes, err := c.one(c.db.QueryRow(ctx, "UPDATE customers SET id = $2 WHERE id = $1"+
				" RETURNING "+customerColumns+", "+c.Version, from, to))
			if err != nil {
				return nil, err
			}
			return append(changes, change{Key: from, Deleted: true, Version: changes[0].Version}), nil
		},
		Keys: []int64{to, from}, // first the new one: a failure in between leaves two, not none
		Update: func(id int64, current Customer, found bool) (Customer, bool, error) {
			switch {
			case id == to && found, id == from && (!found || !current.Changed.Equal(before.Changed)):
				return current, false, ErrTaken
			case id == from:
				return current, true, nil
			}
			moved := before
			moved.ID = to
			return moved, false, nil
		},
	})
}

// docs: end

// docs: errors

// Outcome is the result of a write, as its caller needs it.
type Outcome string

// The outcomes.
const (
	Saved    Outcome = "saved"
	NotSaved Outcome = "not saved" // nothing was written: try again
	Unsure   Outcome = "unsure"    // it may have been written, or a part of it: read first
	Refused  Outcome = "refused"   // nothing was written: the application or legacy refused it
)

// OutcomeOf classifies the error of a write.
func OutcomeOf(err error) Outcome {
	var target *dual.TargetError
	var waited *dual.WaitError
	switch {
	case err == nil:
		return Saved
	case errors.As(err, &target) && target.Legacy:
		return Saved // in legacy for good; the target follows when it is repaired
	case errors.As(err, &target) && (target.Unknown || len(target.Done) > 0):
		return Unsure // Done are written; Keys are not, or it is unknown
	case errors.As(err, &target), errors.As(err, &waited), errors.Is(err, dual.ErrLeft):
		return NotSaved
	case store.IsUncertain(err):
		return Unsure
	default:
		return Refused
	}
}

// docs: end
