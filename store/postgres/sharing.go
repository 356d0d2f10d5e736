package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/store"
)

// sharing returns the name of another migration of this table, of a partition of it or of a table
// that it is a partition of; "": there is none.
func (l *Legacy) sharing(ctx context.Context, db queryer) (string, error) {
	rows, err := db.Query(ctx, `
		SELECT m.name FROM migrator_legacy.migration m, LATERAL (SELECT to_regclass(m.relation) AS oid) AS other
		WHERE m.name <> $1 AND other.oid IS NOT NULL
		  AND (other.oid = $2::oid
		    OR other.oid IN (SELECT relid FROM pg_partition_tree($2::oid::regclass))
		    OR $2::oid IN (SELECT relid::oid FROM pg_partition_tree(other.oid)))
		ORDER BY m.name LIMIT 1`, l.name, l.shape.oid)
	if err != nil {
		return "", err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(names) == 0 {
		return "", err
	}
	return names[0], nil
}

type queryer interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// refuseSharing refuses a table that another migration moves. [table-alone]: a second migration
// would begin where the first one's fence stands, and take its records, which legacy no longer
// has, for deleted ones.
func (l *Legacy) refuseSharing(ctx context.Context, db queryer) error {
	other, err := l.sharing(ctx, db)
	if err != nil || other == "" {
		return err
	}
	return hint.Errorf(sharingRemedy(other), "the migration %s moves %s, or a part of it, already", other, l.table())
}

func sharingRemedy(other string) hint.Hint {
	return hint.Hint{Do: hint.Forget, Of: []string{other}, Text: "if that migration is complete or was given up; as an orphan if its state database no longer exists"}
}

// checkSharing reports another migration of the table.
func (l *Legacy) checkSharing(ctx context.Context, f *findings) error {
	other, err := l.sharing(ctx, l.pool)
	switch {
	case hasState(err, stateUndefinedTable, stateNoSchema):
		return nil // migrator has not been here yet
	case err != nil:
		return err
	case other != "":
		*f = append(*f, store.Check{
			Name: "legacy-other-migration", Result: store.Refused, Hint: sharingRemedy(other),
			Detail: fmt.Sprintf("the migration %s moves %s, or a part of it, already", other, l.table()),
		})
	}
	return nil
}
