// Package withent moves a table that the application writes with ent.
package withent

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"time"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/kit"
	"github.com/stranglerfig/migrator/examples/integrations/withent/ent"
	"github.com/stranglerfig/migrator/examples/integrations/withent/ent/account"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
)

//go:generate go run entgo.io/ent/cmd/ent@v0.14.5 generate --feature sql/execquery,sql/upsert ./ent/schema

// ErrNoAccount refuses a change of an account that does not exist.
var ErrNoAccount = errors.New("no such account")

// Accounts are the application's accounts. The value is ent's own struct. One that Get returned
// belongs to no client: its methods Update and Unwrap must not be called.
type Accounts struct {
	*kit.Records[int64, ent.Account]
	client *ent.Client
}

type change = dual.Change[int64, ent.Account]

// Open joins the migration.
func Open(ctx context.Context, db *sql.DB, m *migration.Config, o kit.Options) (a *Accounts, err error) {
	a = &Accounts{client: ent.NewClient(ent.Driver(entsql.OpenDB(dialect.Postgres, db)))}
	a.Records, err = kit.Open(ctx, m, o, kit.Binding[int64, ent.Account]{Read: a.read})
	return a, err
}

// docs: version

// inTx makes a transaction and commits it.
func (a *Accounts) inTx(ctx context.Context, do func(*ent.Tx) error) error {
	tx, err := a.client.Tx(ctx)
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// version is the version of what tx has written. It must come after a mutation that wrote the
// row, and before the commit: in between, tx holds the row's lock.
func (a *Accounts) version(ctx context.Context, tx *ent.Tx) (v record.Version, err error) {
	rows, err := tx.QueryContext(ctx, "SELECT "+a.Version)
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	if !rows.Next() {
		return v, cmp.Or(rows.Err(), sql.ErrNoRows)
	}
	return v, rows.Scan(&v)
}

// docs: end

// docs: write

// AddCents changes one account.
func (a *Accounts) AddCents(ctx context.Context, id, cents int64) error {
	at := now()
	return a.Write(ctx, dual.Op[int64, ent.Account]{
		Keys: []int64{id},
		Legacy: func(ctx context.Context) (changes []change, err error) {
			err = a.inTx(ctx, func(tx *ent.Tx) error {
				row, err := tx.Account.UpdateOneID(id).AddCents(cents).SetChanged(at).Save(ctx)
				if ent.IsNotFound(err) {
					return ErrNoAccount
				}
				if err != nil {
					return err
				}
				version, err := a.version(ctx, tx)
				changes = []change{{Key: id, Value: *row, Version: version}}
				return err
			})
			return changes, err // after the commit
		},
		Update: func(_ int64, current ent.Account, found bool) (ent.Account, bool, error) {
			if !found {
				return current, false, ErrNoAccount
			}
			current.Cents += cents
			current.Changed = at
			return current, false, nil
		},
	})
}

// docs: end

// Replace makes an account, or replaces one whole.
func (a *Accounts) Replace(ctx context.Context, v ent.Account) error {
	v.Changed = now()
	return a.Put(ctx, v.ID, v, func(ctx context.Context) (version record.Version, err error) {
		err = a.inTx(ctx, func(tx *ent.Tx) error {
			err := tx.Account.Create().SetID(v.ID).SetOwner(v.Owner).SetCents(v.Cents).SetChanged(v.Changed).
				OnConflictColumns(account.FieldID).UpdateNewValues().Exec(ctx)
			if err != nil {
				return err
			}
			version, err = a.version(ctx, tx)
			return err
		})
		return version, err
	})
}

// docs: delete

// Remove deletes an account.
func (a *Accounts) Remove(ctx context.Context, id int64) error {
	return a.Delete(ctx, id, func(ctx context.Context) (version record.Version, err error) {
		err = a.inTx(ctx, func(tx *ent.Tx) error {
			n, err := tx.Account.Delete().Where(account.ID(id)).Exec(ctx)
			if err != nil || n == 0 {
				return err // none was deleted, so tx holds no lock: the zero version
			}
			version, err = a.version(ctx, tx)
			return err
		})
		return version, err
	})
}

// docs: end

func (a *Accounts) read(ctx context.Context, id int64) (ent.Account, bool, error) {
	row, err := a.client.Account.Get(ctx, id)
	if ent.IsNotFound(err) {
		return ent.Account{}, false, nil
	}
	if err != nil {
		return ent.Account{}, false, err
	}
	return *row, true, nil
}

// now is the present time at PostgreSQL's precision.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
