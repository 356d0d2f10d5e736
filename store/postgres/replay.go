package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// Replay implements store.Fence: all rows in one transaction. The era of the versions is
// the earliest one that LiftFence can start: they are newer than all writes that the
// target alone accepted, and not newer than legacy's next write.
func (l *Legacy) Replay(ctx context.Context, run store.ReplayRun, rows []store.Row) (store.Replayed, error) {
	var done store.Replayed
	if len(rows) == 0 {
		return done, nil
	}
	// [one-decides]: the fence's row is locked until the commit: the fence can't be lifted
	// during the replay.
	err := l.locked(ctx, tableLockTimeout, "ROW EXCLUSIVE", func(tx pgx.Tx) error {
		if err := l.checkRun(ctx, tx, run); err != nil {
			return err
		}
		w, err := l.replayWriter(ctx, tx, run.Attempt)
		if err != nil {
			return err
		}
		defer w.close(ctx)
		w.keep = true
		if err := w.offer(ctx, rows); err != nil {
			return err
		}
		if err := w.retry(ctx); err != nil {
			return err
		}
		done = w.result(rows)
		given, err := l.numbers(ctx, tx)
		if err != nil {
			return err
		}
		given.add(done.Rows)
		if err := given.pass(ctx, tx); err != nil {
			return err
		}
		return l.comingVersions(ctx, tx, done.Rows)
	})
	if err != nil {
		return store.Replayed{}, fmt.Errorf("write %d keys back to legacy table %s: %w", len(rows), l.table(), withoutValue(err))
	}
	return done, nil
}

// Rehearse implements store.Fence. The transaction locks the rows that it writes, and, like every
// writer, the rows of other tables that they refer to.
func (l *Legacy) Rehearse(ctx context.Context, attempt string, next func() ([]store.Row, error)) ([]store.Refusal, error) {
	var refused []store.Refusal
	err := inTx(ctx, l.pool, pgx.ReadWrite, func(tx pgx.Tx) error {
		if err := setLockTimeout(ctx, tx, rowLockTimeout); err != nil {
			return err
		}
		if err := l.oneRehearsal(ctx, tx); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "LOCK TABLE "+l.shape.name.Sanitize()+" IN ROW EXCLUSIVE MODE"); err != nil {
			return err
		}
		if err := l.checkAttempt(ctx, tx, attempt, ""); err != nil {
			return err
		}
		w, err := l.replayWriter(ctx, tx, attempt)
		if err != nil {
			return err
		}
		defer w.close(ctx)
		given, err := l.numbers(ctx, tx)
		if err != nil {
			return err
		}
		for {
			rows, err := next()
			if err != nil {
				return err
			}
			if len(rows) == 0 {
				break
			}
			given.add(rows)
			if err := w.offer(ctx, rows); err != nil {
				return err
			}
		}
		if err := w.retry(ctx); err != nil {
			return err
		}
		if err := given.rehearse(ctx, tx, currentUser(ctx, l.pool)); err != nil {
			return err
		}
		refused = w.refusals()
		return errRehearsed
	})
	if err != nil && !errors.Is(err, errRehearsed) {
		return nil, fmt.Errorf("rehearse the return to legacy table %s: %w", l.table(), l.explainLock(ctx, asNotInstalled(withoutValue(err))))
	}
	return refused, nil
}

// errRehearsed rolls back what was only rehearsed.
var errRehearsed = errors.New("rehearsed")

// oneRehearsal refuses a second rehearsal: each would wait for the rows of the other.
func (l *Legacy) oneRehearsal(ctx context.Context, tx pgx.Tx) error {
	var alone bool
	if err := tx.QueryRow(ctx, "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 1))", advisoryName(l.name)).Scan(&alone); err != nil {
		return err
	}
	if !alone {
		return hint.Errorf(hint.Hint{Do: hint.Retry, Text: "once the other one has ended"}, "%w: another rehearsal of the return is under way", errBusy)
	}
	return nil
}

// upsertSQL returns the statement, and the fields of its parameters.
func (l *Legacy) upsertSQL() (sql string, written []int) {
	s, table := l.shape, l.shape.name.Sanitize()
	var columns, params, set, where []string
	for i, c := range s.columns {
		if c.generated {
			continue
		}
		written = append(written, i)
		param := c.parameter(len(written))
		columns, params = append(columns, quote(c.name)), append(params, param)
		key := slices.Contains(s.key, i)
		if key {
			where = append(where, "t."+quote(c.name)+" = "+param)
		}
		if (s.looseKey || !key) && c.identity != "a" {
			set = append(set, quote(c.name)+" = "+param)
		}
	}
	if len(set) == 0 { // without SET nothing is returned for an existing row
		key := quote(s.columns[s.key[0]].name)
		set = []string{key + " = t." + key}
	}
	// No ON CONFLICT: its INSERT must form a whole row, and fails on a column that is not moved, must
	// not be null and has no default, though the row is there. No other program writes: the fence stands.
	found := " WHERE " + strings.Join(where, " AND ")
	return "WITH there AS (UPDATE " + table + " AS t SET " + strings.Join(set, ", ") + found + " RETURNING " + s.list("t.") + "), " +
		"added AS (INSERT INTO " + table + " AS t (" + strings.Join(columns, ", ") + ") OVERRIDING SYSTEM VALUE SELECT " + strings.Join(params, ", ") +
		" WHERE NOT EXISTS (SELECT FROM " + table + " AS t" + found + ") RETURNING " + s.list("t.") + ") " +
		"SELECT * FROM there UNION ALL SELECT * FROM added", written
}

func (l *Legacy) deleteSQL() string {
	s := l.shape
	where, values := make([]string, len(s.key)), make([]string, len(s.key))
	for n, i := range s.key {
		values[n] = s.columns[i].parameter(n + 1)
		where[n] = "t." + quote(s.columns[i].name) + " = " + values[n]
	}
	return "DELETE FROM " + s.name.Sanitize() + " AS t WHERE " + strings.Join(where, " AND ") + s.sameText(values) + " RETURNING " + s.list("t.")
}

func (s *shape) keyList() string { return quoteList(s.keyNames()) }

func (s *shape) keyNames() []string {
	names := make([]string, len(s.key))
	for n, i := range s.key {
		names[n] = s.columns[i].name
	}
	return names
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
