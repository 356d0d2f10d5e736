package postgres

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/stranglerfig/migrator/record"
)

var _ record.Filler = (*Target)(nil)

// CanFill implements record.Filler. COPY does not pass row-level security, and
// reads "char" in another way than a cast does.
func (t *Target) CanFill() bool {
	return !t.shape.table.policies && !slices.ContainsFunc(t.shape.columns, func(c *column) bool {
		return c.base.schema == "pg_catalog" && c.base.name == "char"
	})
}

// Fill implements record.Filler: one COPY of the versions and one of the records,
// in one transaction. It is all or nothing: a row that somebody else has put there
// meanwhile makes the server refuse both.
func (t *Target) Fill(ctx context.Context, f record.Fill, written []bool) error {
	clear(written)
	fresh, err := t.unknown(ctx, f.Block)
	if err == nil && len(fresh) > 0 {
		err = t.copyIn(ctx, f, fresh)
	}
	if isLate(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("fill target table %s: %w", t.table(), asUnprepared(err))
	}
	for _, n := range fresh {
		written[n.row] = true
	}
	return nil
}

// filled is a row of a block that is to be written.
type filled struct {
	row int
	key string
}

// unknown finds the rows of which there is neither a record nor a version, in the
// order of their keys: in which all transactions lock them.
func (t *Target) unknown(ctx context.Context, b *record.Block) ([]filled, error) {
	var keys []record.Key
	var all, rows []int
	for i := range b.Rows() {
		if key, ok := t.shape.schema.AppendKey(nil, b, i); ok {
			all, rows, keys = append(all, len(all)), append(rows, i), append(keys, record.Key(key))
		}
	}
	q := t.shape.keyQuery(keys, all, true)
	known := make([]bool, len(q.at))
	p := &pipeline{}
	p.add(func(v [][]byte) error {
		n, err := q.place(v[0])
		if err == nil {
			known[n] = true
		}
		return err
	}, `SELECT u.ordinal FROM `+q.from+` LEFT JOIN `+t.side+` s ON s.key = u.key LEFT JOIN `+t.shape.name.Sanitize()+` t ON `+q.on+`
		WHERE s.key IS NOT NULL OR t.`+quote(t.shape.columns[t.shape.key[0]].name)+` IS NOT NULL`, q.args...)
	conn, err := t.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	if err := p.send(ctx, conn.Conn().PgConn()); err != nil {
		return nil, err
	}
	var fresh []filled
	for n, at := range q.at {
		if !known[n] {
			fresh = append(fresh, filled{row: rows[at], key: string(keys[at])})
		}
	}
	slices.SortFunc(fresh, func(a, b filled) int { return strings.Compare(a.key, b.key) })
	return slices.CompactFunc(fresh, func(a, b filled) bool { return a.key == b.key }), nil
}

// copyIn writes the versions first: who holds those holds the records.
func (t *Target) copyIn(ctx context.Context, f record.Fill, fresh []filled) error {
	versions, records, list, err := t.copyTexts(f, fresh)
	if err != nil {
		return err
	}
	conn, err := t.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	pg := conn.Conn().PgConn()
	defer func() { rollBack(ctx, pg) }()
	begin := newPipeline("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
	begin.add(nil, "SELECT set_config('lock_timeout', $1, true)", milliseconds(rowLockTimeout))
	if err := begin.send(ctx, pg); err != nil {
		return err
	}
	if err := copyAll(ctx, pg, len(fresh), versions, "COPY "+t.side+" (key, version, deleted) FROM STDIN"); err != nil {
		return err
	}
	if err := copyAll(ctx, pg, len(fresh), records, "COPY "+t.shape.name.Sanitize()+" ("+list+") FROM STDIN"); err != nil {
		return err
	}
	end := &pipeline{}
	end.addNotAfter(f.NotAfter)
	end.add(nil, "COMMIT")
	return end.send(ctx, pg)
}

func copyAll(ctx context.Context, pg *pgconn.PgConn, rows int, data []byte, sql string) error {
	tag, err := pg.CopyFrom(ctx, bytes.NewReader(data), sql)
	if err == nil && tag.RowsAffected() != int64(rows) { // a trigger of the table's left some out
		err = fmt.Errorf("the server took %d of %d rows", tag.RowsAffected(), rows)
	}
	return err
}

// copyTexts are the lines of both COPYs, and the columns of the second one.
func (t *Target) copyTexts(f record.Fill, fresh []filled) (versions, records []byte, list string, err error) {
	var columns []string
	for _, c := range t.shape.columns {
		if !c.generated {
			columns = append(columns, quote(c.name))
		}
	}
	version := f.Version.AppendText32(nil)
	for _, n := range fresh {
		versions = append(appendCopy(versions, n.key), '\t')
		versions = append(append(versions, version...), "\tf\n"...)
		for i, c := range t.shape.columns {
			if c.generated {
				continue
			}
			text, present := f.Block.Cell(n.row, i)
			if records, err = appendCell(records, c.format, text, present); err != nil {
				return nil, nil, "", fmt.Errorf("field %q: %w", t.shape.schema.Fields[i].Name, err)
			}
			records = append(records, '\t')
		}
		records[len(records)-1] = '\n'
	}
	return versions, records, strings.Join(columns, ", "), nil
}

// appendCell appends a value as COPY reads it.
func appendCell(dst []byte, f format, text []byte, present bool) ([]byte, error) {
	switch {
	case !present:
		return append(dst, `\N`...), nil
	case f.kind == record.Bytes:
		return hex.AppendEncode(append(dst, `\\x`...), text), nil
	case f.kind == record.Array:
		literal, err := fromCanonical(f, string(text))
		return appendCopy(dst, literal), err
	default:
		return appendCopy(dst, text), nil
	}
}

// appendCopy escapes what COPY's text form gives a meaning.
func appendCopy[T string | []byte](dst []byte, text T) []byte {
	for i := range len(text) {
		switch c := text[i]; c {
		case '\\':
			dst = append(dst, `\\`...)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		default:
			dst = append(dst, c)
		}
	}
	return dst
}
