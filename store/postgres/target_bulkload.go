package postgres

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

var _ store.BulkLoader = (*Target)(nil)

// CanBulkLoad implements store.BulkLoader. COPY does not support row-level security,
// reads "char" differently than a cast does, and can't replace a row of an equal key.
func (t *Target) CanBulkLoad() bool {
	return !t.shape.table.policies && !t.shape.looseKey && !slices.ContainsFunc(t.shape.columns, func(c *column) bool {
		return c.isBuiltIn("char")
	})
}

// BulkLoad implements store.BulkLoader: one COPY of the versions and one of the records,
// in one transaction. It is all or nothing: an existing row makes the server refuse
// both. If the block before was all new, this one probably is too, and BulkLoad writes
// it without a check; else it first reads which rows are new.
func (t *Target) BulkLoad(ctx context.Context, f store.BulkWrite, written []bool) error {
	clear(written)
	rows := t.keyed(f.Block)
	asks := !t.expectNew.Load()
	var err error
	if !asks {
		err = t.copyIn(ctx, f, rows)
		// [backfill-newer]: a key that is known makes the server refuse the whole block.
		asks = hasState(err, stateUnique)
	}
	if asks {
		all := len(rows)
		rows, err = t.unknown(ctx, rows)
		t.expectNew.Store(err == nil && len(rows) == all)
		if err == nil {
			err = t.copyIn(ctx, f, rows)
		}
	}
	if isLate(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("bulk load target table %s: %w", t.table(), asUnprepared(err))
	}
	for _, n := range rows {
		written[n.row] = true
	}
	return nil
}

// loadRow is a row of a block that is to be written.
type loadRow struct {
	row int
	key string
}

// keyed returns a block's rows in the order of their keys, in which all transactions
// lock them; each key once.
func (t *Target) keyed(b *record.Block) []loadRow {
	var keys []byte
	rows, ends := make([]loadRow, 0, b.Rows()), make([]int, 0, b.Rows())
	for i := range b.Rows() {
		longer, ok := t.shape.schema.AppendKey(keys, b, i)
		if ok {
			keys = longer
			rows, ends = append(rows, loadRow{row: i}), append(ends, len(keys))
		}
	}
	all, from := string(keys), 0
	for n, end := range ends {
		rows[n].key, from = all[from:end], end
	}
	slices.SortFunc(rows, func(a, b loadRow) int { return strings.Compare(t.sideKey(a.key), t.sideKey(b.key)) })
	return slices.CompactFunc(rows, func(a, b loadRow) bool { return a.key == b.key })
}

// unknown returns the rows that have neither a record nor a version.
func (t *Target) unknown(ctx context.Context, rows []loadRow) ([]loadRow, error) {
	keys, all := make([]record.Key, len(rows)), make([]int, len(rows))
	for n := range rows {
		keys[n], all[n] = record.Key(rows[n].key), n
	}
	q := t.shape.keyQuery(keys, all, t.sideKey)
	known := make([]bool, len(q.at))
	p := &pipeline{}
	p.add(func(v [][]byte) error {
		n, err := q.place(v[0])
		if err == nil {
			known[n] = true
		}
		return err
	}, `SELECT u.ordinal FROM `+q.from+` LEFT JOIN `+t.side+` s ON s.key = u.key LEFT JOIN `+t.shape.name.Sanitize()+` t ON `+q.on+`
		WHERE s.key IS NOT NULL OR `+t.shape.columns[t.shape.key[0]].present("t."), q.args...)
	conn, err := t.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	if err := p.send(ctx, conn.Conn().PgConn()); err != nil {
		return nil, err
	}
	var fresh []loadRow
	for n, at := range q.at {
		if !known[n] {
			fresh = append(fresh, rows[at])
		}
	}
	return fresh, nil
}

// copyBuffers are the data of both COPYs of a block, reused for the next block.
type copyBuffers struct{ versions, records []byte }

var copyBufferPool = sync.Pool{New: func() any { return new(copyBuffers) }}

// copyIn writes the versions first: their locks protect the records.
func (t *Target) copyIn(ctx context.Context, f store.BulkWrite, rows []loadRow) error {
	if len(rows) == 0 {
		return nil
	}
	b := copyBufferPool.Get().(*copyBuffers)
	b.versions = t.appendVersions(b.versions[:0], f.Version, rows)
	into, err := t.shape.copyRecords(b, f.Block, rows)
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
	if err := copyAll(ctx, pg, len(rows), b.versions, "COPY "+t.side+" (key, version, deleted) FROM STDIN (FORMAT binary)"); err != nil {
		return err
	}
	if err := copyAll(ctx, pg, len(rows), b.records, into); err != nil {
		return err
	}
	end := &pipeline{}
	// [not-after]: just before the commit, since both COPYs may have waited.
	end.addNotAfter(f.NotAfter)
	end.add(nil, "COMMIT")
	if err := end.send(ctx, pg); err != nil {
		return err
	}
	copyBufferPool.Put(b) // not after an error: a failed COPY may still read them
	return nil
}

func copyAll(ctx context.Context, pg *pgconn.PgConn, rows int, data []byte, sql string) error {
	tag, err := pg.CopyFrom(ctx, bytes.NewReader(data), sql)
	if err == nil && tag.RowsAffected() != int64(rows) { // a trigger of the table suppressed some
		err = fmt.Errorf("the server took %d of %d rows", tag.RowsAffected(), rows)
	}
	return err
}
