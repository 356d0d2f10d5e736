package redis

import (
	"unsafe"

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

// at is a row whose texts lie in the block; it is valid until the next call.
func (b *blockRows) at(row int) record.Record {
	for f := range b.row {
		b.set(row, f)
	}
	return b.row
}

// only is at for these fields; what the row has in others means nothing.
func (b *blockRows) only(row int, fields []int) record.Record {
	for _, f := range fields {
		b.set(row, f)
	}
	return b.row
}

func (b *blockRows) set(row, field int) {
	b.row[field] = record.NullValue
	if text, present := b.block.Cell(row, field); present {
		b.row[field] = record.TextValue(unsafe.String(unsafe.SliceData(text), len(text))) //nolint:gosec // until the block is given back
	}
}
