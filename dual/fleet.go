package dual

import (
	"context"
	"errors"
	"time"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// Fleet is an instance's connection to the migration's state. pgfleet.Fleet is the
// one that connects to PostgreSQL directly. Methods are safe for concurrent use and
// may fail at any time: an instance continues without them.
type Fleet interface {
	// Join takes a lease, in the transaction that reads the route.
	// [join-locked], [rejoin-epoch], [superseded-counts], [join-described].
	Join(ctx context.Context, identity Identity) (Grant, error)
	// Renew extends the lease and acknowledges the epoch that the instance has reached
	// with all its operations. It returns ErrLeaseLost when the lease has expired: the
	// instance must rejoin.
	// [lease-final]: it never extends a lease that has expired or ended.
	Renew(ctx context.Context, lease string, acknowledged int64) (Grant, error)
	// Leave ends the lease; the instance has no operation in flight.
	// [leave-drained].
	Leave(ctx context.Context, lease string) error
	// Journal records keys whose target copy is behind, in a transaction that locks
	// the migration's row in share mode, and returns what that means for readers.
	// [journal-serial], [journal-held], [journal-version], [journal-changes].
	Journal(ctx context.Context, entries []JournalEntry) (JournalResult, error)
}

// Notifier is a Fleet that reports a new epoch before the next renewal. Notifications
// blocks until ctx ends; notify is called from one goroutine and must not block.
type Notifier interface {
	Notifications(ctx context.Context, notify func(epoch int64)) error
}

// EmergencyRollback is a Fleet that lets a failed write roll back to reads from legacy.
type EmergencyRollback interface {
	// RollBack commits the rollback to dual-read because the target refused a write made
	// under the given epoch. It does nothing if a later route no longer reads the target.
	RollBack(ctx context.Context, epoch int64, reason string) error
	// TargetRead reports whether the present route or another live one reads the target.
	TargetRead(ctx context.Context) (bool, error)
}

// StateLossReporter is a Fleet that records a state loss: an instance has been on a route
// of a later epoch than the state's.
type StateLossReporter interface {
	// [loss-held], [loss-epoch].
	ReportStateLoss(ctx context.Context, pinned phases.Route) error
}

// ReturnJournal is a Fleet that records the keys that legacy lacks in the phase retain.
type ReturnJournal interface {
	// Return records the keys in a transaction that locks the migration's row in
	// share mode and requires the phase retain; ErrRouteMoved otherwise.
	// [return-journal].
	Return(ctx context.Context, epoch int64, keys []record.Key) error
}

// JournalReader is a Fleet that reports whether the journal has a key. Without it no lost record
// is confirmed: the key may be known to be behind.
type JournalReader interface {
	HasJournaled(ctx context.Context, key record.Key) (bool, error)
}

// CaptureReader is a Fleet that knows how far change capture has come. Without it a comparison is of the target as it is,
// however late capture brings what legacy has.
type CaptureReader interface {
	Captured(ctx context.Context) (Captured, error)
}

// Captured is how far change capture has come. Both moments are of one clock.
type Captured struct {
	Alone    bool      // nothing else writes the target: the migration file's capture.mode is only
	At       time.Time // of the answer
	CaughtUp time.Time // the target has all that legacy had committed then; zero: not known
}

// ColumnsReader is a Fleet that knows the columns that are moved. Columns returns those that apply has
// resolved the table to, and those of before, while instances may still move these: for instances that
// do not know the new ones yet. nil: there are none.
type ColumnsReader interface {
	Columns(ctx context.Context) (applied, former *record.Schema, err error)
}

// Observer is a Fleet that takes the instance's telemetry. A window that is reported
// twice, by incarnation and sequence, counts once: an instance sends a window again
// whose receipt was not confirmed. The lease may have expired since. One that the state
// does not know is refused with ErrLeaseLost.
type Observer interface {
	Observe(ctx context.Context, lease string, windows []telemetry.Window) error
}

// Identity names the process that has a lease, for operators.
type Identity struct {
	Instance string // unique among live instances; Join generates one when empty
	About    string // host, pid, program
	Moves    string // a hash of what the process moves: see Config.Moves
	Previous string // this process's former, expired lease: its operations, queue included, continue
}

// Grant is a lease with the route it was given under.
type Grant struct {
	Lease      string
	Instance   string
	Route      phases.Route
	TTL        time.Duration // from before the request was sent
	Renew      time.Duration
	FenceEra   uint32 // of writes in retain
	Reversible bool   // retain journals its keys first
	ConfigHash string
	Mark       store.Mark // of the target; without an incarnation: none is known
	OtherMoves bool       // what the instance moves is not what is applied now: it must be restarted
}

// JournalEntry is a change that did not reach the target.
type JournalEntry struct {
	Key     record.Key
	Version record.Version
	Reason  string
}

// JournalResult is what a journaled failure means.
type JournalResult struct {
	Route      phases.Route // the present route
	TargetRead bool         // it, or another live route, reads the target
	Fenced     bool         // authority is moving or has moved: the journal is closed, the write fails
}

// Errors of fleets.
var (
	ErrLeaseLost  = errors.New("the lease has expired")
	ErrRouteMoved = errors.New("the migration has moved to another route")
	// ErrOtherMoves refuses a lease to an instance that would write other entries than the others
	// do: of another key template, format, table, or of other columns.
	ErrOtherMoves = errors.New("this instance moves something else than what is applied")
)
