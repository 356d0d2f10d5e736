package store

import (
	"context"
	"errors"
	"time"

	"github.com/stranglerfig/migrator/record"
)

// Target is a store that records are moved into. It lists the mandatory methods.
type Target interface {
	TargetRecords
	Checker
	Close() error
}

// TargetRecords are the records of the target, and the versions of deleted records.
type TargetRecords interface {
	// Apply applies each write atomically on its own, in any order. Results are in
	// the order of writes; the returned error is for a failure of all writes.
	Apply(ctx context.Context, writes []Write) ([]Result, error)
	// Get reads the entries of keys, in their order.
	Get(ctx context.Context, keys []record.Key) ([]Entry, error)
	// Scan calls yield with batches of all that the target has for this migration,
	// tombstones included, each at least once. Entries are valid until yield returns.
	Scan(ctx context.Context, yield func([]Entry) error) error
	// Now reads the target's clock.
	Now(ctx context.Context) (time.Time, error)
}

// Write is one versioned change of one key of the target.
type Write struct {
	Key     record.Key
	Deleted bool          // leave a tombstone; Record is not used
	Record  record.Record // the whole new state
	Version record.Version
	// NotAfter is the target's own time past which it must refuse the write.
	// Zero only if the writer has stopped the migration's routes (replay).
	NotAfter time.Time
	// Only makes the write conditional on the target's version being exactly this
	// one (zero: the target knows nothing of the key), instead of being older than
	// Version. Version must not be older than Only, except together with Overwrite:
	// so a repair replaces a version that legacy has never issued, which would refuse
	// every later write.
	Only *record.Version
	// Overwrite also replaces values that migrator did not write, by the record: a value
	// without version, or of another type. Repairs set it, applications don't. A delete that
	// sets it leaves such a value, and keeps its version beside the value; the outcome is Foreign.
	Overwrite bool
	// Keep makes the version of a deleted record stay forever (phase retain) instead
	// of for the tombstones' horizon.
	Keep bool
}

// Outcome is the result of a Write.
type Outcome string

// Outcomes. Applied and Older both mean that the target now holds this state or a later one.
const (
	Applied Outcome = "applied"
	Older   Outcome = "older"   // the target has the same version, or a newer one
	Late    Outcome = "late"    // NotAfter has passed
	Changed Outcome = "changed" // Only did not hold
	Foreign Outcome = "foreign" // the key has a value that migrator did not write, still; see Overwrite
)

// ErrRecord is the cause of a Result's Err that concerns this record alone: too large, of a
// value or form that the store can't take, against a constraint. The store itself works.
var ErrRecord = errors.New("the record itself can't be stored")

// Result is an Outcome with the target's version after it.
type Result struct {
	Outcome Outcome
	Version record.Version
	Err     error // this key's own failure (connection, out of memory); Outcome is then ""
}

// Presence is the kind of value that the target has under a key.
type Presence string

// Kinds of values in the target.
const (
	Absent    Presence = "absent"    // nothing at all
	Live      Presence = "live"      // a record that migrator wrote
	Tombstone Presence = "tombstone" // a version without a record: deleted, or expired
	Unowned   Presence = "unowned"   // a value without version, of another writer
	WrongType Presence = "wrong-type"
	Damaged   Presence = "damaged" // migrator's, but it can't be decoded; Detail has the reason
)

// Entry is what the target has under one key.
type Entry struct {
	Key      record.Key
	Presence Presence
	Version  record.Version // zero for Absent; for Unowned and WrongType the version of the key's tombstone, usually zero
	Record   record.Record  // Live and Unowned; a field that the target lacks is Missing
	Expires  time.Time      // absolute, by the target's clock; zero: never
	Detail   string
	Vanished bool   // Tombstone: the migration's newest write was a record, which another program has deleted
	RawKey   string // the store's own name, if no Key leads to it (then Key is "")
}

// IsStale reports whether the target has a value under the entry's key that is older
// than a version, or has no version: a copy at that version has not reached it. An entry
// with neither Key nor RawKey is never stale: no repair could address it.
func (e Entry) IsStale(than record.Version) bool {
	switch e.Presence {
	case Live, Unowned, Damaged:
		// [backfill-sweep]: also values without version: legacy may have a row of the key by now.
		return (e.Key != "" || e.RawKey != "") && than.NewerThan(e.Version)
	default:
		return false
	}
}
