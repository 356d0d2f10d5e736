package reconcile

import "time"

// Kind is the kind of a run that is made at set times.
type Kind string

// Kinds of scheduled runs.
const (
	SampledKind Kind = "sampled"
	FullKind    Kind = "full" // both ways
)

// Outcome is the outcome of a set time.
type Outcome string

// Outcomes of set times.
const (
	ScheduleSet     Outcome = "set" // not a time itself: since then the expression is in force
	ScheduleRunning Outcome = "running"
	ScheduleDone    Outcome = "done"    // the run ended, whatever it found
	ScheduleRefused Outcome = "refused" // another run was running, or there is nothing to compare
	ScheduleFailed  Outcome = "failed"
)

// Scheduled is a time at which a run was due.
type Scheduled struct {
	Kind    Kind      `json:"kind"`
	Expr    string    `json:"schedule"` // the cron expression
	Due     time.Time `json:"due"`
	Outcome Outcome   `json:"outcome"`
	Run     int64     `json:"run,omitempty"`
	Detail  string    `json:"detail,omitempty"`
}
