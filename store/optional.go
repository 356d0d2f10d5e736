package store

import (
	"context"
	"time"

	"github.com/stranglerfig/migrator/record"
)

// BlockScanner is a Legacy that reads fast: Scan, with the rows in blocks. next
// returns an empty block to fill; yield takes ownership of it.
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
	// CheckRecent returns ErrRecentColumn if the column can't be used: it is no timestamp,
	// or has no index.
	CheckRecent(ctx context.Context, column string) error
	// RecentKeys samples a share (0 to 1) of the keys of the records whose column is at
	// most within old by the store's clock; up to limit keys. A
	// timestamp without time zone is taken as UTC.
	RecentKeys(ctx context.Context, column string, within time.Duration, share float64, limit int) ([]record.Key, error)
}

// LostFinder is a Target that finds records which were written and are not there, because the store
// took them under other keys, dropped them, or another writer deleted them.
//
// Without it: a backfill reads back a sample of what it wrote.
type LostFinder interface {
	// FindLost returns a key whose entry has exactly the version, is no tombstone, and has no record.
	FindLost(ctx context.Context, version record.Version) (key record.Key, found bool, err error)
}

// PairChecker is a Target whose fitness depends on the legacy store that it is paired with. It may
// write to both, in transactions that are rolled back.
//
// Without it: plan and doctor examine each store by itself.
type PairChecker interface {
	CheckPair(ctx context.Context, legacy Legacy) ([]Check, error)
}

// Toucher is a Legacy that writes a record without changing it, or with a change of
// one column (column not ""), and returns the row with its version.
//
// Without it: drills have no built-in load; they need one of the operator's own.
type Toucher interface {
	Touch(ctx context.Context, key record.Key, column string, value record.Value) (Row, error)
}

// EraRaiser is a Legacy that can begin a new era while it takes writes.
//
// Without it: entries of the target that are ahead of legacy, because legacy has lost
// transactions, are lowered one by one, and refuse writes until then; those of a later era are
// left.
type EraRaiser interface {
	// RaiseEra begins an era above that of a version, unless the present one is, and returns the
	// present one. It returns when the era is durable. It is refused while a fence is raised, and
	// where the version is of a later timeline: then this server is the one that is behind.
	RaiseEra(ctx context.Context, above record.Version) (era uint32, err error)
}

// LossFinder is a store whose servers show that they may have lost what they had acknowledged: one
// crashed, was failed over, restored or replaced.
//
// Without it: a legacy that went back is noticed by writes that the target refuses as older, and a
// target that went back by less than a beat (see Marker) by reconcile.
type LossFinder interface {
	// LookForLoss compares the servers with what the last call has returned of them, "" the first
	// time, and returns what they are now and how they may have lost data; "": in no way.
	LookForLoss(ctx context.Context, seen string) (now, lost string, err error)
}

// PartWatcher is a Legacy whose records are in parts, which may come and go beside the
// application's writes: partitions.
//
// Without it: nothing tells when records come or go with a part.
type PartWatcher interface {
	// Parts lists the parts, the whole first.
	Parts(ctx context.Context) ([]Part, error)
	// PartChanges describes how the parts differ from those that before lists; "": they don't. gone
	// is true if records may have gone that way, or have other values, come if a new part has records.
	PartChanges(ctx context.Context, before, now []Part) (changes string, gone, come bool, err error)
}

// ChangeLister is a Legacy that lists the records which were written since its fence was raised:
// one that has lost its fence meanwhile took them.
//
// Without it: what legacy took is found by comparing both stores.
type ChangeLister interface {
	// FenceMark returns a mark for ChangedSince: of the attempt's fence, as long as legacy still has
	// it and noted is of this server; else of an earlier moment. noted is what an earlier call has
	// returned; "" at first.
	FenceMark(ctx context.Context, attempt, noted string) (string, error)
	// ChangedSince lists records that were written after the mark, up to limit. It misses those of
	// transactions that had begun before, and those that are deleted; it may list others.
	ChangedSince(ctx context.Context, mark string, limit int) ([]record.Key, error)
}

// Part is a piece of where legacy keeps the records. Its name may change, its ID does not.
type Part struct {
	ID     int64  `json:"id"`
	Name   string `json:"name"`
	Parent int64  `json:"parent"` // 0: it is the whole

	// What a change of the values leaves behind where no write does: both change, or neither counts. "": not known.
	Storage string `json:"storage,omitempty"` // changes when all rows are rewritten
	Columns string `json:"columns,omitempty"` // changes when a column that is moved is redefined
}

