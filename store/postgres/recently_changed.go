package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

var _ store.RecentFinder = (*Legacy)(nil)

// CheckRecent implements store.RecentFinder.
func (l *Legacy) CheckRecent(ctx context.Context, column string) error {
	c := l.shape.column(column)
	if c == nil {
		return fmt.Errorf("%w: the table has no column %q; the columns are %s", store.ErrRecentColumn, column, l.shape.columnNames())
	}
	if k := c.format.kind; k != record.Timestamp && k != record.TimestampTZ {
		return fmt.Errorf("%w: %q is of type %s; want timestamp or timestamptz", store.ErrRecentColumn, column, c.declared)
	}
	var indexed bool
	err := l.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_index i
			JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
			WHERE i.indrelid = $1 AND i.indisvalid AND i.indpred IS NULL AND a.attname = $2)`, l.shape.oid, column).Scan(&indexed)
	if err != nil {
		return fmt.Errorf("find an index on column %q of legacy table %s: %w", column, l.table(), err)
	}
	if !indexed {
		return hint.Errorf(hint.Hint{Text: fmt.Sprintf("CREATE INDEX CONCURRENTLY ON %s (%s)", l.shape.name.Sanitize(), quote(column))},
			"%w: %q has no index that begins with it, so each run would read the whole table", store.ErrRecentColumn, column)
	}
	return nil
}

// RecentKeys implements store.RecentFinder. It draws the keys at random.
func (l *Legacy) RecentKeys(ctx context.Context, column string, within time.Duration, share float64, limit int) ([]record.Key, error) {
	s := l.shape
	if s.column(column) == nil {
		return nil, s.unknown("reconcile.recent.column", column)
	}
	sql := "SELECT " + s.keyColumns() + " FROM " + s.name.Sanitize() + " t WHERE t." + quote(column) +
		" >= now() - $1::interval AND random() < $2 LIMIT " + strconv.Itoa(limit)
	keys, err := s.readKeys(l.pool.Query(ctx, sql, textResults, within, share))
	if err != nil {
		return nil, fmt.Errorf("draw young keys of legacy table %s: %w", l.table(), err)
	}
	return keys, nil
}

// keyColumns lists the key's columns of the relation t.
func (s *shape) keyColumns() string {
	names := make([]string, len(s.key))
	for n, i := range s.key {
		names[n] = s.columns[i].output("t.")
	}
	return strings.Join(names, ", ")
}

// readKeys reads rows of the key's columns.
func (s *shape) readKeys(rows pgx.Rows, err error) ([]record.Key, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var keys []record.Key
	parts := make([]string, len(s.key))
	for rows.Next() {
		for n, raw := range rows.RawValues() {
			canonical, err := appendCanonical(nil, s.columns[s.key[n]].format, raw)
			if err != nil {
				return nil, err
			}
			parts[n] = string(canonical)
		}
		keys = append(keys, record.MakeKey(parts...))
	}
	return keys, rows.Err()
}
