package store

import (
	"context"

	"github.com/stranglerfig/migrator/record"
)

// Span is a range of records whose key is one integer; both ends belong to it.
type Span struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// Sum is what a server says of some records: how many there are, and the sum of
// their hashes.
type Sum struct {
	Rows int64
	Hash string // decimal
}

// Hashing says what of a record is hashed. The hash is of 64 bits and keyed by Seed.
type Hashing struct {
	Fields []int
	Seed   int64
}

// Summer is a store whose server hashes records and adds the hashes up, so that
// equal records need not be sent. A hash covers the key and all fields; values that
// differ in their canonical texts have different hashes but for a chance of 2^-64.
type Summer interface {
	// HashForm says in what form this server hashes the fields: two stores of the
	// same form give the same record the same hash. "": it can't.
	HashForm(ctx context.Context, fields []int) (string, error)
	// Sums adds up a span's records in parts that are so many keys wide, counted
	// from its beginning; width 0: in one part, 0. Parts without records are left out.
	Sums(ctx context.Context, s Span, width int64, h Hashing) (map[int64]Sum, error)
	// Hashes reads the hash of each record of a span, by its key.
	Hashes(ctx context.Context, s Span, h Hashing) (map[int64]int64, error)
}

// SpanCutter is a Legacy that cuts all records into spans of about rows each; the
// first and the last one have no end. False: the records' key is no integer.
type SpanCutter interface {
	Spans(ctx context.Context, rows int) ([]Chunk, bool, error)
}

// VersionLister is a Target that keeps versions beside the records. Its hashes are
// of the records alone, so the versions are looked at for all of them at once.
type VersionLister interface {
	// Versions counts the records. It yields the keys of those that have no live
	// version, if there are any; then it asks known for a version that legacy has
	// given by now, telling the newest one's key, and yields the keys of all versions
	// that are newer.
	Versions(ctx context.Context, known func(newest record.Key) (record.Version, error), yield func([]record.Key) error) (records int64, err error)
}