// ColumnWatcher is a store whose records have columns of their own, which may change beside the
// migration: a table.
//
// Without it: nothing tells when columns change.
type ColumnWatcher interface {
	// ColumnChanges compares the columns that the store has now with those of an applied schema.
	ColumnChanges(ctx context.Context, applied *record.Schema) ([]ColumnChange, error)
}

// ColumnTyper is a Target whose columns have types. Its schema is the one that it was opened with,
// with TargetType and TargetCollation.
//
// Without it: the target's types are no part of what is moved.
type ColumnTyper interface {
	TypedSchema() *record.Schema
}

// ColumnChange is one way in which a table differs from what apply has resolved it to.
type ColumnChange struct {
	Side   string `json:"side"` // legacy or target
	Column string `json:"column"`
	Change string `json:"change"` // added, dropped, renamed, replaced, retyped, collation, null, key
	Detail string `json:"detail"`
	// Broken is true if what is moved is no longer what was applied. Otherwise nothing moves that did
	// not, and all that moved still does.
	Broken bool `json:"broken"`
}

// LoadReporter is a Legacy that knows its load.
//
// Without it: reconcile.stop_on.replication_lag can't be evaluated. A run with that
// setting logs so, and continues. A throttle with a limit of legacy's load is refused.
type LoadReporter interface {
	Load(ctx context.Context) (Load, error)
}

// Load is what a store has to do besides.
type Load struct {
	StandbyLag   time.Duration // of the slowest standby, in applying; 0 without standbys
	StandbyBytes int64         // of log that the slowest one has not applied
	Sessions     int           // that run a statement, without those of this program; -1: not known
}

// ChunkLocator is a Legacy that reports the place of the chunks that Chunks cut, so that
// the coverage of several runs can be added up.
//
// Without it: there is no coverage (which share of legacy runs have checked), and the
// places of a sample are estimated from the order of its chunks.
type ChunkLocator interface {
	Locate(c Chunk) (Extent, error)
}

// Extent is where a chunk is: a half-open range within a space, such as blocks of a
// table. A space is cut from 0 without gaps, in order.
type Extent struct {
	Space      string
	Generation int64 // of the space: ranges of different generations are unrelated
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
	// HashForm describes how this server hashes the fields: two stores with the same form
	// compute the same hash for the same record. "": the server can't hash them.
	HashForm(ctx context.Context, fields []int) (string, error)
	// Checksums adds up a span's records in parts of width keys, numbered from the span's
	// beginning. Width 0: one part, number 0. Parts without records are omitted.
	Checksums(ctx context.Context, s Span, width int64, h Hashing) (map[int64]Checksum, error)
	// Hashes reads the hash of each record of a span, by its key.
	Hashes(ctx context.Context, s Span, h Hashing) (map[int64]int64, error)
}

// Span is a range of records whose key is one integer; both ends belong to it.
type Span struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// Checksum is a server's summary of some records: their number and the sum of their
// hashes.
type Checksum struct {
	Rows int64
	Hash string // decimal
}

// Hashing selects the hashed fields. The hash has 64 bits and is keyed by Seed.
type Hashing struct {
	Fields []int
	Seed   int64
}

// VersionLister is a Target that keeps versions beside the records. Its hashes
// cover the records alone, so the versions are checked for all records at once.
//
// Without it: Checksummer is not used.
type VersionLister interface {
	// Versions counts the records. It yields the keys of those that have no live
	// version, if there are any; then it calls known with the key of the newest
	// version, to get a version that legacy has issued by now, and yields the keys of
	// all versions that are newer than that.
	Versions(ctx context.Context, known func(newest record.Key) (record.Version, error), yield func([]record.Key) error) (records int64, err error)
}

// Preparer is a Target that must be prepared before the first write; preparing it
// again changes nothing.
//
// Without it: apply has nothing to prepare.
type Preparer interface {
	Prepare(ctx context.Context) error
}

