package dual

import (
	"context"
	"errors"
	"time"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// Fleet is an instance's connection to the migration's state. state.Fleet is the
// one that talks to PostgreSQL directly. Methods are safe for concurrent use and
// may fail at any time: an instance goes on without them.
type Fleet interface {
	// Join takes a lease, in the transaction that reads the route.
	// [join-locked], [rejoin-epoch], [superseded-counts].
	Join(ctx context.Context, who Identity) (Grant, error)
	// Renew prolongs the lease and says which epoch the instance has reached with
	// all its operations. ErrLeaseLost when it has run out: join anew.
	// [lease-final]: never of a lease that has run out or ended.
	Renew(ctx context.Context, lease string, acknowledged int64) (Grant, error)
	// Leave ends the lease; the instance has no operation under way.
	// [leave-drained].
	Leave(ctx context.Context, lease string) error
	// Journal records keys whose target copy is behind, in a transaction that
	// locks the migration's row in share mode, and rules on what that means for readers.
	// [journal-serial], [journal-held], [journal-version], [journal-changes].
	Journal(ctx context.Context, lost []JournalEntry) (JournalResult, error)
}

// Notifier is a Fleet that can tell that there is a new epoch before the next
// renewal. It blocks until ctx ends; hint is called from one goroutine and must not block.
type Notifier interface {
	Notifications(ctx context.Context, hint func(epoch int64)) error
}

// EmergencyRollback is a Fleet that lets a write take reads back to legacy.
type EmergencyRollback interface {
	// RollBack commits the rollback to dual-read because the target refused a write
	// made under the given epoch; nothing if a later route no longer reads the target.
	RollBack(ctx context.Context, epoch int64, reason string) error
	// TargetRead tells whether the route, or one that a live lease may still hold, reads the target.
	TargetRead(ctx context.Context) (bool, error)
}

// StateLossReporter is a Fleet that remembers what an instance knows and the state has
// forgotten: a route of a later epoch than the one it was told.
type StateLossReporter interface {
	// [loss-held], [loss-epoch].
	ReportStateLoss(ctx context.Context, held phases.Route) error
}

// ReturnJournal is a Fleet that remembers what legacy lacks in the phase retain.
type ReturnJournal interface {
	// Return records the keys in a transaction that locks the migration's row in
	// share mode and requires the phase retain; ErrRouteMoved otherwise.
	// [return-journal].
	Return(ctx context.Context, epoch int64, keys []record.Key) error
}

// Observer is a Fleet that takes what the instance has counted. A window that is
// handed in twice, by incarnation and sequence, counts once: an instance sends again what it
// was not told of. The lease may have run out since; one that the state
// does not know is refused with ErrLeaseLost.
type Observer interface {
	Observe(ctx context.Context, lease string, windows []telemetry.Window) error
}

// Identity tells operators which process holds a lease.
type Identity struct {
	Instance string // unique among live instances; Join makes one up when empty
	About    string // host, pid, program
	Previous string // the lease that this very process held and lost: its operations, queue included, live on
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
}

// Lost is a change that did not reach the target.
type JournalEntry struct {
	Key     record.Key
	Version record.Version
	Reason  string
}

// JournalResult is what a journalled failure means.
type JournalResult struct {
	Route      phases.Route // the present route
	TargetRead bool         // it, or one that a live lease may still hold, reads the target
	Fenced     bool         // authority is moving or has moved: the journal is closed, the write fails
}

// Errors of fleets.
var (
	ErrLeaseLost  = errors.New("the lease has run out")
	ErrRouteMoved = errors.New("the migration has moved to another route")
)
