package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// setAsideSQL is the table of rows that legacy refused. It is in legacy's database, since the
// state database has no records' values, and only its owner may read it. The record is of type
// json, which keeps any text.
const setAsideSQL = `
CREATE TABLE IF NOT EXISTS migrator_legacy.set_aside (
	name text NOT NULL,
	attempt text NOT NULL,
	key bytea NOT NULL,
	deleted boolean NOT NULL,
	record json,
	code text NOT NULL,
	constraint_name text NOT NULL,
	column_name text NOT NULL,
	table_name text NOT NULL,
	set_aside_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	PRIMARY KEY (name, attempt, key)
);
COMMENT ON TABLE migrator_legacy.set_aside IS 'records of retain that a rollback left here, because the table refused them';
COMMENT ON COLUMN migrator_legacy.set_aside.record IS 'the texts of its columns; {"hex": ...} for one that is not valid UTF-8';
`

// SetAside implements store.Fence.
func (l *Legacy) SetAside(ctx context.Context, run store.ReplayRun, rows []store.Row, refused []store.Refusal) ([]store.Row, error) {
	why := make(map[record.Key]store.Refusal, len(refused))
	for _, r := range refused {
		why[r.Key] = r
	}
	keys := make([]record.Key, len(rows))
	for i, row := range rows {
		keys[i] = row.Key
	}
	have := unfound(keys)
	err := l.locked(ctx, tableLockTimeout, "ROW EXCLUSIVE", func(tx pgx.Tx) error {
		if err := l.checkRun(ctx, tx, run); err != nil {
			return err
		}
		var batch pgx.Batch
		for _, row := range rows {
			var doc []byte
			if row.Found {
				var err error
				if doc, err = l.recordJSON(row.Record); err != nil {
					return err
				}
			}
			r := why[row.Key]
			batch.Queue(`INSERT INTO migrator_legacy.set_aside (name, attempt, key, deleted, record, code, constraint_name, column_name, table_name)
				VALUES ($1, $2, $3, $4, $5::text::json, $6, $7, $8, $9)
				ON CONFLICT (name, attempt, key) DO UPDATE SET deleted = excluded.deleted, record = excluded.record, code = excluded.code,
					constraint_name = excluded.constraint_name, column_name = excluded.column_name, table_name = excluded.table_name, set_aside_at = excluded.set_aside_at`,
				l.name, run.Attempt, []byte(row.Key), !row.Found, jsonText(doc), r.Code, r.Constraint, r.Column, r.Table)
		}
		if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
			return err
		}
		err := l.shape.inBatches(ctx, tx, keys, func(at []int) error { return l.shape.lookup(ctx, tx, have, keys, at) })
		if err != nil {
			return err
		}
		return l.comingVersions(ctx, tx, have)
	})
	if err != nil {
		return nil, fmt.Errorf("set aside %d records of legacy table %s: %w", len(rows), l.table(), withoutValue(err))
	}
	return have, nil
}

func jsonText(doc []byte) *string {
	if doc == nil {
		return nil
	}
	s := string(doc)
	return &s
}

// recordJSON is an object of the fields' texts.
func (l *Legacy) recordJSON(r record.Record) ([]byte, error) {
	doc := map[string]any{}
	for i, f := range l.shape.schema.Fields {
		switch {
		case i >= len(r) || r[i].State == record.Missing:
		case r[i].State != record.Present:
			doc[f.Name] = nil
		case !utf8.ValidString(r[i].Text):
			doc[f.Name] = map[string]string{"hex": fmt.Sprintf("%x", r[i].Text)}
		default:
			doc[f.Name] = r[i].Text
		}
	}
	return json.Marshal(doc)
}
