package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// Get implements store.Target. Each batch is one statement, so that a record and
// its version are of one snapshot.
func (t *Target) Get(ctx context.Context, keys []record.Key) ([]store.Entry, error) {
	entries := make([]store.Entry, len(keys))
	for i, key := range keys {
		entries[i] = store.Entry{Key: key, Presence: store.Absent}
	}
	err := t.shape.inBatches(ctx, t.pool, keys, func(at []int) error { return t.get(ctx, keys, at, entries) })
	if err != nil {
		return nil, fmt.Errorf("read %d keys of target table %s: %w", len(keys), t.table(), asUnprepared(withoutValue(err)))
	}
	return entries, nil
}

func (t *Target) get(ctx context.Context, keys []record.Key, at []int, entries []store.Entry) error {
	s := t.shape
	q := s.keyQuery(keys, at, t.sideKey)
	if len(q.at) == 0 {
		return nil
	}
	sql := "SELECT u.ordinal, s.version, s.deleted, " + s.columns[s.key[0]].present("t.") + ", " + s.list("t.") + " FROM " + q.from +
		" LEFT JOIN " + t.side + " s ON s.key = u.key LEFT JOIN " + s.name.Sanitize() + " t ON " + q.on
	rows, err := t.pool.Query(ctx, sql, append([]any{textResults}, q.args...)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	d := s.decoder()
	for rows.Next() {
		raw := rows.RawValues()
		n, err := q.place(raw[0])
		if err != nil {
			return err
		}
		if err := t.entry(&entries[q.at[n]], d, raw); err != nil {
			return err
		}
	}
	return rows.Err()
}

// entry decodes version, deleted, whether the record exists, and the record.
func (t *Target) entry(e *store.Entry, d *decoder, raw [][]byte) error {
	known, deleted, there := raw[1] != nil, string(raw[2]) == "t", string(raw[3]) == "t"
	if known {
		var err error
		if e.Version, err = record.ParseVersion(string(raw[1])); err != nil {
			return err
		}
	}
	if there {
		r, err := d.decode(raw[4:])
		if err != nil {
			e.Presence, e.Detail = store.Damaged, err.Error()
			return nil
		}
		e.Record = r.Clone()
	}
	switch {
	case there && known && !deleted:
		e.Presence = store.Live
	case there:
		e.Presence = store.Unowned
	case known:
		e.Presence = store.Tombstone
		if !deleted {
			e.Vanished, e.Detail = true, "another writer deleted the row"
		}
	}
	return nil
}

// Scan implements store.Target: first the keys with a version, then the rows without
// one. Both are read by ranges of keys, whose order does not change meanwhile.
func (t *Target) Scan(ctx context.Context, yield func([]store.Entry) error) error {
	if err := t.scanVersions(ctx, yield); err != nil {
		return fmt.Errorf("read all of target table %s: %w", t.table(), asUnprepared(err))
	}
	if err := t.scanUnowned(ctx, yield); err != nil {
		return fmt.Errorf("read all of target table %s: %w", t.table(), asUnprepared(err))
	}
	return nil
}

func (t *Target) scanVersions(ctx context.Context, yield func([]store.Entry) error) error {
	operator, after := ">=", ""
	for {
		keys, err := t.keys(ctx, "SELECT key FROM "+t.side+" WHERE key "+operator+" $1 ORDER BY key LIMIT "+strconv.Itoa(batchKeys), after)
		if err != nil || len(keys) == 0 {
			return err
		}
		entries, err := t.Get(ctx, keys)
		if err != nil {
			return err
		}
		there := entries[:0]
		for _, e := range entries {
			if e.Presence != store.Absent { // a tombstone purged meanwhile
				there = append(there, e)
			}
		}
		if len(there) > 0 {
			if err := yield(there); err != nil {
				return err
			}
		}
		operator, after = ">", t.sideKey(string(keys[len(keys)-1]))
	}
}

func (t *Target) keys(ctx context.Context, sql string, args ...any) ([]record.Key, error) {
	rows, err := t.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var keys []record.Key
	for rows.Next() {
		var key string
		if err := rows.Scan(&key); err != nil {
			return nil, err
		}
		keys = append(keys, t.fromSide(key))
	}
	return keys, rows.Err()
}

func (t *Target) scanUnowned(ctx context.Context, yield func([]store.Entry) error) error {
	var after []any // the server's own texts of the last key
	for {
		keys, last, err := t.rowKeys(ctx, after)
		if err != nil || len(keys) == 0 {
			return err
		}
		owned, err := t.keys(ctx, "SELECT key FROM "+t.side+" WHERE key = ANY ($1)", t.sideKeys(keys))
		if err != nil {
			return err
		}
		mine := make(map[record.Key]bool, len(owned))
		for _, key := range owned {
			mine[key] = true
		}
		var others []record.Key
		for _, key := range keys {
			if !mine[key] {
				others = append(others, key)
			}
		}
		entries, err := t.Get(ctx, others)
		if err != nil {
			return err
		}
		unowned := entries[:0]
		for _, e := range entries {
			if e.Presence == store.Unowned {
				unowned = append(unowned, e)
			}
		}
		if len(unowned) > 0 {
			if err := yield(unowned); err != nil {
				return err
			}
		}
		after = last
	}
}

// rowKeys returns the next keys of the table itself.
func (t *Target) rowKeys(ctx context.Context, after []any) (keys []record.Key, last []any, err error) {
	s := t.shape
	names, params, out := make([]string, len(s.key)), make([]string, len(s.key)), make([]string, len(s.key))
	for n, i := range s.key {
		names[n] = "t." + quote(s.columns[i].name)
		params[n] = s.columns[i].input("$" + strconv.Itoa(n+1) + "::text")
		out[n] = s.columns[i].output("t.")
	}
	list, where := strings.Join(names, ", "), ""
	if after != nil {
		where = " WHERE (" + list + ") > (" + strings.Join(params, ", ") + ")"
	}
	sql := "SELECT " + strings.Join(out, ", ") + " FROM " + s.name.Sanitize() + " t" + where + " ORDER BY " + list + " LIMIT " + strconv.Itoa(batchKeys)
	rows, err := t.pool.Query(ctx, sql, append([]any{textResults}, after...)...)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	for rows.Next() {
		last = make([]any, len(s.key))
		for n, raw := range rows.RawValues() {
			last[n] = string(raw)
		}
		key, err := s.keyOf(rows.RawValues())
		if err != nil {
			return nil, nil, err
		}
		keys = append(keys, key)
	}
	return keys, last, rows.Err()
}
