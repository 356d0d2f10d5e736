package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

var _ store.StaleLister = (*Target)(nil)

// ListStale implements store.StaleLister. Usually nothing is stale, which one read of
// all keys and versions can prove.
func (t *Target) ListStale(ctx context.Context, than record.Version, yield func([]record.Key) error) error {
	if err := t.listStale(ctx, than, yield); err != nil {
		return fmt.Errorf("find old versions of target table %s: %w", t.table(), asUnprepared(withoutValue(err)))
	}
	return nil
}

func (t *Target) listStale(ctx context.Context, than record.Version, yield func([]record.Key) error) error {
	version, key, readable := string(than.AppendText32(nil)), "", false
	if key, readable = t.shape.keySQL("t."); readable {
		if none, err := t.noneStale(ctx, key, version); err != nil || none {
			return err
		}
	}
	confirmed := func(keys []record.Key) error {
		entries, err := t.Get(ctx, keys)
		if err != nil {
			return err
		}
		keys = keys[:0]
		for i := range entries {
			// [backfill-sweep]: read again, since a live write may have come in between.
			if entries[i].IsStale(than) {
				keys = append(keys, entries[i].Key)
			}
		}
		if len(keys) == 0 {
			return nil
		}
		return yield(keys)
	}
	if err := t.eachKey(ctx, confirmed, "SELECT key FROM "+t.side+" WHERE version < $1", version); err != nil {
		return err
	}
	if readable {
		return t.eachUnversioned(ctx, key, confirmed)
	}
	return t.scanUnowned(ctx, func(entries []store.Entry) error {
		keys := make([]record.Key, len(entries))
		for i := range entries {
			keys[i] = entries[i].Key
		}
		return confirmed(keys)
	})
}

var _ store.LostFinder = (*Target)(nil)

// FindLost implements store.LostFinder.
func (t *Target) FindLost(ctx context.Context, of record.Version) (lost record.Key, found bool, err error) {
	version := string(of.AppendText32(nil))
	key, readable := t.shape.keySQL("t.")
	var none bool
	if readable {
		none, err = t.noneStale(ctx, key, version)
	} else {
		none, err = t.asMany(ctx)
	}
	if err != nil || none {
		return "", false, withoutValue(err)
	}
	err = t.eachKey(ctx, func(keys []record.Key) error {
		entries, err := t.Get(ctx, keys)
		if err != nil {
			return err
		}
		for _, e := range entries {
			// A later write may have come in between.
			if e.Presence == store.Tombstone && e.Detail != "" && e.Version == of {
				lost, found = e.Key, true
				return errFound
			}
		}
		return nil
	}, "SELECT key FROM "+t.side+" s WHERE version = $1 AND NOT deleted"+t.withoutRow(key, readable)+" ORDER BY key", version)
	if err != nil && !errors.Is(err, errFound) {
		return "", false, fmt.Errorf("look for records of target table %s: %w", t.table(), asUnprepared(withoutValue(err)))
	}
	return lost, found, nil
}

var errFound = errors.New("found")

// asMany reports whether there are as many records as live versions: enough where to read the keys
// would be to read all records, since a sample of them is read too.
func (t *Target) asMany(ctx context.Context) (same bool, err error) {
	err = readWholeTables(ctx, t.pool, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, "SELECT (SELECT count(*) FROM "+t.shape.name.Sanitize()+") = (SELECT count(*) FROM "+t.side+" WHERE NOT deleted)").Scan(&same)
	})
	return same, err
}

// withoutRow is the condition that no row has the key of a version, if that is cheap to say. A
// key with signs that are escaped is never one of the SQL's, so it is looked up.
func (t *Target) withoutRow(key string, readable bool) string {
	if !readable {
		return ""
	}
	return " AND NOT EXISTS (SELECT FROM " + t.shape.name.Sanitize() + " t WHERE " + key + " = s.key)"
}

// noneStale reports whether each record has a live version that is not older. A record
// and its version change in one transaction, so in the snapshot of one statement the
// two tables agree. It compares them by the sums of their keys' hashes.
func (t *Target) noneStale(ctx context.Context, key, version string) (none bool, err error) {
	err = readWholeTables(ctx, t.pool, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `
		SELECT r.n = v.n AND r.sum IS NOT DISTINCT FROM v.sum AND coalesce(v.oldest >= $1, true)
		FROM (SELECT count(*) AS n, sum(hashtextextended(`+key+`, 0)) AS sum FROM `+t.shape.name.Sanitize()+` t) AS r,
		     (SELECT count(*) AS n, sum(hashtextextended(key, 0)) AS sum, min(version) AS oldest FROM `+t.side+` WHERE NOT deleted) AS v`,
			version).Scan(&none)
	})
	return none, err
}

// eachUnversioned yields the keys of records without a version, and possibly others.
func (t *Target) eachUnversioned(ctx context.Context, key string, yield func([]record.Key) error) error {
	s := t.shape
	names := make([]string, len(s.key))
	for n, i := range s.key {
		names[n] = s.columns[i].output("t.")
	}
	sql := "SELECT " + strings.Join(names, ", ") + " FROM " + s.name.Sanitize() + " t WHERE NOT EXISTS (SELECT FROM " + t.side + " s WHERE s.key = " + key + ")"
	return readWholeTables(ctx, t.pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, sql, textResults)
		if err != nil {
			return err
		}
		defer rows.Close()
		var keys []record.Key
		for rows.Next() {
			key, err := s.keyOf(rows.RawValues())
			if err != nil {
				return err
			}
			if keys = append(keys, key); len(keys) == batchKeys {
				if err := yield(keys); err != nil {
					return err
				}
				keys = nil
			}
		}
		if err := rows.Err(); err != nil || len(keys) == 0 {
			return err
		}
		return yield(keys)
	})
}

// keyOf makes a key from its columns' texts as the server prints them.
func (s *shape) keyOf(raw [][]byte) (record.Key, error) {
	parts := make([]string, len(s.key))
	for n, i := range s.key {
		canonical, err := appendCanonical(nil, s.columns[i].format, raw[n])
		if err != nil {
			return "", err
		}
		parts[n] = string(canonical)
	}
	return record.MakeKey(parts...), nil
}

// keySQL is the SQL of a record's key, which is NULL if a text in it needs escaping;
// prefix precedes the columns. It returns false if there is no cheap expression.
func (s *shape) keySQL(prefix string) (string, bool) {
	parts := make([]string, len(s.key))
	for n, i := range s.key {
		c := s.columns[i]
		name := prefix + quote(c.name)
		if c.base.array || c.base.schema != "pg_catalog" {
			return "", false
		}
		switch c.base.name {
		case "int2", "int4", "int8", "numeric", "uuid", "date":
			parts[n] = name + `::text COLLATE "C"`
		case "text", "varchar":
			parts[n] = "CASE WHEN " + name + ` COLLATE "C" !~ '[,%[:cntrl:]]' THEN ` + name + `::text COLLATE "C" END`
		default:
			return "", false
		}
	}
	return "(" + strings.Join(parts, " || ',' || ") + ")", true
}
