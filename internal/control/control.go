// Package control takes a migration from one phase to the next and back. It reads a
// snapshot of the state, lets package phases decide, and executes the decision in
// steps. Each step is recorded durably, executed and confirmed: after a crash between
// any two, the next command resumes.
package control

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// State keeps the migration's status durably. state.Store is the one in PostgreSQL.
type State interface {
	Snapshot(ctx context.Context, migration string) (phases.Snapshot, error)
	// Transition runs decide and commits its move in one transaction that holds the
	// migration's row; it refuses a move whose From is no longer the present route.
	Transition(ctx context.Context, migration string, decide func(phases.Snapshot) (phases.Move, error)) (phases.Status, error)
	// Intend records the attempt of a fence, in one transaction that holds the
	// migration's row, if the route is still at, no other attempt is recorded, and decide
	// returns no error for the snapshot read there.
	Intend(ctx context.Context, migration string, at phases.Route, attempt string, decide func(phases.Snapshot) error) error
	// ForgetAttempt deletes the record of an attempt whose fence was never raised.
	ForgetAttempt(ctx context.Context, migration, attempt, reason string) error
	ReturnState
	PartState
	FenceState
}

// ReturnState is the return journal: the keys that the target has written since the fence.
type ReturnState interface {
	ReturnKeys(ctx context.Context, migration string, after record.Key, limit int) ([]record.Key, error)
	// ReturnRest returns keys of whose newest change legacy has no copy, by the changes' numbers, up
	// to most.
	ReturnRest(ctx context.Context, migration string, most int64, limit int) ([]store.ReturnKey, error)
	// NewestChange returns a number that no change is above whose listing has begun.
	NewestChange(ctx context.Context, migration string) (int64, error)
	// BeginReturn voids all marks that are not of this incarnation of legacy.
	BeginReturn(ctx context.Context, migration string, at phases.Route, legacy string) error
	// MarkCopied marks all changes up to a number as copied, except those of keys that were not: they
	// get new numbers.
	MarkCopied(ctx context.Context, migration string, at phases.Route, legacy string, upTo int64, notCopied []record.Key) error
	// FinalizeReturn makes the return that at is one that can't be given up.
	FinalizeReturn(ctx context.Context, migration string, at phases.Route) error
	// EmptyReturn empties the journal, all keys of which must be marked.
	EmptyReturn(ctx context.Context, migration string, at phases.Route) error
	// PruneReturn deletes what EmptyReturn has left.
	PruneReturn(ctx context.Context, migration string) error
	// NoteReturnRate records how many keys a second were copied.
	NoteReturnRate(ctx context.Context, migration string, rate float64) error
	// ClearReturn deletes keys that are not copied: those that the target has lost, of which as many
	// must have been accepted (the migration is marked unclean), and those that are set aside.
	ClearReturn(ctx context.Context, migration string, lost, aside []record.Key) error
	// AllowSetAside makes the return that at is set aside what legacy refuses.
	AllowSetAside(ctx context.Context, migration string, at phases.Route) error
	// MarkUnclean records that a store has lost data.
	MarkUnclean(ctx context.Context, migration, why string) error
	// AcceptMissing sets how many records may be lost in the return that at is.
	AcceptMissing(ctx context.Context, migration string, at phases.Route, records int64) error
}

// PartState keeps the parts of legacy's table.
type PartState interface {
	// Parts are those that were noted last; nil if none were.
	Parts(ctx context.Context, migration string) ([]store.Part, error)
	// AcceptParts notes them as those that the migration moves.
	AcceptParts(ctx context.Context, migration string, parts []store.Part) error
	// NoteParts notes that they have changed from before to now, and marks the migration unclean if
	// records are lost by that. It returns false if before is not what was noted last.
	NoteParts(ctx context.Context, migration string, before, now []store.Part, changes string, lost bool) (noted bool, err error)
}

// FenceState keeps since when legacy refuses writes, as a mark that legacy gave.
type FenceState interface {
	FenceMark(ctx context.Context, migration, attempt string) (mark string, lost bool, err error)
	NoteFence(ctx context.Context, migration, attempt, mark string, lost bool) error
}

// Judge evaluates the measured gates and stores the evaluations, which the next
// Snapshot includes. judge.Judge is one.
type Judge interface {
	Gates(ctx context.Context, e phases.Snapshot) ([]phases.Evaluation, error)
}

// Legacy is what a controller needs of legacy.
type Legacy interface {
	store.Fence
	// Lookup reads the rows of keys, in their order.
	Lookup(ctx context.Context, keys []record.Key) ([]store.Row, error)
}

