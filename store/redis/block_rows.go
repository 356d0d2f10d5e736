package redis

import (
	"context"
	"unsafe"

	goredis "github.com/redis/go-redis/v9"

	"github.com/stranglerfig/migrator/record"
)

// blockRows reads a block's rows one by one, without copying them.
type blockRows struct {
	block *record.Block
	row   record.Record
}

func rowsOf(b *record.Block) blockRows {
	return blockRows{block: b, row: make(record.Record, b.Fields)}
}

// at returns a row whose texts are slices of the block. It is valid until the next call.
func (b *blockRows) at(row int) record.Record {
	for f := range b.row {
		b.set(row, f)
	}
	return b.row
}

// only is at for some fields; the row's other fields are undefined.
func (b *blockRows) only(row int, fields []int) record.Record {
	for _, f := range fields {
		b.set(row, f)
	}
	return b.row
}

func (b *blockRows) set(row, field int) {
	b.row[field] = record.NullValue
	if text, present := b.block.Cell(row, field); present {
		b.row[field] = record.TextValue(unsafe.String(unsafe.SliceData(text), len(text))) //nolint:gosec // valid until the block is returned
	}
}

// shares groups the rows by the master that owns their slot. A server refuses keys of
// a slot that is moving; these rows are left to Get and Apply.
func (t *Target) shares(ctx context.Context, b *record.Block) (map[*goredis.Client][]int32, error) {
	shares := map[*goredis.Client][]int32{}
	var name []byte
	rows, ok := rowsOf(b), false
	single, _ := t.client.(*goredis.Client)
	for i := range b.Rows() {
		client := single
		if t.cluster != nil {
			if name, ok = t.template.appendName(name[:0], t.schema, rows.only(i, t.schema.Key)); !ok {
				continue
			}
			var err error
			if client, err = t.cluster.MasterForKey(ctx, string(name)); err != nil {
				return nil, contextError(ctx, err)
			}
		}
		shares[client] = append(shares[client], int32(i))
	}
	return shares, nil
}
