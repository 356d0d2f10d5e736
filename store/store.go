package store

import (
	"context"
	"errors"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/record"
)

// Row is what legacy says of one key.
type Row struct {
	Key     record.Key
	Found   bool
	Record  record.Record
	Version record.Version // at which this state may be applied to the target; zero when the read does not give one
}

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

// Legacy is the store that records are moved out of. Reads see committed state.
type Legacy interface {
	// Schema is the shape of the records, found when the store was opened.
	Schema() *record.Schema
	// Chunks cuts all records into chunks of about rows each, in physical order.
	Chunks(ctx context.Context, rows int) ([]Chunk, error)
	// Scan calls yield for each record of the chunk, as of one moment. The row's
	// Record is valid until yield returns. Versions are zero. ErrMoved when the
	// chunk's storage has been replaced since it was cut.
	Scan(ctx context.Context, c Chunk, yield func(Row) error) error
	// Lookup reads the rows of keys, in their order.
	Lookup(ctx context.Context, keys []record.Key) ([]Row, error)
}

// Locker reads a row under a lock that every writer of it must wait for: the
// version it returns is newer than every committed write of the key and older
// than every later one. What is read while the migration is fenced carries the
// era before the fence's.
type Locker interface {
	LookupLocked(ctx context.Context, keys []record.Key) ([]Row, error)
}

// Barrier finds a version such that every write of the records that began
// before the call is older and committed, and every later one is newer: it waits
// for open writers, up to timeout.
type Barrier interface {
	Barrier(ctx context.Context, timeout time.Duration) (record.Version, error)
}

// Fence makes legacy refuse writes.
type Fence interface {
	// RaiseFence waits for open writers, up to timeout, then refuses all later
	// ones. The attempt marks the fence as its own; raising it again changes
	// nothing. It returns the new era.
	RaiseFence(ctx context.Context, attempt string, timeout time.Duration) (era uint32, err error)
	// VoidFence makes sure that the attempt never raises its fence, if it has not;
	// it waits for nobody who writes the records. False if the fence stands: then
	// only LiftFence ends it.
	VoidFence(ctx context.Context, attempt string) (voided bool, err error)
	// LiftFence lets writes pass again if the fence is the attempt's, and starts
	// a new era, which it returns. Lifting a fence that is not there is no error.
	LiftFence(ctx context.Context, attempt string, timeout time.Duration) (era uint32, err error)
	// FenceState tells which attempt's fence stands ("" for none), and the era.
	FenceState(ctx context.Context) (attempt string, era uint32, err error)
	// Replay writes the rows through the attempt's own fence (a row that is not
	// Found is deleted) and returns them with their versions in the coming era.
	Replay(ctx context.Context, attempt string, rows []Row) ([]Row, error)
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

// Target is the store that records are moved into.
type Target interface {
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

// Check is one finding about a store's fitness, for plan and doctor.
type Check struct {
	Name   string      `json:"name"`
	Result CheckResult `json:"result"`
	Detail string      `json:"detail"`
	Hint   hint.Hint   `json:"hint,omitzero"` // what to do about it
}

// CheckResult is a Check's result.
type CheckResult string

// Results of a check. Refused makes plan exit with 2.
const (
	Good    CheckResult = "ok"
	Warned  CheckResult = "warning"
	Refused CheckResult = "refused"
)

// Checker examines a store before a migration is applied.
type Checker interface {
	Check(ctx context.Context) ([]Check, error)
}

// Errors of stores.
var (
	// ErrMoved: the rows of a chunk have been moved to other storage; cut anew.
	ErrMoved = errors.New("the table's rows have been rewritten since its chunks were cut")
	// ErrBusy: open transactions kept a lock on the records away until the time was over.
	ErrBusy = errors.New("open transactions hold the table")
	// ErrFenced: legacy refused a write because the migration has retired it.
	ErrFenced = errors.New("legacy is fenced: the migration has retired it")
)
