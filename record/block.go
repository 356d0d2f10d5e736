package record

import "math"

// Block is consecutive records in one buffer: what stores pass on where a record
// of its own for each row would cost more than the reading. It is reused.
type Block struct {
	Fields int
	data   []byte
	ends   []uint32 // of each cell, row by row; the highest bit says NULL
}

const (
	nullCell = 1 << 31
	// MaxBlockBytes is what a Block holds at most.
	MaxBlockBytes = math.MaxInt32
)

// Reset empties the block for records of so many fields.
func (b *Block) Reset(fields int) {
	b.Fields, b.data, b.ends = fields, b.data[:0], b.ends[:0]
}

// Rows is how many whole records the block holds.
func (b *Block) Rows() int {
	if b.Fields == 0 {
		return 0
	}
	return len(b.ends) / b.Fields
}

// Bytes is how much the values take.
func (b *Block) Bytes() int { return len(b.data) }

// Buffer is for a writer, who appends the next cell's canonical text to it and
// hands the result to Add.
func (b *Block) Buffer() []byte { return b.data }

// Add ends a cell; data is the Buffer, grown.
func (b *Block) Add(data []byte) {
	b.data = data
	b.ends = append(b.ends, uint32(len(data)))
}

// AddNull adds a cell without a value.
func (b *Block) AddNull() { b.ends = append(b.ends, uint32(len(b.data))|nullCell) }

// Cell is one field's canonical text, valid until Reset; false: NULL.
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

// Record copies one row.
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

// AppendKey appends the bytes of a row's Key; false where a part of it is NULL.
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
