package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

var (
	_ store.BulkComparer = (*Target)(nil)
	_ store.KeyScanner   = (*Target)(nil)
)

// CanBulkCompare implements store.BulkComparer.
func (t *Target) CanBulkCompare() bool { return true }

// BulkCompare implements store.BulkComparer: one statement for each batch of rows, whose
// results are rendered as legacy's are, and compared in the receive buffer. The key's
// columns are always compared: the server treats 1.0 and 1.00 as one key, and they are
// the keys of two records.
func (t *Target) BulkCompare(ctx context.Context, fields []int, next func() (*record.Block, record.Version, error), done func(*record.Block, []bool) error) error {
	m := t.comparison(fields)
	var same []bool
	for {
		b, high, err := next()
		if err != nil || b == nil {
			return err
		}
		same = append(same[:0], make([]bool, b.Rows())...)
		if err := m.compare(ctx, b, high, same); err != nil {
			return fmt.Errorf("compare %d keys of target table %s: %w", b.Rows(), t.table(), asUnprepared(withoutValue(err)))
		}
		if err := done(b, same); err != nil {
			return err
		}
	}
}

func (m *blockComparison) compare(ctx context.Context, b *record.Block, high record.Version, same []bool) error {
	m.block, m.known = b, record.NewVersionBound(high)
	keys := make([]record.Key, b.Rows())
	for i := range keys {
		key, _ := m.t.shape.schema.AppendKey(nil, b, i) // a key with a NULL names no record
		keys[i] = record.Key(key)
	}
	return m.t.shape.inBatches(ctx, m.t.pool, keys, func(at []int) error { return m.compareBatch(ctx, keys, at, same) })
}

// blockComparison is one call of BulkCompare. It compares one block at a time.
type blockComparison struct {
	t       *Target
	block   *record.Block
	fields  []int
	renders []render            // of fields
	list    string              // what is selected for them
	known   record.VersionBound // of versions that legacy has issued by now
	text    []byte
}

func (t *Target) comparison(fields []int) *blockComparison {
	m := &blockComparison{t: t, fields: slices.Clone(fields)}
	for _, k := range t.shape.key {
		if !slices.Contains(m.fields, k) {
			m.fields = append(m.fields, k)
		}
	}
	list := make([]string, len(m.fields))
	m.renders = make([]render, len(m.fields))
	for n, f := range m.fields {
		var own render
		list[n], own = t.shape.columns[f].binary("t.")
		m.renders[n] = t.shape.columns[f].converted(own)
	}
	m.list = strings.Join(list, ", ")
	return m
}

func (m *blockComparison) compareBatch(ctx context.Context, keys []record.Key, at []int, same []bool) error {
	q := m.t.shape.keyQuery(keys, at, m.t.sideKey)
	if len(q.at) == 0 {
		return nil
	}
	sql := "SELECT u.ordinal, s.version, " + m.list + " FROM " + q.from + " JOIN " + m.t.side + " s ON s.key = u.key AND NOT s.deleted JOIN " +
		m.t.shape.name.Sanitize() + " t ON " + q.on
	rows, err := m.t.pool.Query(ctx, sql, append([]any{pgx.QueryResultFormats{pgx.BinaryFormatCode}}, q.args...)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		raw := rows.RawValues()
		n := binary.BigEndian.Uint64(raw[0])
		if n < 1 || n > uint64(len(q.at)) {
			return fmt.Errorf("the server returned the key number %d of %d", n, len(q.at))
		}
		row := q.at[n-1]
		same[row] = m.known.Includes(raw[1]) && m.equal(row, raw[2:])
	}
	return rows.Err()
}

func (m *blockComparison) equal(row int, raw [][]byte) bool {
	for n, f := range m.fields {
		want, present := m.block.Cell(row, f)
		if present != (raw[n] != nil) {
			return false
		}
		if !present {
			continue
		}
		var err error
		if m.text, err = m.renders[n](m.text[:0], raw[n]); err != nil || !bytes.Equal(m.text, want) {
			return false // Get reports why
		}
	}
	return true
}

// ScanKeys implements store.KeyScanner, in pages by the key's index: it holds no
// snapshot while the caller works.
func (t *Target) ScanKeys(ctx context.Context, yield func(keys []record.Key, unknown []store.Entry) error) error {
	var after []any
	for {
		keys, last, err := t.rowKeys(ctx, after)
		if err != nil {
			return fmt.Errorf("list the keys of target table %s: %w", t.table(), asUnprepared(err))
		}
		if len(keys) == 0 {
			return nil
		}
		if err := yield(keys, nil); err != nil {
			return err
		}
		after = last
	}
}