// NumberAdvancer is a Target whose server gives numbers to new records: serial and identity columns, and others that a
// sequence feeds. As long as legacy gives the numbers, the target's own sequences stand still.
//
// Without it: the target gives no numbers.
type NumberAdvancer interface {
	// AdvanceNumbers moves the sequences past the numbers that the target's records have, never back, and returns the
	// names of those that it has moved. It is called before the target alone takes writes, and may be repeated.
	AdvanceNumbers(ctx context.Context) (moved []string, err error)
}

// Purger is a Target whose tombstones don't expire by themselves. Purge removes those
// past their horizon, and returns their number; the daemon calls it periodically.
//
// Without it: the target must expire its tombstones itself, or keep them forever.
type Purger interface {
	Purge(ctx context.Context) (int64, error)
}

// TombstoneHolder is a Target whose tombstones last as long as it was opened with, until
// KeepTombstones sets another time for those that are made, or purged, from then on.
//
// Without it: another writing.tombstones acts when the target is opened again.
type TombstoneHolder interface {
	KeepTombstones(horizon time.Duration)
}

// BulkLoader is a Target that takes new records fast, many at once.
//
// Without it: backfill writes through Apply.
type BulkLoader interface {
	// BulkLoad writes rows of which the target has nothing, not even a version, each as
	// Apply would, and sets written for exactly those: written[i] belongs to row i. All
	// other decisions are left to Apply: the caller must pass it every row that is not
	// written. After an error written is undefined, and each row may have been written
	// or not; Apply is safe for all of them.
	BulkLoad(ctx context.Context, w BulkWrite, written []bool) error
	// CanBulkLoad reports whether BulkLoad can write the migration's records.
	CanBulkLoad() bool
}

// BulkWrite is what Apply would receive for every row of a block.
type BulkWrite struct {
	Block    *record.Block
	Version  record.Version // not zero
	NotAfter time.Time      // not zero
}

// BulkComparer is a Target that compares fast if most records are equal.
//
// Without it: comparison reads every record through Get and compares it here.
type BulkComparer interface {
	// BulkCompare compares the blocks that next returns, until it returns nil, and calls
	// done for each, in their order. same[i] is set for each row whose entry is certainly
	// a live record with exactly the same texts in all fields, of a version not newer
	// than the one that next returned with the block. The other rows are undecided: the
	// caller must read and compare them. fields lists the compared fields.
	//
	// It may take a block before it has called done for the previous one. An error of
	// next or done ends it. After any error, blocks without a call of done are not
	// compared.
	BulkCompare(ctx context.Context, fields []int, next func() (*record.Block, record.Version, error), done func(b *record.Block, same []bool) error) error
	// CanBulkCompare reports whether BulkCompare can compare the migration's records.
	CanBulkCompare() bool
}

// KeyScanner is a Target that lists its keys without reading the records: the keys of
// live records and of all other values under records' keys, each at least once. A name
// that no key leads to (an unknown key) is passed as an entry.
//
// Without it: a run that searches records that only the target has reads all by Scan.
type KeyScanner interface {
	ScanKeys(ctx context.Context, yield func(keys []record.Key, unknown []Entry) error) error
}

// StaleLister is a Target that finds stale entries without reading the rest.
//
// Without it: the end of a backfill reads the whole target by Scan.
type StaleLister interface {
	// ListStale yields the keys of all entries that are IsStale, each at least once;
	// an entry that changes meanwhile may be yielded or not. Calls of yield are not
	// concurrent; yield may use the target.
	ListStale(ctx context.Context, than record.Version, yield func([]record.Key) error) error
}

// KeyNamer is a Target that has a name of its own for each key.
//
// Without it: reconcile explain shows a record's key alone.
type KeyNamer interface {
	NameOf(record.Key) (string, error)
}

// WriteCounter is a Legacy that counts the changes of its records, by whatever program.
//
// Without it: programs that write past dual are found by reconcile alone.
type WriteCounter interface {
	// CountWrites returns what the counters are now, to be passed to the next call, and how many rows
	// were inserted, updated or deleted since before; those of transactions that were rolled back too,
	// those of statements of the last seconds perhaps not yet. why says why that can't be known, such
	// as counters that were reset since; now is "" if they can't be read. Of the first call, with "",
	// both are empty.
	CountWrites(ctx context.Context, before string) (now string, changes int64, why string, err error)
	// Writers names sessions that are writing records now, but for migrator's own: some of them, as a
	// hint.
	Writers(ctx context.Context) ([]string, error)
}
