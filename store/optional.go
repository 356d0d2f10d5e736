package store

import (
	"context"
	"time"

	"github.com/stranglerfig/migrator/record"
)

// BlockScanner is a Legacy that reads fast: Scan, with the rows in blocks. next
// gives an empty block to fill; yield takes it, and owns it from then on.
//
// Without it: backfill and full comparison read row by row, and neither BulkLoader
// nor BulkComparer is used.
type BlockScanner interface {
	ScanBlocks(ctx context.Context, c Chunk, rows int, next func() *record.Block, yield func(*record.Block) error) error
}

// RecentFinder is a Legacy that finds records by when they last changed.
//
// Without it: reconcile.recent can't be used; sampled runs check young records no
// more densely than old ones.
type RecentFinder interface {
	// CheckRecent tells why the column can't serve, by ErrRecentColumn: it is no
	// timestamp, or has no index.
	CheckRecent(ctx context.Context, column string) error
	// RecentKeys draws so large a share (0 to 1) of the keys of the records whose
	// column is at most within old by the store's clock; up to limit keys. A
	// timestamp without time zone is taken as UTC.
	RecentKeys(ctx context.Context, column string, within time.Duration, share float64, limit int) ([]record.Key, error)
}

// Toucher is a Legacy that writes a record without changing it, or with a change of
// one column (column not ""), and returns the row with its version.
//
// Without it: drills have no built-in load; they need one of the operator's own.
type Toucher interface {
	Touch(ctx context.Context, key record.Key, column string, value record.Value) (Row, error)
}

// LagReporter is a Legacy that knows how far its slowest standby is behind; 0 without
// standbys.
//
// Without it: reconcile.stop_on.replication_lag can't be judged. A run with that
// setting logs so, and goes on.
type LagReporter interface {
	ReplicationLag(ctx context.Context) (time.Duration, error)
}

// ChunkLocator is a Legacy that tells where the chunks that Chunks cut are, so that
// what several runs have read can be added up.
//
// Without it: there is no coverage (which share of legacy runs have checked), and a
// sample's places are estimated from the order of its chunks.
type ChunkLocator interface {
	Locate(c Chunk) (Extent, error)
}

// Extent is where a chunk is: a half-open range within a space, such as blocks of a
// table. A space is cut from 0 without gaps, in order.
type Extent struct {
	Space      string
	Generation int64 // of the space: ranges of another one are elsewhere
	From, To   int64 // in the space's own unit, as of when the chunk was cut
}

// SpanCutter is a Legacy that cuts all records into chunks that are ranges of keys,
// of about rows each. They tile all integers: the first begins at the least one, the
// last ends at the greatest.
//
// Without it: Checksummer is not used.
type SpanCutter interface {
	// Spans is false if the records' key is no integer.
	Spans(ctx context.Context, rows int) ([]Chunk, bool, error)
	// SpanOf is the range of a chunk that Spans cut; false for any other chunk.
	SpanOf(c Chunk) (Span, bool)
}

// Checksummer is a store whose server hashes records and adds the hashes up, so that
// equal records need not be sent. A hash covers the key and all fields; values that
// differ in their canonical texts have different hashes but for a chance of 2^-64.
//
// Without it in both stores, a SpanCutter in legacy and a VersionLister in the
// target: full comparison sends every record over the network.
type Checksummer interface {
	// HashForm says in what form this server hashes the fields: two stores of the
	// same form give the same record the same hash. "": it can't.
	HashForm(ctx context.Context, fields []int) (string, error)
	// Checksums adds up a span's records in parts that are so many keys wide, counted
	// from its beginning; width 0: in one part, 0. Parts without records are left out.
	Checksums(ctx context.Context, s Span, width int64, h Hashing) (map[int64]Checksum, error)
	// Hashes reads the hash of each record of a span, by its key.
	Hashes(ctx context.Context, s Span, h Hashing) (map[int64]int64, error)
}

