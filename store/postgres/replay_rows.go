package postgres

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// replayWriter writes rows to legacy inside one transaction, each group of rows in a savepoint.
// Constraints that can be deferred are, until the end of a group. A row that legacy refuses is
// kept for retry: another row may be in its way only for now, such as one that gives up a unique
// name.
type replayWriter struct {
	l       *Legacy
	tx      pgx.Tx
	conn    *pgconn.PgConn
	upsert  *pgconn.StatementDescription
	remove  *pgconn.StatementDescription
	written []int       // the fields of upsert's parameters
	keep    bool        // taken
	taken   []store.Row // as legacy stored them
	refused []refusedRow
	more    []store.Refusal // of rows that are not kept
}

type refusedRow struct {
	row store.Row
	why store.Refusal
}

const (
	// replayGroup bounds the rows of one savepoint.
	replayGroup = 500
	// keptRefused bounds the rows that are kept for another try.
	keptRefused = 20_000
	// exchanged bounds the rows that are deleted and inserted again together.
	exchanged = 1000
)

// replayWriter prepares a transaction that the attempt's fence lets through.
func (l *Legacy) replayWriter(ctx context.Context, tx pgx.Tx, attempt string) (*replayWriter, error) {
	if _, err := tx.Exec(ctx, "SELECT set_config('migrator.attempt', $1, true)", attempt); err != nil {
		return nil, err
	}
	if _, err := tx.Exec(ctx, "SET CONSTRAINTS ALL DEFERRED"); err != nil {
		return nil, err
	}
	w := &replayWriter{l: l, tx: tx, conn: tx.Conn().PgConn()}
	var upsert string
	upsert, w.written = l.upsertSQL()
	var err error
	// The parameters have the types of the columns, so the server reads each text as it prints it.
	if w.upsert, err = w.conn.Prepare(ctx, "migrator_replay_upsert", upsert, nil); err != nil {
		return nil, err
	}
	if w.remove, err = w.conn.Prepare(ctx, "migrator_replay_delete", l.deleteSQL(), nil); err != nil {
		w.close(ctx)
		return nil, err
	}
	return w, nil
}

// close forgets the prepared statements: the pool keeps the connection.
func (w *replayWriter) close(ctx context.Context) {
	for _, s := range []*pgconn.StatementDescription{w.upsert, w.remove} {
		if s != nil && !w.conn.IsClosed() {
			_ = w.conn.Deallocate(context.WithoutCancel(ctx), s.Name)
		}
	}
}

// offer writes the rows that legacy takes, and keeps the others. Deletes come first: they make
// room.
func (w *replayWriter) offer(ctx context.Context, rows []store.Row) error {
	ordered := slices.Clone(rows)
	slices.SortStableFunc(ordered, func(a, b store.Row) int { return order(a.Found) - order(b.Found) })
	refused, err := w.write(ctx, ordered)
	if err != nil {
		return err
	}
	for _, r := range refused {
		if len(w.refused) >= keptRefused {
			w.more = append(w.more, r.why)
			continue
		}
		w.refused = append(w.refused, r)
	}
	return nil
}

func order(found bool) int {
	if found {
		return 1
	}
	return 0
}

// retry offers the refused rows again, in rounds, until a round makes no progress. Each round
// finds room that the one before has made.
func (w *replayWriter) retry(ctx context.Context) error {
	for len(w.refused) > 0 {
		left := len(w.refused)
		var next []refusedRow
		for group := range slices.Chunk(w.refused, replayGroup) {
			rows := make([]store.Row, len(group))
			for i, r := range group {
				rows[i] = r.row
			}
			refused, err := w.write(ctx, rows)
			if err != nil {
				return err
			}
			next = append(next, refused...)
		}
		w.refused = next
		if len(w.refused) == left {
			if err := w.exchange(ctx); err != nil {
				return err
			}
		}
		if len(w.refused) == left {
			return nil
		}
	}
	return nil
}

// write writes groups of rows, and returns those that legacy refuses.
func (w *replayWriter) write(ctx context.Context, rows []store.Row) ([]refusedRow, error) {
	var refused []refusedRow
	for group := range slices.Chunk(rows, replayGroup) {
		r, err := w.halve(ctx, group)
		if err != nil {
			return nil, err
		}
		refused = append(refused, r...)
	}
	return refused, nil
}

// halve writes a group, and where legacy refuses it each half, until a refused row is alone.
func (w *replayWriter) halve(ctx context.Context, rows []store.Row) ([]refusedRow, error) {
	why, err := w.group(ctx, rows)
	switch {
	case err != nil:
		return nil, err
	case why == nil:
		return nil, nil
	case len(rows) == 1:
		why.Key = rows[0].Key
		return []refusedRow{{rows[0], *why}}, nil
	}
	first, err := w.halve(ctx, rows[:len(rows)/2])
	if err != nil {
		return nil, err
	}
	second, err := w.halve(ctx, rows[len(rows)/2:])
	return append(first, second...), err
}

