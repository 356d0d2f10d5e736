package phases

import (
	"errors"
	"fmt"
	"time"
)

// The times that the protocol depends on: those that a migration file may change
// (Timing, with these as its defaults), and those that it may not. Relations and
// Validate check them against each other; docs/protocol.md gives the reason for each.
const (
	LeaseTTL          = 15 * time.Second      // a lease without renewal, by the state database's clock
	LongestLease      = 5 * time.Minute       // that the state gives
	LeaseRenew        = 5 * time.Second       // how often it is renewed
	RenewShare        = 3                     // renewals that a lease lasts, at least
	ClockSlack        = 20 * time.Millisecond // leases end this much earlier by their instance's clock
	RequestMost       = 5 * time.Second       // of one request of an instance to the state
	EmergencyPatience = 5 * time.Second       // after which the database aborts the rollback of a write whose process froze in it

	WriteDeadline  = time.Second      // of a write's attempts on the target
	NotAfter       = 10 * time.Second // how long after the time was fixed the target still takes a change
	RollbackBudget = time.Second      // how long a write waits for the fleet to stop reading the target
	FenceBudget    = 2 * time.Second  // how long writes wait while authority moves
	LockTimeout    = 5 * time.Second  // of the lock on legacy's table
	Tombstones     = 24 * time.Hour   // how long the target keeps tombstones
	TombstoneShare = 10               // not-afters that tombstones last, at least

	ConnectWithin      = 5 * time.Second  // of a command's connection to the state
	StatementWithin    = 15 * time.Second // of one of its statements
	TransitionPatience = 30 * time.Second // after which the database aborts a command's idle transition
	Settle             = 30 * time.Second // how long a command waits for the fleet
	UndoWithin         = 30 * time.Second // within which a failed fence must be undone
	MaintenanceMargin  = 5 * time.Second  // that the daemon waits in addition to what a command may take
)

// Timing are those of these times that a migration file sets.
type Timing struct {
	Lease, Renew                time.Duration
	Deadline, NotAfter          time.Duration
	RollbackBudget, FenceBudget time.Duration
	LockTimeout, Tombstones     time.Duration
}

// DefaultTiming is the timing of a migration file that sets none.
func DefaultTiming() Timing {
	return Timing{
		Lease: LeaseTTL, Renew: LeaseRenew, Deadline: WriteDeadline, NotAfter: NotAfter,
		RollbackBudget: RollbackBudget, FenceBudget: FenceBudget, LockTimeout: LockTimeout, Tombstones: Tombstones,
	}
}

// Validate returns an error for each invalid time, with its path in the migration file.
func (t Timing) Validate() error {
	var wrong []error
	refuse := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	positive := func(path string, d time.Duration) bool {
		if d <= 0 {
			refuse("%s: must be above 0, such as 1s", path)
		}
		return d > 0
	}
	d := func(d time.Duration) Duration { return Duration(d) }
	positive("writing.deadline", t.Deadline)
	positive("writing.fence_budget", t.FenceBudget)
	positive("backfill.lock_timeout", t.LockTimeout)
	if t.RollbackBudget < 0 {
		refuse("writing.rollback_budget: must not be negative")
	}
	if positive("writing.not_after", t.NotAfter) && t.NotAfter < t.Deadline {
		refuse("writing.not_after: (%s) must be at least writing.deadline (%s): a write may still be in flight", d(t.NotAfter), d(t.Deadline))
	}
	// [tombstone], [expiry-version]: if a version expires before the last late write is refused,
	// that write is applied.
	if t.Tombstones/TombstoneShare < t.NotAfter {
		refuse("writing.tombstones: (%s) must be at least ten times writing.not_after (%s): a late write must still find them", d(t.Tombstones), d(t.NotAfter))
	}
	if positive("fleet.lease", t.Lease) && positive("fleet.renew", t.Renew) && t.Renew > t.Lease/RenewShare {
		refuse("fleet.renew: (%s) must be at most a third of fleet.lease (%s): one renewal may fail", d(t.Renew), d(t.Lease))
	}
	if t.Lease > 0 && t.Lease <= RenewShare*ClockSlack {
		refuse("fleet.lease: (%s) must be above %s: it ends %s early by its instance's clock", d(t.Lease), d(RenewShare*ClockSlack), d(ClockSlack))
	}
	if t.Lease > LongestLease {
		refuse("fleet.lease: (%s) must be at most %s: until it ends, an instance that was killed keeps the fleet from settling", d(t.Lease), d(LongestLease))
	}
	return errors.Join(wrong...)
}

// MaintenanceBudget is how long a command that moves authority may go without a
// heartbeat before the daemon completes its work: all that it may wait for in one step.
func (t Timing) MaintenanceBudget() time.Duration { return t.FenceBudget + t.LockTimeout }
