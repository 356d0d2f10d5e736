package record

import "math"

// Block is consecutive records in one buffer. Stores pass Blocks where one Record per row
// would cost more than reading it. A Block is reused.
type Block struct {
	Fields int
	data   []byte
	ends   []uint32 // of each cell, row by row; the highest bit marks NULL
}

const (
	nullCell = 1 << 31
	// MaxBlockBytes bounds the values of a Block.
	MaxBlockBytes = math.MaxInt32
)

// Reset empties the block for records with that many fields.
func (b *Block) Reset(fields int) {
	b.Fields, b.data, b.ends = fields, b.data[:0], b.ends[:0]
}

// Rows returns the number of whole records in the block.
func (b *Block) Rows() int {
	if b.Fields == 0 {
		return 0
	}
	return len(b.ends) / b.Fields
}

// Bytes returns the size of all values.
func (b *Block) Bytes() int { return len(b.data) }

// Buffer returns the buffer for a writer, which appends the next cell's canonical text and
// passes the result to Add.
func (b *Block) Buffer() []byte { return b.data }

// Add ends a cell; data is the Buffer with the cell's text appended.
func (b *Block) Add(data []byte) {
	b.data = data
	b.ends = append(b.ends, uint32(len(data)))
}

// AddNull adds a NULL cell.
func (b *Block) AddNull() { b.ends = append(b.ends, uint32(len(b.data))|nullCell) }

// Cell returns one field's canonical text, valid until Reset; false: NULL.
func (b *Block) Cell(row, field int) (text []byte, present bool) {
	at := row*b.Fields + field
	end := b.ends[at]
	if end&nullCell != 0 {
		return nil, false
	}
	from := uint32(0)
	if at > 0 {
		from = b.ends[at-1] &^ nullCell
	}
	return b.data[from:end], true
}

// Record returns a copy of one row.
func (b *Block) Record(row int) Record {
	r := make(Record, b.Fields)
	for i := range r {
		r[i] = NullValue
		if text, ok := b.Cell(row, i); ok {
			r[i] = TextValue(string(text))
		}
	}
	return r
}

// AppendKey appends the bytes of a row's Key; false if a part of it is NULL.
func (s *Schema) AppendKey(dst []byte, b *Block, row int) ([]byte, bool) {
	for i, at := range s.Key {
		part, ok := b.Cell(row, at)
		if !ok {
			return dst, false
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendPart(dst, part)
	}
	return dst, true
}
