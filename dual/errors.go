package dual

import (
	"errors"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// Errors of operations.
var (
	// ErrLeft refuses an operation of an instance that has left the fleet: it must do
	// nothing more. End Run's context after the last operation.
	ErrLeft = hint.With(errors.New("the instance has left the migration"), hint.Hint{Text: "end Run's context only after the last operation"})
	// ErrNoUpdate refuses a write that can't be made in the present phase.
	ErrNoUpdate = hint.With(errors.New("legacy is fenced and this write has no Update function"), hint.Hint{Text: "give Op its Keys and Update"})

	// ErrTargetLost is a read or write of a record that the target has lost: it has neither the
	// record nor a version of it, and legacy, which is fenced, has an older state. Neither "not
	// found" nor that state would be an answer. An operation on a target that lacks the migration's
	// mark fails with it too.
	ErrTargetLost = hint.With(errors.New("the target has lost the record: it has no version of it, and fenced legacy still has an older state"), hint.Hint{Do: hint.Doctor})

	errBreakerOpen = errors.New("the breaker is open: the store failed several times in a row")
	errNoAnswer    = errors.New("the store gave no answer")
	errNoClock     = errors.New("the target's clock can't be read")
	errNoVersion   = &writeFault{hint.With(errors.New("the change has no version"), hint.Hint{Text: "return it from the legacy write itself"})}
	errQueueFull   = errors.New("the queue of background writes is full")
)

// TargetError is a write that the target does not have, or may not have.
type TargetError struct {
	Keys []record.Key // the records in question
	// Legacy: legacy has the write, committed; only the target is behind.
	// Otherwise legacy is fenced and the write may not have happened at all.
	Legacy bool
	// Unknown: the target may have the write.
	Unknown bool
	// Refused: the write's own Update refused the first of Keys, with Cause, after others were
	// written (Done). The target did not fail, and to repeat the write changes nothing.
	Refused bool
	// Done are the write's other records, which the target has (phase retain).
	Done  []record.Key
	Cause error
}

func (e *TargetError) Error() string {
	what := "the target refused the write"
	switch {
	case e.Legacy:
		what = "legacy has the write, the target does not"
	case e.Unknown:
		what = "it is unknown whether the target has the write"
	case e.Refused:
		what = "the write's Update refused a record after others"
	}
	if len(e.Done) > 0 {
		what += fmt.Sprintf(" (%d records of it are written)", len(e.Done))
	}
	return fmt.Sprintf("%s (%d records, first %q): %v", what, len(e.Keys), first(e.Keys), e.Cause)
}

func (e *TargetError) Unwrap() error { return e.Cause }

func targetLost(key record.Key) error { return fmt.Errorf("key %q: %w", string(key), ErrTargetLost) }

// missUnknown is a miss of the target whose reason legacy could not be asked.
func missUnknown(key record.Key, err error) error {
	return fmt.Errorf("key %q: the target has no version of the record, and legacy can't be asked whether it was lost: %w", string(key), err)
}

func first(keys []record.Key) record.Key {
	if len(keys) == 0 {
		return ""
	}
	return keys[0]
}

// WaitError is a write that waited for authority to move until its budget was used up.
// Nothing was written.
type WaitError struct {
	Route phases.Route // under which it was refused
	After time.Duration
	Cause error // what refused it; nil if the route did
}

func (e *WaitError) Error() string {
	text := fmt.Sprintf("nothing was written: authority is moving (%s, epoch %d) and did not settle within %s", e.Route, e.Route.Epoch, e.After)
	if e.Cause != nil {
		text += ": " + e.Cause.Error()
	}
	return text
}

// Hint is the hint for an operator; HintOf finds it through errors that wrap this one.
func (e *WaitError) Hint() Hint { return Hint{Do: hint.Status} }

func (e *WaitError) Unwrap() error { return e.Cause }
