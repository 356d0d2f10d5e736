package store

import (
	"context"
	"time"

	"github.com/stranglerfig/migrator/record"
)

// Target is a store that records are moved into: all that each must do.
type Target interface {
	TargetRecords
	Checker
	Close() error
}

// TargetRecords are the records of the target, and the versions of those that are gone.
type TargetRecords interface {
	// Apply applies each write atomically on its own, in any order. Results are in
	// the order of writes; the error is for a failure of all.
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
	// Zero only where the writer holds the migration still (replay).
	NotAfter time.Time
	// Only makes the write conditional on the target's version being exactly this
	// one (zero: the target knows nothing of the key), instead of being older than
	// Version. Version must not be older than Only, except together with Overwrite:
	// so a repair takes back a version that legacy has never given, which would
	// refuse every write to come.
	Only *record.Version
	// Overwrite also replaces what migrator did not write: a value without
	// version, or of another type. Repairs set it, applications don't.
	Overwrite bool
	// Keep leaves the version of a deleted record for good (phase retain) instead
	// of for the tombstones' horizon.
	Keep bool
}

// Outcome is what became of a Write.
type Outcome string

// Outcomes. Applied and Older both mean that the target now holds this state or a later one.
const (
	Applied Outcome = "applied"
	Older   Outcome = "older"   // the target has the same version, or a newer one
	Late    Outcome = "late"    // NotAfter was over
	Changed Outcome = "changed" // Only did not hold
	Foreign Outcome = "foreign" // the key holds what migrator did not write; see Overwrite
)

// Result is an Outcome with the target's version after it.
type Result struct {
	Outcome Outcome
	Version record.Version
	Err     error // this key's own failure (connection, out of memory); Outcome is then ""
}

// Presence says what the target has under a key.
type Presence string

// What the target may hold.
const (
	Absent    Presence = "absent"    // nothing at all
	Live      Presence = "live"      // a record of ours
	Tombstone Presence = "tombstone" // a version without a record: deleted, or expired
	Unowned   Presence = "unowned"   // a value without version: somebody else's
	WrongType Presence = "wrong-type"
	Damaged   Presence = "damaged" // ours, but it can't be decoded; Detail says why
)

// Entry is what the target says of one key.
type Entry struct {
	Key      record.Key
	Presence Presence
	Version  record.Version // zero for Absent; for Unowned and WrongType what a tombstone of the key still says, mostly zero
	Record   record.Record  // Live and Unowned; a field that the target has not is Missing
	Expires  time.Time      // absolute, by the target's clock; zero: never
	Detail   string
	RawKey   string // the store's own name of it, where Key can't be told from it (then Key is "")
}

// IsStale tells whether the target has something under the entry's key that is
// older than a version, or has none: what a copy at that version has not reached.
// An entry with neither Key nor RawKey is not: no repair could be given it.
func (e Entry) IsStale(than record.Version) bool {
	switch e.Presence {
	case Live, Unowned, Damaged:
		// [backfill-sweep]: also what has no version; legacy is the authority for every key.
		return (e.Key != "" || e.RawKey != "") && than.NewerThan(e.Version)
	default:
		return false
	}
}
