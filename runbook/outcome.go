package runbook

import (
	"fmt"
	"time"
)

// NotHeldError tells that a condition was looked at and does not hold.
type NotMetError struct{ What string }

func (e *NotMetError) Error() string { return e.What }

// StillRunningError tells that something which a killed run began still goes on.
type StillRunningError struct{ What string }

func (e *StillRunningError) Error() string { return e.What }

// DoubtError tells that nobody but a person knows whether a step was done.
type UnknownOutcomeError struct {
	Step string
	Why  string
}

func (e *UnknownOutcomeError) Error() string {
	return fmt.Sprintf("whether step %s was done is not known: %s", e.Step, e.Why)
}

// WaitingError tells that an approval did not come in time. The run stays open.
type WaitingError struct {
	Step   string
	Within time.Duration
}

func (e *WaitingError) Error() string {
	return fmt.Sprintf("nobody has approved step %s within %s", e.Step, e.Within)
}

// FailedError is a run that has failed.
type FailedError struct {
	Status Status
	Step   string // that failed; of RunFailed, maybe one that could not be taken back
	Block  string
	Why    string
}

func (e *FailedError) Error() string {
	switch {
	case e.Status == Compensated:
		return fmt.Sprintf("step %s failed (%s); what was done has been taken back", e.Step, e.Why)
	case e.Block != "" && e.Block != e.Step:
		return fmt.Sprintf("step %s could not be taken back: %s failed (%s)", e.Step, e.Block, e.Why)
	}
	return fmt.Sprintf("step %s failed (%s); nothing had to be taken back", e.Step, e.Why)
}