// group writes all rows or none. why is set if legacy refuses one.
func (w *replayWriter) group(ctx context.Context, rows []store.Row) (why *store.Refusal, err error) {
	var back []store.Row
	why, err = w.savepoint(ctx, func() error {
		var batch pgconn.Batch
		for _, row := range rows {
			if err := w.add(&batch, row); err != nil {
				return err
			}
		}
		if back, err = w.send(ctx, &batch, rows); err != nil {
			return err
		}
		return w.checkDeferred(ctx)
	})
	if why == nil && err == nil {
		w.take(back)
	}
	return why, err
}

func (w *replayWriter) take(back []store.Row) {
	if w.keep {
		w.taken = append(w.taken, back...)
	}
}

// checkDeferred checks the constraints that were deferred so far.
func (w *replayWriter) checkDeferred(ctx context.Context) error {
	_, err := w.conn.Exec(ctx, "SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED").ReadAll()
	return err
}

// savepoint undoes what do has written if legacy refuses it.
func (w *replayWriter) savepoint(ctx context.Context, do func() error) (*store.Refusal, error) {
	if _, err := w.conn.Exec(ctx, "SAVEPOINT migrator_replay").ReadAll(); err != nil {
		return nil, err
	}
	failed := do()
	if failed == nil {
		_, err := w.conn.Exec(ctx, "RELEASE SAVEPOINT migrator_replay").ReadAll()
		return nil, err
	}
	why, ok := refusalOf(failed)
	if !ok {
		return nil, failed
	}
	_, err := w.conn.Exec(ctx, "ROLLBACK TO SAVEPOINT migrator_replay; RELEASE SAVEPOINT migrator_replay").ReadAll()
	return &why, err
}

// unfit is a row that can't be sent: a key or a value that has not the form of its column.
type unfit struct{ why store.Refusal }

func (unfit) Error() string { return "a row does not fit the table" }

var errSuppressed = unfit{}

// invalidText is the SQLSTATE of a text that is no value of its type.
const invalidText = "22P02"

// tooLarge is the SQLSTATE of a row, or a value of an index, that is larger than a page takes.
const tooLarge = "54000"

func (w *replayWriter) add(batch *pgconn.Batch, row store.Row) error {
	s := w.l.shape
	if !row.Found {
		texts, ok := s.keyTexts(row.Key)
		if !ok {
			return unfit{store.Refusal{Code: invalidText}}
		}
		params := make([][]byte, len(texts))
		for i, text := range texts {
			params[i] = []byte(text)
		}
		batch.ExecPrepared(w.remove.Name, params, nil, nil)
		return nil
	}
	params := make([][]byte, len(w.written))
	for n, i := range w.written {
		if i >= len(row.Record) || row.Record[i].State != record.Present {
			continue
		}
		text, err := fromCanonical(s.columns[i].format, row.Record[i].Text)
		if err != nil {
			return unfit{store.Refusal{Code: invalidText, Column: s.columns[i].name}}
		}
		params[n] = []byte(text)
	}
	batch.ExecPrepared(w.upsert.Name, params, nil, nil)
	return nil
}

// send returns the rows as legacy stored them.
func (w *replayWriter) send(ctx context.Context, batch *pgconn.Batch, rows []store.Row) ([]store.Row, error) {
	results := w.conn.ExecBatch(ctx, batch)
	d := w.l.shape.decoder()
	back := make([]store.Row, len(rows))
	var unread error
	for at := 0; results.NextResult() && at < len(rows); at++ {
		back[at] = store.Row{Key: rows[at].Key}
		r := results.ResultReader()
		for r.NextRow() {
			row, err := d.row(r.Values())
			if err != nil {
				unread = err
			} else if rows[at].Found {
				back[at].Found, back[at].Record = true, row.Record.Clone()
			}
		}
		_, _ = r.Close() // results.Close returns its error
	}
	if err := results.Close(); err != nil {
		return nil, err
	}
	if unread != nil {
		return nil, unread
	}
	for i := range rows {
		// [return-all]: a key whose write a trigger suppressed is not replayed.
		if back[i].Found != rows[i].Found {
			return nil, errSuppressed
		}
	}
	return back, nil
}

// refusalOf reports whether an error concerns the rows that were written, and not the server or
// the connection.
func refusalOf(err error) (store.Refusal, bool) {
	var own unfit
	if errors.As(err, &own) {
		return own.why, true
	}
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || len(pg.Code) != 5 {
		return store.Refusal{}, false
	}
	if pg.Code == tooLarge || ofARow(err) {
		return store.Refusal{Code: pg.Code, Constraint: pg.ConstraintName, Column: pg.ColumnName, Table: pg.TableName}, true
	}
	switch pg.Code[:2] {
	// The server, the connection, a lock, a privilege, a program that is wrong. Everything else is
	// an integrity constraint, a value, or an exception of a trigger, which may have any SQLSTATE.
	case "08", "0A", "25", "26", "28", "3D", "3F", "40", "42", "53", "54", "55", "57", "58", "F0", "HV", "XX":
		return store.Refusal{}, false
	}
	return store.Refusal{Code: pg.Code, Constraint: pg.ConstraintName, Column: pg.ColumnName, Table: pg.TableName}, true
}

