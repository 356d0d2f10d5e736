// Package store is the contract between migrator and the stores that it moves
// records between. It holds no store and does no I/O; store/storetest is the suite
// that every store must pass, and docs/stores.md describes how to add one.
//
// A legacy store implements [Legacy]. It reads records in chunks and by key, gives
// each write of a record a version, and can refuse writes:
//
//   - [LegacyRecords] reads committed records, without versions.
//   - [Locker] reads a record under a lock, with a version that orders the read
//     among the record's writes.
//   - [Barrier] finds a version between all past and all future writes.
//   - [Fence] makes legacy refuse writes, and accept them again.
//   - [Checker] reports, before a migration begins, what would make it fail.
//
// A target store implements [Target]. It applies versioned writes, each atomically,
// and never lets an older version replace a newer one, also where a record has been
// deleted:
//
//   - [TargetRecords] applies and reads.
//   - [Checker] is as in legacy.
//
// Everything else is optional: an interface that a store may implement beside the
// mandatory ones, and that callers find by a type assertion. The comment of each
// ends with what a migration loses without it: speed or comfort, never correctness. A
// fast path only reports that records are equal, or writes what Apply would, and leaves
// every uncertain case to the mandatory methods.
//
//	both sides   Checksummer (both stores must have the same checksum form)
//	legacy       BlockScanner, ChunkLocator, SpanCutter, RecentFinder, Toucher,
//	             LoadReporter
//	target       Preparer, NumberAdvancer, Purger, BulkLoader, BulkComparer, KeyScanner,
//	             StaleLister, VersionLister, KeyNamer
package store
