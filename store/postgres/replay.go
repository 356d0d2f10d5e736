package postgres

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// Replay implements store.Fence: all rows in one transaction. It returns
// the rows as legacy stored them, after its own triggers. The era of their versions is
// the earliest one that LiftFence can start: they are newer than all writes that the
// target alone accepted, and not newer than legacy's next write.
func (l *Legacy) Replay(ctx context.Context, attempt string, rows []store.Row) ([]store.Row, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	back := make([]store.Row, len(rows))
	// [one-decides]: the fence's row is locked until the commit: the fence can't be lifted
	// during the replay.
	err := l.locked(ctx, tableLockTimeout, "ROW EXCLUSIVE", func(tx pgx.Tx) error {
		f, err := l.fence(ctx, tx, " FOR UPDATE")
		if err != nil {
			return err
		}
		if f.attempt != attempt || attempt == "" {
			return fmt.Errorf("the fence is not of attempt %q but of %q", attempt, f.attempt)
		}
		// [fence-watched]: the row may be there without the triggers: then legacy takes other writes,
		// which the replay would overwrite.
		if gaps, err := l.fenceGaps(ctx, tx, attempt); err != nil {
			return err
		} else if gaps != "" {
			return fmt.Errorf("the fence is not whole: %s", gaps)
		}
		if _, err := tx.Exec(ctx, "SELECT set_config('migrator.attempt', $1, true)", attempt); err != nil {
			return err
		}
		if err := l.replay(ctx, tx.Conn().PgConn(), rows, back); err != nil {
			return err
		}
		if err := l.advanceSequences(ctx, tx, back); err != nil {
			return err
		}
		return l.comingVersions(ctx, tx, back)
	})
	if err != nil {
		return nil, fmt.Errorf("write %d keys back to legacy table %s: %w", len(rows), l.table(), withoutValue(err))
	}
	return back, nil
}

// replay sends one statement for each row. The parameters have the types of
// the columns, so the server reads each text as it prints it.
func (l *Legacy) replay(ctx context.Context, conn *pgconn.PgConn, rows, back []store.Row) error {
	upsert, written := l.upsertSQL()
	remove := l.deleteSQL()
	var batch pgconn.Batch
	for _, row := range rows {
		if !row.Found {
			texts, ok := l.shape.keyTexts(row.Key)
			if !ok {
				return fmt.Errorf("key %q does not fit the table's key", row.Key)
			}
			params := make([][]byte, len(texts))
			for i, text := range texts {
				params[i] = []byte(text)
			}
			batch.ExecParams(remove, params, nil, nil, nil)
			continue
		}
		params := make([][]byte, len(written))
		for n, i := range written {
			if i >= len(row.Record) || row.Record[i].State != record.Present {
				continue
			}
			text, err := fromCanonical(l.shape.columns[i].format, row.Record[i].Text)
			if err != nil {
				return fmt.Errorf("key %q, column %q: %w", row.Key, l.shape.columns[i].name, err)
			}
			params[n] = []byte(text)
		}
		batch.ExecParams(upsert, params, nil, nil, nil)
	}
	results := conn.ExecBatch(ctx, &batch)
	d := l.shape.decoder()
	for at := 0; results.NextResult() && at < len(rows); at++ {
		r := results.ResultReader()
		back[at] = store.Row{Key: rows[at].Key}
		for r.NextRow() {
			row, err := d.row(r.Values())
			if err != nil {
				_ = results.Close()
				return err
			}
			if rows[at].Found {
				back[at].Found, back[at].Record = true, row.Record.Clone()
			}
		}
		if _, err := r.Close(); err != nil {
			_ = results.Close()
			return fmt.Errorf("key %q: %w", rows[at].Key, withoutValue(err))
		}
	}
	if err := results.Close(); err != nil {
		return err
	}
	for i := range rows {
		// [return-all]: a key whose write a trigger suppressed is not replayed: the rollback stops.
		if back[i].Found != rows[i].Found {
			return fmt.Errorf("key %q: a trigger of the table has suppressed the write", rows[i].Key)
		}
	}
	return nil
}

