// Package withsqlc moves a table whose queries sqlc generates. The version is in the RETURNING
// clause of queries.sql, so the migration's name is there too.
package withsqlc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/kit"
	"github.com/stranglerfig/migrator/examples/integrations/withsqlc/db"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store/postgres"
)

//go:generate go run github.com/sqlc-dev/sqlc/cmd/sqlc@v1.31.1 generate

// ErrNoAccount refuses a change of an account that does not exist.
var ErrNoAccount = errors.New("no such account")

// docs: open

// Accounts are the application's accounts. The value is sqlc's own struct: its db tags are the
// migration's columns.
type Accounts struct {
	*kit.Records[int64, db.Account]
	queries *db.Queries
}

// Open joins the migration.
func Open(ctx context.Context, pool *pgxpool.Pool, m *migration.Config, o kit.Options) (a *Accounts, err error) {
	if want := postgres.VersionExpr(m.Name); want != "migrator_legacy.version('accounts')" {
		return nil, fmt.Errorf("queries.sql has the version of another migration: it must be %s", want)
	}
	a = &Accounts{queries: db.New(pool)}
	a.Records, err = kit.Open(ctx, m, o, kit.Binding[int64, db.Account]{Read: a.read})
	return a, err
}

// docs: end

// docs: write

// AddCents changes one account.
func (a *Accounts) AddCents(ctx context.Context, id, cents int64) error {
	at := now()
	return a.Write(ctx, dual.Op[int64, db.Account]{
		Keys: []int64{id},
		Legacy: func(ctx context.Context) ([]dual.Change[int64, db.Account], error) {
			row, err := a.queries.AddCents(ctx, db.AddCentsParams{ID: id, Cents: cents, Changed: at})
			if errors.Is(err, pgx.ErrNoRows) {
				return nil, ErrNoAccount
			}
			return []dual.Change[int64, db.Account]{{Key: id, Value: row.Account, Version: row.Version}}, err
		},
		Update: func(_ int64, current db.Account, found bool) (db.Account, bool, error) {
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
func (a *Accounts) Replace(ctx context.Context, v db.Account) error {
	v.Changed = now()
	return a.Put(ctx, v.ID, v, func(ctx context.Context) (record.Version, error) {
		return a.queries.PutAccount(ctx, db.PutAccountParams(v))
	})
}

// Remove deletes an account.
func (a *Accounts) Remove(ctx context.Context, id int64) error {
	return a.Delete(ctx, id, func(ctx context.Context) (record.Version, error) {
		version, err := a.queries.DeleteAccount(ctx, id)
		if errors.Is(err, pgx.ErrNoRows) {
			return record.Version{}, nil // there was none
		}
		return version, err
	})
}

func (a *Accounts) read(ctx context.Context, id int64) (db.Account, bool, error) {
	v, err := a.queries.GetAccount(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return v, false, nil
	}
	return v, err == nil, err
}

// now is the present time at PostgreSQL's precision.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
