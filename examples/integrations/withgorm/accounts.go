// Package withgorm moves a table that the application writes with GORM.
package withgorm

import (
	"context"
	"errors"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/kit"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
)

// ErrNoAccount refuses a change of an account that does not exist.
var ErrNoAccount = errors.New("no such account")

// docs: model

// Account is the model. Its db tags are the migration's columns, all of them: the time of a
// soft delete is one.
type Account struct {
	ID        int64          `db:"id" gorm:"primaryKey;autoIncrement:false"`
	Owner     string         `db:"owner"`
	Cents     int64          `db:"cents"`
	UpdatedAt time.Time      `db:"updated_at"`
	DeletedAt gorm.DeletedAt `db:"deleted_at"`
}

// written is the model with the version of a write. GORM reads that field from RETURNING,
// writes it in no statement, and makes no column of it.
type written struct {
	Account `gorm:"embedded"`
	Version record.Version `gorm:"->;-:migration;type:text"`
}

// TableName is that of Account.
func (written) TableName() string { return "accounts" }

// docs: end

// Accounts are the application's accounts.
type Accounts struct {
	*kit.Records[int64, Account]
	db        *gorm.DB
	returning clause.Returning
}

type change = dual.Change[int64, Account]

// docs: open

// Open joins the migration.
func Open(ctx context.Context, db *gorm.DB, m *migration.Config, o kit.Options) (a *Accounts, err error) {
	a = &Accounts{db: db}
	if a.Records, err = kit.Open(ctx, m, o, kit.Binding[int64, Account]{Read: a.read}); err != nil {
		return nil, err
	}
	a.returning = clause.Returning{Columns: []clause.Column{
		{Name: "*", Raw: true}, {Name: a.Version + " AS version", Raw: true},
	}}
	return a, nil
}

// session is a session for one statement of a Writer's closure, whose "now" is fixed: GORM sets
// UpdatedAt and DeletedAt from it, and the closure may run twice.
func (a *Accounts) session(ctx context.Context, at time.Time) *gorm.DB {
	return a.db.Session(&gorm.Session{Context: throughWriter(ctx), NowFunc: func() time.Time { return at }}).Clauses(a.returning)
}

// docs: end

// docs: write

// AddCents changes one account.
func (a *Accounts) AddCents(ctx context.Context, id, cents int64) error {
	at := now()
	return a.Write(ctx, dual.Op[int64, Account]{
		Keys: []int64{id},
		Legacy: func(ctx context.Context) ([]change, error) {
			row := written{Account: Account{ID: id}}
			return one(&row, a.session(ctx, at).Model(&row).Update("cents", gorm.Expr("cents + ?", cents)))
		},
		Update: func(_ int64, current Account, found bool) (Account, bool, error) {
			if !found || current.DeletedAt.Valid {
				return current, false, ErrNoAccount
			}
			current.Cents += cents
			current.UpdatedAt = at
			return current, false, nil
		},
	})
}

// one is the change of a statement that writes one row.
func one(row *written, done *gorm.DB) ([]change, error) {
	if done.Error == nil && done.RowsAffected == 0 {
		return nil, ErrNoAccount
	}
	return []change{{Key: row.ID, Value: row.Account, Version: row.Version}}, done.Error
}

// docs: end

// docs: softdelete

// Remove deletes an account softly. To the migration that is a change: the record stays, in
// both stores, with the time of its deletion.
func (a *Accounts) Remove(ctx context.Context, id int64) error {
	at := now()
	return a.Write(ctx, dual.Op[int64, Account]{
		Keys: []int64{id},
		Legacy: func(ctx context.Context) ([]change, error) {
			row := written{Account: Account{ID: id}}
			return one(&row, a.session(ctx, at).Delete(&row))
		},
		Update: func(_ int64, current Account, found bool) (Account, bool, error) {
			if !found || current.DeletedAt.Valid {
				return current, false, ErrNoAccount
			}
			current.DeletedAt = gorm.DeletedAt{Time: at, Valid: true}
			return current, false, nil
		},
	})
}

// Find returns an account that is not deleted. The Reader knows no soft delete.
func (a *Accounts) Find(ctx context.Context, id int64) (Account, bool, error) {
	v, found, err := a.Get(ctx, id)
	return v, found && !v.DeletedAt.Valid, err
}

// read returns deleted accounts too, as the target does: without Unscoped every soft delete
// would be a difference of the stores.
func (a *Accounts) read(ctx context.Context, id int64) (v Account, found bool, err error) {
	err = a.db.WithContext(ctx).Unscoped().Take(&v, id).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return v, false, nil
	}
	return v, err == nil, err
}

// docs: end

// Replace makes an account, or replaces one whole.
func (a *Accounts) Replace(ctx context.Context, v Account) error {
	v.UpdatedAt = now()
	return a.Put(ctx, v.ID, v, func(ctx context.Context) (record.Version, error) {
		row := written{Account: v}
		err := a.session(ctx, v.UpdatedAt).Clauses(clause.OnConflict{UpdateAll: true}).Create(&row).Error
		return row.Version, err
	})
}

// Purge deletes an account for good.
func (a *Accounts) Purge(ctx context.Context, id int64) error {
	return a.Delete(ctx, id, func(ctx context.Context) (record.Version, error) {
		row := written{Account: Account{ID: id}}
		err := a.session(ctx, now()).Unscoped().Delete(&row).Error
		return row.Version, err // zero: there was none
	})
}

// now is the present time at PostgreSQL's precision.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
