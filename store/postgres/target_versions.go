package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

var _ store.VersionLister = (*Target)(nil)

// Versions implements store.VersionLister. A record and its version change in one
// transaction, so in the snapshot of one statement their numbers agree. Only if they
// don't are the records without a version searched.
func (t *Target) Versions(ctx context.Context, known func(record.Key) (record.Version, error), yield func([]record.Key) error) (int64, error) {
	records, err := t.versions(ctx, known, yield)
	if err != nil {
		err = fmt.Errorf("read the versions of target table %s: %w", t.table(), asUnprepared(withoutValue(err)))
	}
	return records, err
}

func (t *Target) versions(ctx context.Context, known func(record.Key) (record.Version, error), yield func([]record.Key) error) (int64, error) {
	column, ok := t.shape.keyColumn()
	if !ok {
		return 0, errors.New("the key is no integer")
	}
	key, table := "t."+quote(column.name)+"::text", t.shape.name.Sanitize()
	var records int64
	var agree bool
	var newest *string
	err := readWholeTables(ctx, t.pool, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `
		SELECT r.n, r.n = v.n AND r.sum IS NOT DISTINCT FROM v.sum, v.newest
		FROM (SELECT count(*) AS n, sum(hashtextextended(`+key+`, 0)) AS sum FROM `+table+` t) AS r,
		     (SELECT count(*) AS n, sum(hashtextextended(key, 0)) AS sum, max(version) AS newest FROM `+t.side+` WHERE NOT deleted) AS v`).
			Scan(&records, &agree, &newest)
	})
	if err != nil {
		return 0, err
	}
	if !agree {
		if err := t.eachKey(ctx, yield, "SELECT "+key+" FROM "+table+" t WHERE NOT EXISTS (SELECT FROM "+t.side+" s WHERE s.key = "+key+" AND NOT s.deleted)"); err != nil {
			return 0, err
		}
	}
	if newest == nil {
		return records, nil
	}
	var holder string
	err = t.pool.QueryRow(ctx, "SELECT key FROM "+t.side+" WHERE NOT deleted AND version = $1 LIMIT 1", *newest).Scan(&holder)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) { // the key has a newer version by now
		return 0, err
	}
	version, err := record.ParseVersion(*newest)
	if err != nil {
		return 0, err
	}
	high, err := known(record.Key(holder))
	if err != nil || !version.NewerThan(high) {
		return records, err
	}
	return records, t.eachKey(ctx, yield, "SELECT key FROM "+t.side+" WHERE NOT deleted AND version > $1", string(high.AppendText32(nil)))
}

// eachKey yields the keys that a query returns, in batches.
func (t *Target) eachKey(ctx context.Context, yield func([]record.Key) error, sql string, args ...any) error {
	return readWholeTables(ctx, t.pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		var keys []record.Key
		for rows.Next() {
			var key string
			if err := rows.Scan(&key); err != nil {
				return err
			}
			if keys = append(keys, t.fromSide(key)); len(keys) == batchKeys {
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
