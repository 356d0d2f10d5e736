package runbook

import (
	"fmt"
	"time"
)

// NotMetError is a condition that was evaluated and is not met.
type NotMetError struct{ What string }

func (e *NotMetError) Error() string { return e.What }

// StillRunningError is a process or statement of a killed run that still runs.
type StillRunningError struct{ What string }

func (e *StillRunningError) Error() string { return e.What }

// UnknownOutcomeError is a step of which only an operator can find out whether it was done.
type UnknownOutcomeError struct {
	Step string
	Why  string
}

func (e *UnknownOutcomeError) Error() string {
	return fmt.Sprintf("outcome of step %s is unknown: %s", e.Step, e.Why)
}

// WaitingError is an approval that did not come in time. The run stays open.
type WaitingError struct {
	Step   string
	Within time.Duration
}

func (e *WaitingError) Error() string {
	return fmt.Sprintf("no approval of step %s within %s", e.Step, e.Within)
}

// FailedError is a failed run.
type FailedError struct {
	Status Status
	Step   string // the failed step; with RunFailed it may be a step whose compensation failed
	Block  string
	Why    string
}

func (e *FailedError) Error() string {
	switch {
	case e.Status == Compensated:
		return fmt.Sprintf("step %s failed (%s); the completed steps were compensated", e.Step, e.Why)
	case e.Block != "" && e.Block != e.Step:
		return fmt.Sprintf("compensation of step %s failed: %s (%s)", e.Step, e.Block, e.Why)
	}
	return fmt.Sprintf("step %s failed (%s); nothing to compensate", e.Step, e.Why)
}