// exchange deletes the rows that are refused because of a unique value, and inserts them again:
// two rows may have exchanged it. It changes nothing where a delete reaches further than the row.
func (w *replayWriter) exchange(ctx context.Context) error {
	var group []int
	for i, r := range w.refused {
		if r.row.Found && (r.why.Code == stateUnique || r.why.Code == stateExclusion) {
			group = append(group, i)
		}
	}
	if len(group) < 2 || len(group) > exchanged {
		return nil
	}
	alone, err := w.l.deletesAlone(ctx, w.tx)
	if err != nil || !alone {
		return err
	}
	for len(group) > 1 {
		var back []store.Row
		var stay []int
		why, err := w.savepoint(ctx, func() (err error) {
			back, stay, err = w.reinsert(ctx, group)
			return err
		})
		switch {
		case err != nil:
			return err
		case why == nil:
			w.take(back)
			for _, i := range slices.Backward(group) {
				w.refused = slices.Delete(w.refused, i, i+1)
			}
			return nil
		case len(stay) == len(group) || len(stay) == 0:
			return nil
		}
		group = stay
	}
	return nil
}

var errNotAll = unfit{store.Refusal{Code: stateUnique}}

// reinsert deletes all rows of the group, then inserts each. stay are those that legacy takes.
func (w *replayWriter) reinsert(ctx context.Context, group []int) (back []store.Row, stay []int, err error) {
	one := func(row store.Row) (taken []store.Row, why *store.Refusal, err error) {
		why, err = w.savepoint(ctx, func() error {
			var batch pgconn.Batch
			if err := w.add(&batch, row); err != nil {
				return err
			}
			taken, err = w.send(ctx, &batch, []store.Row{row})
			return err
		})
		return taken, why, err
	}
	var gone []int
	for _, i := range group {
		_, why, err := one(store.Row{Key: w.refused[i].row.Key})
		if err != nil {
			return nil, nil, err
		}
		if why == nil {
			gone = append(gone, i)
		}
	}
	for _, i := range gone {
		taken, why, err := one(w.refused[i].row)
		if err != nil {
			return nil, nil, err
		}
		if why == nil {
			back, stay = append(back, taken...), append(stay, i)
		}
	}
	if len(stay) < len(group) {
		return nil, stay, errNotAll
	}
	return back, stay, w.checkDeferred(ctx)
}

// deletesAlone reports whether a row can be deleted and inserted again within a transaction so
// that nothing else changes: no foreign key cascades, no trigger of the table acts on it, and no
// column is there that the migration does not move.
func (l *Legacy) deletesAlone(ctx context.Context, tx pgx.Tx) (alone bool, err error) {
	moved := make([]string, len(l.shape.columns))
	for i, c := range l.shape.columns {
		moved[i] = c.name
	}
	err = tx.QueryRow(ctx, `
		WITH tree AS (SELECT $1::oid AS oid UNION SELECT relid::oid FROM pg_partition_tree($1::oid::regclass))
		SELECT NOT EXISTS (SELECT FROM pg_constraint k JOIN tree ON k.confrelid = tree.oid
				WHERE k.contype = 'f' AND k.confdeltype NOT IN ('a', 'r'))
		   AND NOT EXISTS (SELECT FROM pg_trigger t JOIN tree ON t.tgrelid = tree.oid
				WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' AND t.tgtype & 12 <> 0 AND NOT starts_with(t.tgname::text, $2))
		   AND NOT EXISTS (SELECT FROM pg_rewrite r JOIN tree ON r.ev_class = tree.oid WHERE r.ev_type = '4')
		   AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped
				AND a.attgenerated = '' AND a.attname::text <> ALL ($3::text[]))`,
		l.shape.oid, fencePrefix, moved).Scan(&alone)
	return alone, err
}

// refusals are those of all rows that legacy has not taken, in the order of their keys.
func (w *replayWriter) refusals() []store.Refusal {
	all := slices.Clone(w.more)
	for _, r := range w.refused {
		all = append(all, r.why)
	}
	slices.SortFunc(all, func(a, b store.Refusal) int {
		if a.Key < b.Key {
			return -1
		}
		return 1
	})
	return all
}

// result brings what was taken into the order of the rows offered.
func (w *replayWriter) result(rows []store.Row) store.Replayed {
	at := make(map[record.Key]int, len(rows))
	for i, row := range rows {
		at[row.Key] = i
	}
	slices.SortFunc(w.taken, func(a, b store.Row) int { return at[a.Key] - at[b.Key] })
	return store.Replayed{Rows: w.taken, Refused: w.refusals()}
}
