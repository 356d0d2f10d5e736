package store

import (
	"context"

	"github.com/stranglerfig/migrator/record"
)

// BlockScanner is a Legacy that reads fast: Scan, with the rows in blocks. next
// gives an empty block to fill; yield takes it, and owns it from then on.
type BlockScanner interface {
	ScanBlocks(ctx context.Context, c Chunk, rows int, next func() *record.Block, yield func(*record.Block) error) error
}

// Matcher is a Target that compares fast where most is the same.
type Matcher interface {
	// Match compares the blocks that next gives, until it gives nil, and tells done of
	// each, in their order. same[i] is set for each row whose entry is certainly a live
	// record with the very same texts in all fields, of a version not newer than what
	// next gave with the block. Of others it says nothing: they must be read and
	// compared. fields lists the fields that matter.
	//
	// It may take a block before it tells of the one before. An error of next or done
	// ends it; after any error, blocks that done was not told of are not compared.
	Match(ctx context.Context, fields []int, next func() (*record.Block, record.Version, error), done func(b *record.Block, same []bool) error) error
	// CanMatch tells whether Match can say anything of the migration's records.
	CanMatch() bool
}

// NameScanner is a Target that can list what it holds without reading it: the keys
// of live records and of whatever stands where records should, each at least once.
// A name that is no key is given as an entry of its own.
type NameScanner interface {
	ScanNames(ctx context.Context, yield func(keys []record.Key, strays []Entry) error) error
}
