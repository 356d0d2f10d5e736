package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// sequence feeds a column of whole numbers: an identity's own, or one that the column owns or its default reads.
type sequence struct {
	column string
	oid    uint32
	name   string // quoted, with its schema
	down   bool   // it counts down
	may    bool   // this role may set it
}

// sequences returns those of the columns that are moved. Default expressions that name a sequence by a text that they
// compute can't be seen.
func (s *shape) sequences(ctx context.Context, q querier) ([]sequence, error) {
	var moved []string
	for _, c := range s.columns {
		if c.format.kind == record.Int && !c.generated {
			moved = append(moved, c.name)
		}
	}
	if len(moved) == 0 {
		return nil, nil
	}
	rows, err := q.Query(ctx, `SELECT a.attname::text, q.seqrelid, quote_ident(n.nspname) || '.' || quote_ident(c.relname), q.seqincrement < 0, has_sequence_privilege(q.seqrelid, 'UPDATE')
		FROM pg_attribute a
		CROSS JOIN LATERAL (
			SELECT d.objid AS oid FROM pg_depend d
			WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum AND d.deptype IN ('a', 'i')
			UNION
			SELECT d.refobjid FROM pg_attrdef f JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid AND d.refclassid = 'pg_class'::regclass
			WHERE f.adrelid = a.attrelid AND f.adnum = a.attnum
		) s
		JOIN pg_sequence q ON q.seqrelid = s.oid
		JOIN pg_class c ON c.oid = q.seqrelid
		JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE a.attrelid = $1::oid AND a.attname = ANY($2) AND NOT a.attisdropped
		ORDER BY a.attnum, 3`, s.oid, moved)
	if err != nil {
		return nil, fmt.Errorf("read the sequences of %s: %w", showTable(s.name), err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (found sequence, err error) {
		return found, row.Scan(&found.column, &found.oid, &found.name, &found.down, &found.may)
	})
	if err != nil {
		return nil, fmt.Errorf("read the sequences of %s: %w", showTable(s.name), err)
	}
	return list, nil
}

// behind is the condition that the sequence $1 has not given the number $2 yet: also one that was not used yet may
// begin beyond it.
func (q *sequence) behind() string {
	before := "<"
	if q.down {
		before = ">"
	}
	return "seqrelid = $1::oid AND coalesce(pg_sequence_last_value($1::oid::regclass), seqstart - seqincrement) " + before + " $2::int8"
}

// pass moves the sequence past number, unless it is past it already: never back.
func (q *sequence) pass(ctx context.Context, on querier, number int64) (moved bool, err error) {
	moved, err = returnsRow(ctx, on, "SELECT setval($1::oid::regclass, $2::int8) FROM pg_sequence WHERE "+q.behind(), q.oid, number)
	if err != nil {
		return false, fmt.Errorf("move the sequence %s of column %q: %w", q.name, q.column, err)
	}
	return moved, nil
}

// returnsRow reports whether a query returns a row.
func returnsRow(ctx context.Context, on querier, sql string, args ...any) (found bool, err error) {
	rows, err := on.Query(ctx, sql, args...)
	if err != nil {
		return false, err
	}
	for rows.Next() {
		found = true
	}
	return found, rows.Err()
}

// AdvanceNumbers implements store.NumberAdvancer.
func (t *Target) AdvanceNumbers(ctx context.Context) (moved []string, err error) {
	list, err := t.shape.sequences(ctx, t.pool)
	if err != nil {
		return nil, withoutValue(err)
	}
	for _, q := range list {
		most := "max"
		if q.down {
			most = "min"
		}
		var number *int64
		if err := t.pool.QueryRow(ctx, "SELECT "+most+"("+quote(q.column)+")::int8 FROM "+t.shape.name.Sanitize()).Scan(&number); err != nil {
			return moved, fmt.Errorf("read the highest %s of target table %s: %w", q.column, t.table(), withoutValue(err))
		}
		if number == nil {
			continue
		}
		is, err := q.pass(ctx, t.pool, *number)
		switch {
		case err != nil && !q.may && ctx.Err() == nil:
			return moved, fmt.Errorf("target table %s: %w", t.table(), q.lacks(currentUser(ctx, t.pool)))
		case err != nil:
			return moved, withoutValue(err)
		}
		if is {
			moved = append(moved, q.name)
		}
	}
	return moved, nil
}

// numbers has the highest number of each column of legacy's that a sequence feeds, of rows that come back.
type numbers struct {
	list []sequence
	at   []int    // the column's field
	most []*int64 // nil: none came back
}

func (l *Legacy) numbers(ctx context.Context, tx pgx.Tx) (numbers, error) {
	list, err := l.shape.sequences(ctx, tx)
	n := numbers{list: list, at: make([]int, len(list)), most: make([]*int64, len(list))}
	for k, q := range list {
		n.at[k] = l.shape.schema.Index(q.column)
	}
	return n, err
}

func (n *numbers) add(rows []store.Row) {
	for k, q := range n.list {
		for _, row := range rows {
			if !row.Found || row.Record[n.at[k]].State != record.Present {
				continue
			}
			number, err := strconv.ParseInt(row.Record[n.at[k]].Text, 10, 64)
			if err == nil && (n.most[k] == nil || q.down == (number < *n.most[k])) {
				n.most[k] = &number
			}
		}
	}
}

// pass moves the sequences past the numbers, or legacy's next insert would collide with one of them.
func (n *numbers) pass(ctx context.Context, tx pgx.Tx) error {
	for k, q := range n.list {
		if n.most[k] == nil {
			continue
		}
		if _, err := q.pass(ctx, tx, *n.most[k]); err != nil {
			return err
		}
	}
	return nil
}

// rehearse returns an error if this role can't move a sequence that is behind. It moves none: no transaction takes that
// back.
func (n *numbers) rehearse(ctx context.Context, tx pgx.Tx, user string) error {
	for k, q := range n.list {
		if n.most[k] == nil || q.may {
			continue
		}
		is, err := returnsRow(ctx, tx, "SELECT FROM pg_sequence WHERE "+q.behind(), q.oid, *n.most[k])
		if err == nil && !is {
			continue
		}
		return q.lacks(user)
	}
	return nil
}

// lacks is the error of a role that may not move a sequence that is behind.
func (q *sequence) lacks(user string) error {
	return hint.Errorf(hint.Hint{Text: "as the owner of the sequence: GRANT UPDATE ON SEQUENCE " + q.name + " TO " + user},
		"the sequence %s of column %q is behind the records' numbers, and %s may not move it", q.name, q.column, user)
}

// checkSequences looks whether this role may move the sequences.
func (f *findings) checkSequences(ctx context.Context, q querier, s *shape, side, user, risk string) error {
	list, err := s.sequences(ctx, q)
	if err != nil || len(list) == 0 {
		return err
	}
	var lacking, all []string
	for _, q := range list {
		all = append(all, q.name)
		if !q.may {
			lacking = append(lacking, q.name)
		}
	}
	if len(lacking) > 0 {
		f.warn(side+"-sequences", "GRANT UPDATE ON SEQUENCE "+strings.Join(lacking, ", ")+" TO "+user, "%s lacks UPDATE on what feeds columns of %s: %s", user, showTable(s.name), risk)
		return nil
	}
	f.good(side+"-sequences", "%s may move %s", user, strings.Join(all, ", "))
	return nil
}
