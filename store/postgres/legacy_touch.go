package postgres

import (
	"context"
	"fmt"
	"strconv"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// Touch makes one real write of a record, for the load of a drill: it sets the column to
// the value, or, without a column, one column to the value that it has. Triggers run as
// for any other write. Touch returns the row as it is then, with the version of the
// write; the row is not Found if there is no such record.
func (l *Legacy) Touch(ctx context.Context, key record.Key, column string, value record.Value) (store.Row, error) {
	row := store.Row{Key: key}
	s := l.shape
	q := s.keyQuery([]record.Key{key}, []int{0}, nil)
	if len(q.at) == 0 {
		return row, nil
	}
	set, args, err := l.touching(&q, column, value)
	if err != nil {
		return row, err
	}
	sql := "UPDATE " + s.name.Sanitize() + " t SET " + set + " FROM " + q.from + " WHERE " + q.on +
		" RETURNING " + l.versionExpr("t."+quote(l.version)) + ", " + s.list("t.")
	found, err := l.pool.Query(ctx, sql, append([]any{textResults}, args...)...)
	if err == nil {
		defer found.Close()
		for found.Next() {
			raw := found.RawValues()
			touched, err := s.decoder().row(raw[1:])
			if err != nil {
				return row, err
			}
			if touched.Key != key {
				continue
			}
			row.Found, row.Record = true, touched.Record.Clone()
			if row.Version, err = record.ParseVersion(string(raw[0])); err != nil {
				return row, err
			}
		}
		err = found.Err()
	}
	if err != nil {
		return row, fmt.Errorf("write key %q of legacy table %s: %w", string(key), l.table(), asNotInstalled(withoutValue(err)))
	}
	return row, nil
}

// touching returns the SET clause and the statement's arguments.
func (l *Legacy) touching(q *keyQuery, column string, value record.Value) (set string, args []any, err error) {
	args = q.args
	if column == "" {
		c := l.touchColumn()
		if c == nil {
			return "", nil, fmt.Errorf("legacy table %s has no column that can be set to its own value", l.table())
		}
		set = quote(c.name) + " = t." + quote(c.name)
	} else {
		at := l.shape.schema.Index(column)
		if at < 0 {
			return "", nil, l.shape.unknown("column", column)
		}
		c := l.shape.columns[at]
		set = quote(column) + " = NULL"
		if value.State == record.Present {
			text, err := fromCanonical(c.format, value.Text)
			if err != nil {
				return "", nil, fmt.Errorf("column %q: %w", column, err)
			}
			set, args = quote(column)+" = "+c.input("$"+strconv.Itoa(q.next)+"::text"), append(args, text)
		}
	}
	if l.version != "" && column != l.version {
		set += ", " + quote(l.version) + " = t." + quote(l.version) + " + 1" // it grows with every change
	}
	return set, args, nil
}

// touchColumn is the column that Touch sets to its own value: one outside the key, if
// there is one.
func (l *Legacy) touchColumn() (found *column) {
	for i, c := range l.shape.columns {
		if c.generated || c.identity == "a" || c.name == l.version {
			continue
		}
		isKey := false
		for _, k := range l.shape.key {
			isKey = isKey || k == i
		}
		if !isKey {
			return c
		}
		found = c
	}
	return found
}
