package withgorm

import (
	"context"
	"errors"
	"slices"

	"gorm.io/gorm"
)

// docs: guard

// ErrBypass refuses a statement on a moved table that no Writer makes.
var ErrBypass = errors.New("a write of a moved table that bypasses its Writer")

type writerKey struct{}

func throughWriter(ctx context.Context) context.Context {
	return context.WithValue(ctx, writerKey{}, true)
}

// Guard makes GORM refuse writes of the tables that are not made in a Writer's closure: those of
// Save and Updates elsewhere, and of associations. In production, log them instead. It does not
// see Exec and Raw, nor what the database does by itself.
func Guard(db *gorm.DB, tables ...string) error {
	refuse := func(tx *gorm.DB) {
		if slices.Contains(tables, tx.Statement.Table) && tx.Statement.Context.Value(writerKey{}) == nil {
			_ = tx.AddError(ErrBypass)
		}
	}
	return errors.Join(
		db.Callback().Create().Before("gorm:create").Register("migrator:guard", refuse),
		db.Callback().Update().Before("gorm:update").Register("migrator:guard", refuse),
		db.Callback().Delete().Before("gorm:delete").Register("migrator:guard", refuse),
	)
}

// docs: end
