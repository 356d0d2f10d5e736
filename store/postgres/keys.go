package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/pgfail"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// batchKeys bounds the keys of one statement.
const batchKeys = 1000

// keyQuery is the SQL for the texts of keys: the server casts each text to its column's
// type, so that it can use the key's index.
type keyQuery struct {
	from string   // FROM item u: one row for each key, with its ordinal
	on   string   // the join with the table t
	args []any    // the []string of each array, from $1
	next int      // number of the next free parameter
	at   []int    // the position in the caller's keys of each ordinal, from 1
	kept []string // each ordinal's key
}

// keyQuery omits keys that can't name a row of this table because of their form. With
// whole, the column u.key has the keys' texts in the table of versions.
func (s *shape) keyQuery(keys []record.Key, at []int, whole func(string) string) keyQuery {
	q := keyQuery{next: len(s.key) + 1}
	columns := make([][]string, len(s.key))
	for _, i := range at {
		texts, ok := s.keyTexts(keys[i])
		if !ok {
			continue
		}
		for c, text := range texts {
			columns[c] = append(columns[c], text)
		}
		q.at = append(q.at, i)
		q.kept = append(q.kept, string(keys[i]))
	}
	arrays, names, on, values := make([]string, len(s.key), len(s.key)+1), make([]string, len(s.key), len(s.key)+1), make([]string, len(s.key)), make([]string, len(s.key))
	for c, field := range s.key {
		q.args = append(q.args, columns[c])
		arrays[c] = "$" + strconv.Itoa(c+1) + "::text[]"
		names[c] = "k" + strconv.Itoa(c)
		values[c] = s.columns[field].input("u." + names[c])
		on[c] = "t." + quote(s.columns[field].name) + " = " + values[c]
	}
	if whole != nil {
		texts := make([]string, len(q.kept))
		for i, key := range q.kept {
			texts[i] = whole(key)
		}
		q.args = append(q.args, texts)
		arrays = append(arrays, "$"+strconv.Itoa(q.next)+"::text[]")
		names = append(names, "key")
		q.next++
	}
	q.from = "unnest(" + strings.Join(arrays, ", ") + ") WITH ORDINALITY AS u(" + strings.Join(names, ", ") + ", ordinal)"
	q.on = strings.Join(on, " AND ")
	if s.ownText {
		q.on += s.sameText(values)
	}
	return q
}

// keyTexts splits a key into the texts of the key's columns.
func (s *shape) keyTexts(key record.Key) ([]string, bool) {
	parts, err := key.Parts()
	if err != nil || len(parts) != len(s.key) {
		return nil, false
	}
	for i, field := range s.key {
		if parts[i], err = fromCanonical(s.columns[field].format, parts[i]); err != nil {
			return nil, false
		}
	}
	return parts, true
}

// place resolves an ordinal of q's result.
func (q *keyQuery) place(ordinal []byte) (int, error) {
	n, err := strconv.Atoi(string(ordinal))
	if err != nil || n < 1 || n > len(q.at) {
		return 0, fmt.Errorf("the server returned the key number %q of %d", ordinal, len(q.at))
	}
	return n - 1, nil
}

// inBatches runs do for the positions of keys in batches. A batch with a key that the
// server can't read as the column's type is halved until that key is alone: it names
// no row, and is skipped. A key that the server can read, and whose row it can't print (a
// text that is not valid in the session's encoding), is an error that names the key: taken for
// one that is not there, it would be deleted from the target.
func (s *shape) inBatches(ctx context.Context, db querier, keys []record.Key, do func(at []int) error) error {
	for from := 0; from < len(keys); from += batchKeys {
		at := make([]int, 0, batchKeys)
		for i := from; i < min(len(keys), from+batchKeys); i++ {
			at = append(at, i)
		}
		if err := s.halving(ctx, db, keys, at, do); err != nil {
			return err
		}
	}
	return nil
}

func (s *shape) halving(ctx context.Context, db querier, keys []record.Key, at []int, do func(at []int) error) error {
	if len(at) == 0 {
		return nil
	}
	err := do(at)
	switch {
	case err == nil || !refusedValue(err):
		return err
	case len(at) == 1:
		readable, failed := s.readable(ctx, db, keys[at[0]])
		if failed != nil {
			return failed
		}
		if readable {
			return fmt.Errorf("key %q: the server can't print its record (SQLSTATE %s): is there a text in it that is not UTF-8?", keys[at[0]], pgfail.SQLState(err))
		}
		return nil
	}
	middle := len(at) / 2
	if err := s.halving(ctx, db, keys, at[:middle], do); err != nil {
		return err
	}
	return s.halving(ctx, db, keys, at[middle:], do)
}

// readable reports whether the server can read a key as its columns' types.
func (s *shape) readable(ctx context.Context, db querier, key record.Key) (bool, error) {
	texts, ok := s.keyTexts(key)
	if !ok {
		return false, nil
	}
	list, args := make([]string, len(texts)), []any{textResults}
	for i, text := range texts {
		list[i] = "(" + s.columns[s.key[i]].input("$"+strconv.Itoa(i+1)+"::text") + ") IS NOT NULL"
		args = append(args, text)
	}
	rows, err := db.Query(ctx, "SELECT "+strings.Join(list, ", "), args...)
	if err == nil {
		rows.Close()
		err = rows.Err()
	}
	if refusedValue(err) {
		return false, nil
	}
	return err == nil, err
}

// querier is a pool, a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// lookup fills rows, which hold the keys, at the given positions. A row whose
// key the server compares as equal to the requested key but prints differently (1.0
// and 1.00) belongs to another record: it is not found, but named.
func (s *shape) lookup(ctx context.Context, db querier, rows []store.Row, keys []record.Key, at []int) error {
	q := s.keyQuery(keys, at, nil)
	if len(q.at) == 0 {
		return nil
	}
	sql := "SELECT u.ordinal, " + s.list("t.") + " FROM " + q.from + " JOIN " + s.name.Sanitize() + " t ON " + q.on
	found, err := db.Query(ctx, sql, append([]any{textResults}, q.args...)...)
	if err != nil {
		return err
	}
	defer found.Close()
	d := s.decoder()
	for found.Next() {
		raw := found.RawValues()
		n, err := q.place(raw[0])
		if err != nil {
			return err
		}
		row, err := d.row(raw[1:])
		if err != nil {
			return err
		}
		if r := &rows[q.at[n]]; row.Key == r.Key {
			r.Found, r.Record = true, row.Record.Clone()
		} else {
			r.Equal = record.Key(strings.Clone(string(row.Key)))
		}
	}
	return found.Err()
}

func unfound(keys []record.Key) []store.Row {
	rows := make([]store.Row, len(keys))
	for i := range rows {
		rows[i].Key = keys[i]
	}
	return rows
}
