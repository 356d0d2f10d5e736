package store

// Chunk is a part of legacy's records that can be read on its own: a range of
// physical blocks of one relation. It is stored between runs, so that an
// interrupted job goes on.
type Chunk struct {
	Relation string `json:"relation"` // the table or the leaf partition, quoted, with its schema
	File     uint32 `json:"file"`     // its storage; another number means that the rows have been moved about
	From     uint32 `json:"from"`     // first block
	To       uint32 `json:"to"`       // first block after; the last chunk of a relation has no end (MaxBlock)
	Rows     int64  `json:"rows"`     // estimate
	Blocks   uint32 `json:"blocks"`   // that it had when it was cut, which the last chunk's end does not tell

	// Keys makes the chunk a range of keys of all relations, in place of blocks of one.
	Keys *Span `json:"keys,omitempty"`
}

// MaxBlock ends the last chunk of a relation, which also takes rows appended later.
const MaxBlock = 0xFFFFFFFE