// upsertSQL returns the statement, and the fields of its parameters.
func (l *Legacy) upsertSQL() (sql string, written []int) {
	s := l.shape
	var columns, params, set []string
	for i, c := range s.columns {
		if c.generated {
			continue
		}
		written = append(written, i)
		columns = append(columns, quote(c.name))
		params = append(params, "$"+strconv.Itoa(len(written)))
		if !slices.Contains(s.key, i) && c.identity != "a" {
			set = append(set, quote(c.name)+" = EXCLUDED."+quote(c.name))
		}
	}
	if len(set) == 0 { // without SET nothing is returned for an existing row
		key := quote(s.columns[s.key[0]].name)
		set = []string{key + " = EXCLUDED." + key}
	}
	return "INSERT INTO " + s.name.Sanitize() + " AS t (" + strings.Join(columns, ", ") + ") OVERRIDING SYSTEM VALUE VALUES (" + strings.Join(params, ", ") +
		") ON CONFLICT (" + s.keyList() + ") DO UPDATE SET " + strings.Join(set, ", ") + " RETURNING " + s.list("t."), written
}

func (l *Legacy) deleteSQL() string {
	s := l.shape
	where := make([]string, len(s.key))
	for n, i := range s.key {
		where[n] = quote(s.columns[i].name) + " = $" + strconv.Itoa(n+1)
	}
	return "DELETE FROM " + s.name.Sanitize() + " AS t WHERE " + strings.Join(where, " AND ") + " RETURNING " + s.list("t.")
}

func (s *shape) keyList() string {
	names := make([]string, len(s.key))
	for n, i := range s.key {
		names[n] = s.columns[i].name
	}
	return quoteList(names)
}

// advanceSequences moves serial and identity columns past the replayed numbers, or
// legacy's next insert would collide with one of them.
func (l *Legacy) advanceSequences(ctx context.Context, tx pgx.Tx, back []store.Row) error {
	for i, c := range l.shape.columns {
		if c.format.kind != record.Int {
			continue
		}
		highest := int64(math.MinInt64)
		for _, row := range back {
			if row.Found && row.Record[i].State == record.Present {
				if n, err := strconv.ParseInt(row.Record[i].Text, 10, 64); err == nil {
					highest = max(highest, n)
				}
			}
		}
		if highest < 1 {
			continue
		}
		_, err := tx.Exec(ctx, `SELECT setval(seq, $3) FROM (SELECT pg_get_serial_sequence($1, $2)::regclass AS seq) AS s
			WHERE seq IS NOT NULL AND coalesce(pg_sequence_last_value(seq), 0) < $3`, l.shape.name.Sanitize(), c.name, highest)
		if err != nil {
			return fmt.Errorf("move the sequence of column %q: %w", c.name, err)
		}
	}
	return nil
}

// comingVersions sets the rows' versions, read after the last write, so that they are
// newer than each write.
func (l *Legacy) comingVersions(ctx context.Context, tx pgx.Tx, back []store.Row) error {
	var text string
	if err := tx.QueryRow(ctx, "SELECT "+VersionExpr(l.name)).Scan(&text); err != nil {
		return err
	}
	v, err := record.ParseVersion(text)
	if err != nil {
		return err
	}
	// [return-era]: newer than all writes of retain, and not newer than legacy's next write.
	v = v.InEra(v.Era() + 1)
	column := -1
	if l.version != "" {
		column = l.shape.schema.Index(l.version)
	}
	for i := range back {
		back[i].Version = v
		if l.version == "" {
			continue
		}
		position := uint64(0)
		if column >= 0 && back[i].Found {
			n, err := strconv.ParseInt(back[i].Record[column].Text, 10, 64)
			if err != nil || n < 0 {
				return fmt.Errorf("key %q: its version column holds no version", back[i].Key)
			}
			position = uint64(n)
		}
		back[i].Version = record.MakeVersion(v.Era(), 0, position)
	}
	return nil
}