// Span is a range of records whose key is one integer; both ends belong to it.
type Span struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// Checksum is what a server says of some records: how many there are, and the sum of
// their hashes.
type Checksum struct {
	Rows int64
	Hash string // decimal
}

// Hashing says what of a record is hashed. The hash is of 64 bits and keyed by Seed.
type Hashing struct {
	Fields []int
	Seed   int64
}

// VersionLister is a Target that keeps versions beside the records. Its hashes are
// of the records alone, so the versions are looked at for all of them at once.
//
// Without it: Checksummer is not used.
type VersionLister interface {
	// Versions counts the records. It yields the keys of those that have no live
	// version, if there are any; then it asks known for a version that legacy has
	// given by now, telling the newest one's key, and yields the keys of all versions
	// that are newer.
	Versions(ctx context.Context, known func(newest record.Key) (record.Version, error), yield func([]record.Key) error) (records int64, err error)
}

// Preparer is a Target that must be prepared before the first write; preparing it
// again changes nothing.
//
// Without it: nothing is lost, apply has nothing to prepare.
type Preparer interface {
	Prepare(ctx context.Context) error
}

// Purger is a Target whose tombstones don't expire by themselves. Purge removes those
// past their horizon, and counts them; the daemon calls it from time to time.
//
// Without it: the target must end its tombstones itself, or keep them for good.
type Purger interface {
	Purge(ctx context.Context) (int64, error)
}

// BulkLoader is a Target that takes new records fast, many at once.
//
// Without it: backfill writes through Apply.
type BulkLoader interface {
	// BulkLoad writes rows of which the target has nothing, not even a version, each
	// as Apply would, and sets written for exactly those: written[i] belongs to row i.
	// Whatever else there is to decide about a row is left to Apply: it must be
	// given all rows that are not written. After an error written says nothing, and
	// each row may have been written or not; Apply is safe for all of them.
	BulkLoad(ctx context.Context, w BulkWrite, written []bool) error
	// CanBulkLoad tells whether BulkLoad can write the migration's records.
	CanBulkLoad() bool
}

// BulkWrite is what Apply would be given of every row of a block.
type BulkWrite struct {
	Block    *record.Block
	Version  record.Version // not zero
	NotAfter time.Time      // not zero
}

// BulkComparer is a Target that compares fast where most is the same.
//
// Without it: comparison reads every record through Get and compares it here.
type BulkComparer interface {
	// BulkCompare compares the blocks that next gives, until it gives nil, and tells
	// done of each, in their order. same[i] is set for each row whose entry is
	// certainly a live record with the very same texts in all fields, of a version not
	// newer than what next gave with the block. Of others it says nothing: they must
	// be read and compared. fields lists the fields that matter.
	//
	// It may take a block before it tells of the one before. An error of next or done
	// ends it; after any error, blocks that done was not told of are not compared.
	BulkCompare(ctx context.Context, fields []int, next func() (*record.Block, record.Version, error), done func(b *record.Block, same []bool) error) error
	// CanBulkCompare tells whether BulkCompare can say anything of the migration's records.
	CanBulkCompare() bool
}

// KeyScanner is a Target that can list what it holds without reading it: the keys
// of live records and of whatever stands where records should, each at least once.
// A name that is no key is given as an entry of its own.
//
// Without it: a run that looks for what only the target has reads all of it by Scan.
type KeyScanner interface {
	ScanKeys(ctx context.Context, yield func(keys []record.Key, unknown []Entry) error) error
}

// StaleLister is a Target that finds what is stale without reading the rest.
//
// Without it: the end of a backfill reads the whole target by Scan.
type StaleLister interface {
	// ListStale yields the keys of all entries that are IsStale, each at least once;
	// of what changes meanwhile it may say either. yield is called by one goroutine at
	// a time, and may use the target.
	ListStale(ctx context.Context, than record.Version, yield func([]record.Key) error) error
}

// KeyNamer is a Target that has a name of its own for each key.
//
// Without it: reconcile explain shows a record's key alone.
type KeyNamer interface {
	NameOf(record.Key) (string, error)
}