// Controller moves one migration. Legacy and Target are needed from grace on.
type Controller struct {
	State     State
	Migration string
	Settings  phases.Settings
	Stored    string // Status.StoredHash of the file that Settings are of: with another, no step is taken; "": not compared
	Judge     Judge  // evaluates the measured gates before an advance; nil: the stored evaluations decide
	// Look notes how the stores' columns are now, before a step forward is decided. nil: the last look counts.
	Look   func(ctx context.Context) error
	Legacy Legacy
	Target store.TargetRecords

	// Expired reports whether a record of legacy has expired: the target may have nothing of it,
	// not even a version. nil: records don't expire.
	Expired func(record.Record) bool

	// Whole returns nil if the target still has all that it had when this is called: a beat that is
	// taken now reaches every part of it, and no server of it was restarted. nil: that can't be known.
	Whole func(ctx context.Context) error

	LockTimeout time.Duration // for the fence's table lock; 0: 5 s
	FenceBudget time.Duration // how long writes may wait while authority moves; 0: 2 s
	NotAfter    time.Duration // how long after its listing the target takes a write; 0: 10 s
	LastRound   int64         // how many keys a return leaves to be copied while writes wait; 0: phases.LastRound
	Poll        time.Duration // how often the fleet's acknowledgments are read; 0: 50 ms
	Report      func(string)  // progress for an operator; may be nil

	// Away reports whether an error of State means that it is not there for a moment: a wait then goes on.
	// nil: every error ends it.
	Away func(error) bool
	// DryRun leaves all stores as they are in Rollback and Reclaim, and the fence; State must roll back
	// what it is given. An advance has a DryRun of its own.
	DryRun bool
}

// GatesClosedError refuses an advance whose gates are not all open.
type GatesClosedError struct {
	From, To phases.Route
	Gates    []phases.GateResult // all, also those that are open
}

func (e *GatesClosedError) Error() string {
	var names []string
	for _, g := range phases.Closed(e.Gates) {
		names = append(names, g.Gate)
	}
	return fmt.Sprintf("cannot advance from %s to %s: gates not open: %s", e.From, e.To, strings.Join(names, ", "))
}

// Hint is the hint of the first closed gate that has one.
func (e *GatesClosedError) Hint() hint.Hint {
	for _, g := range phases.Closed(e.Gates) {
		if !g.Hint.IsZero() {
			return g.Hint
		}
	}
	return hint.Hint{}
}

// UnsettledError reports that the fleet did not acknowledge the epoch in time.
type UnsettledError struct {
	Route  phases.Route
	Fleet  phases.Fleet
	Waited time.Duration
}

func (e *UnsettledError) Error() string {
	return fmt.Sprintf("%d of %s %s not acknowledged %s (epoch %d) within %s",
		e.Fleet.Behind, humanize.Counted(e.Fleet.Live, "instance"), humanize.Either(e.Fleet.Behind, "has", "have"), e.Route, e.Route.Epoch, e.Waited)
}

// Hint implements hint.Hinter.
func (e *UnsettledError) Hint() hint.Hint { return hint.Hint{Do: hint.FleetList} }

// InputError refuses a step that does not exist from the migration's present route,
// whatever the gates' verdicts.
type InputError struct{ error }

func (e *InputError) Unwrap() error { return e.error }

func refuse(h hint.Hint, format string, args ...any) error {
	return &InputError{hint.Errorf(h, format, args...)}
}

func (c *Controller) report(format string, args ...any) {
	if c.Report != nil {
		c.Report(fmt.Sprintf(format, args...))
	}
}

func orDefault(d, def time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return def
}

// AwaitSettled waits until every live instance has acknowledged the present
// epoch. Instances whose leases lapsed are not waited for: they read legacy.
func (c *Controller) AwaitSettled(ctx context.Context, budget time.Duration) error {
	began := time.Now()
	// Polled: a lost notification must not make a command wait for its whole budget.
	tick := time.NewTicker(orDefault(c.Poll, 50*time.Millisecond))
	defer tick.Stop()
	for {
		e, err := c.State.Snapshot(ctx, c.Migration)
		if err != nil && (c.Away == nil || !c.Away(err) || time.Since(began) >= budget) {
			return err
		}
		// Live leases only: a lapsed one may never acknowledge. Where its instance may still be on the
		// old route, Legal refuses the next move ([lapsed-held]).
		if err == nil && e.Fleet.Behind == 0 {
			return nil
		}
		// A deadline, not a proof: the caller decides what an unsettled fleet means.
		if waited := time.Since(began); err == nil && waited >= budget {
			return &UnsettledError{Route: e.Status.Route, Fleet: e.Fleet, Waited: waited.Round(time.Millisecond)}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
