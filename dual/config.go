package dual

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// Policy is what happens to a write that legacy has and the target lacks, while an
// instance reads the target.
type Policy string

// The policies.
const (
	// RollBack rolls the whole fleet back to reads from legacy, and then acknowledges
	// the write: an outage of the target delays the writes in flight, and no reader sees
	// the old state.
	RollBack Policy = "rollback"
	// Degrade acknowledges at once. This instance reads the record from legacy;
	// others may see the old state until the journal is repaired.
	Degrade Policy = "degrade"
	// Fail returns a *TargetError with Legacy set: legacy has the write.
	Fail Policy = "fail"
)

// Writing are the settings of writes. A zero value is what is applied (Config.Applied), else the
// default.
type Writing struct {
	OnTargetFailure Policy // RollBack
	// Deadline is how long a write tries the target after legacy has it (1s). Every 500 records
	// of one write add as much again, up to NotAfter; in retain each record has all of it.
	Deadline time.Duration
	// NotAfter is how long after the legacy write began the target still takes it
	// (10s). The changes of a closure that takes longer are settled by legacy's locked rows.
	NotAfter       time.Duration
	RollbackBudget time.Duration // 1s: how long a write waits for the fleet to stop reading the target
	FenceBudget    time.Duration // 2s: how long a write waits while authority moves
	Queue          int           // 10000: background writes queued at most; the rest goes to the journal
}

// Config is the configuration of one instance of one migration.
type Config struct {
	Fleet    Fleet
	Identity Identity
	Logger   *slog.Logger // nil: silent
	Writing  Writing
	// Applied, if set, returns the settings of writes that are applied, and makes what else the
	// process takes from them follow (how values are compared). It is called by Join, and when a
	// renewal has another ConfigHash; while it fails, the instance keeps what it has, and counts no evidence.
	// Values that Writing has go over those that it returns, but a NotAfter only if it is shorter.
	Applied func(ctx context.Context) (Writing, error)
	Workers int // of background writes (4)
	// BreakerPause is the longest pause between two operations that probe a target which has
	// failed five times in a row (5s); the first pause is a second, and each is twice the one
	// before. Meanwhile every change of the target goes to the journal, and reads of it to
	// legacy.
	BreakerPause time.Duration
	// LeaveWithin is how long Run waits, once its context has ended, for operations to
	// end and background writes to land (10s). Operations still running after this are
	// abandoned; the lease is left to expire. The migration then needs a full reconcile
	// before cutover.
	LeaveWithin time.Duration
	// ReportEvery is how often telemetry is reported (10s; 20s at most). A shorter interval costs
	// the state database more, and shows a fault sooner.
	ReportEvery time.Duration
	// Marks are the target's: what Target the Reader and the Writer use. The instance looks at them
	// every two seconds, and uses no target that lacks the migration's mark: another server, one
	// that was emptied, or one that went back to an earlier state. Nil: they are not watched.
	Marks store.Marker
	// Moves is a hash of what this process moves: migration.Config's Moves, with the columns that the
	// fleet's Columns returns. Beyond the phase legacy the state refuses an instance that says
	// another one than is applied, or none.
	Moves string
	// Faults lets drills inject faults of the target into this instance. Set it in
	// staging only; the state refuses faults elsewhere.
	Faults bool
	// Strict makes a write fail with ErrChanges if its closure returned other changes than its
	// Keys announce. Set it in tests: legacy and the target have the write all the same.
	Strict bool
	// OnOperation, for traces and tests, is called when an operation has pinned its
	// route, and for each attempt on a store within it. The function that it returns, if not nil, is
	// called with the result: of an operation when its pin is released, and until then no later
	// epoch is acknowledged. The context that it returns, if not nil, must be made from the one that it
	// got: attempts, stores and what the operation leaves to the background get it. Both
	// functions run on the operation's path and are called from many goroutines. A change that waits for the
	// journal pins its route too, but touches no store and is not passed to OnOperation.
	OnOperation func(ctx context.Context, o Operation) (context.Context, func(Result))
	// Clock reads a clock that also runs while the machine is suspended; for tests.
	Clock func() time.Duration
}

func (c *Config) defaults() error {
	if c.Fleet == nil {
		return errors.New("dual: Config.Fleet is missing")
	}
	if err := c.Writing.defaults(); err != nil {
		return err
	}
	if err := defaultDurations([]durationSetting{
		{&c.LeaveWithin, 10 * time.Second, "LeaveWithin"},
		{&c.ReportEvery, windowLength, "ReportEvery"},
	}); err != nil {
		return err
	}
	// What legacy counts is compared with what instances have reported half a minute later.
	c.ReportEvery = min(c.ReportEvery, 2*windowLength)
	if c.Workers < 0 || c.BreakerPause < 0 {
		return errors.New("dual: Workers and BreakerPause must not be negative")
	}
	if c.Workers == 0 {
		c.Workers = 4
	}
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	if c.Clock == nil {
		c.Clock = defaultClock()
	}
	return nil
}

type durationSetting struct {
	of   *time.Duration
	zero time.Duration
	name string
}

func defaultDurations(all []durationSetting) error {
	for _, d := range all {
		if *d.of < 0 {
			return fmt.Errorf("dual: %s must not be negative", d.name)
		}
		if *d.of == 0 {
			*d.of = d.zero
		}
	}
	return nil
}

func (w *Writing) defaults() error {
	switch w.OnTargetFailure {
	case "":
		w.OnTargetFailure = RollBack
	case RollBack, Degrade, Fail:
	default:
		return fmt.Errorf("dual: OnTargetFailure %q: want %s, %s or %s", w.OnTargetFailure, RollBack, Degrade, Fail)
	}
	if w.Queue < 0 {
		return errors.New("dual: Writing.Queue must not be negative")
	}
	if w.Queue == 0 {
		w.Queue = 10000
	}
	return defaultDurations([]durationSetting{
		{&w.Deadline, phases.WriteDeadline, "Writing.Deadline"},
		{&w.NotAfter, phases.NotAfter, "Writing.NotAfter"},
		{&w.RollbackBudget, phases.RollbackBudget, "Writing.RollbackBudget"},
		{&w.FenceBudget, phases.FenceBudget, "Writing.FenceBudget"},
	})
}
