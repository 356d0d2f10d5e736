package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

var _ store.ChangeLister = (*Legacy)(nil)

// FenceMark implements store.ChangeLister. A mark is the server's identifier and the transaction
// that wrote the fence's row: only one that held the table's lock before it can have an earlier
// number and write the table.
func (l *Legacy) FenceMark(ctx context.Context, attempt, noted string) (string, error) {
	server, _, err := l.system(ctx, l.pool)
	if err != nil {
		return "", fmt.Errorf("read the server of legacy table %s: %w", l.table(), err)
	}
	var present, mark string
	err = l.pool.QueryRow(ctx, "SELECT coalesce(attempt, ''), xmin::text FROM migrator_legacy.migration WHERE name = $1", l.name).Scan(&present, &mark)
	if errors.Is(err, pgx.ErrNoRows) {
		err = errNotInstalled
	}
	if err != nil {
		return "", fmt.Errorf("read the fence of legacy table %s: %w", l.table(), asNotInstalled(err))
	}
	// Another server, or one without the fence: its numbers say nothing of the noted one. The row was
	// written before the fence then, or copied.
	if noted != "" && present == attempt && strings.HasPrefix(noted, server+":") {
		return noted, nil
	}
	return server + ":" + mark, nil
}

// ChangedSince implements store.ChangeLister. It reads the whole table.
func (l *Legacy) ChangedSince(ctx context.Context, mark string, limit int) (keys []record.Key, err error) {
	_, text, _ := strings.Cut(mark, ":")
	if _, err := strconv.ParseUint(text, 10, 32); err != nil {
		return nil, fmt.Errorf("list what legacy table %s took: %q is no mark of its fence", l.table(), mark)
	}
	err = readWholeTables(ctx, l.pool, func(tx pgx.Tx) error {
		// By age, since transaction numbers start again at the end of their range.
		keys, err = l.shape.readKeys(tx.Query(ctx, "SELECT "+l.shape.keyColumns()+" FROM "+l.shape.name.Sanitize()+
			" t WHERE age(t.xmin) < age($1::text::xid) LIMIT "+strconv.Itoa(limit), textResults, text))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list what legacy table %s took: %w", l.table(), withoutValue(err))
	}
	return keys, nil
}
