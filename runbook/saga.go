package runbook

import (
	"slices"
	"time"
)

// Direction is whether a step runs forward or is compensated.
type Direction string

// Directions.
const (
	Forward    Direction = "forward"
	Compensate Direction = "compensate"
)

// Outcome is how an attempt ended.
type Outcome string

// Outcomes. Unknown is an interrupted attempt that is known to have done nothing, or that may
// run again: another attempt follows.
const (
	Done    Outcome = "done"
	Failed  Outcome = "failed"
	Skipped Outcome = "skipped"
	Unknown Outcome = "unknown"
)

// Record is one recorded attempt.
type Record struct {
	Step      string    `json:"step"`
	Direction Direction `json:"direction"`
	Attempt   int       `json:"attempt"` // from 1, for each step and direction
	Kind      Kind      `json:"kind"`
	Block     string    `json:"block"` // the block that runs: the step's own, or its undo or correct
	Host      string    `json:"host,omitempty"`
	Role      string    `json:"role,omitempty"`
	TwoPeople bool      `json:"two_people,omitempty"`
	Began     time.Time `json:"began"`
	Actor     string    `json:"actor"`
	Outcome   Outcome   `json:"outcome,omitempty"` // "": in progress, or its process was interrupted
	Ended     time.Time `json:"ended,omitzero"`
	EndedBy   string    `json:"ended_by,omitempty"` // who reported the outcome
	Detail    Detail    `json:"detail,omitzero"`
}

// Detail is the result of an attempt. It contains no secret of the migration.
type Detail struct {
	Output   string  `json:"output,omitempty"` // the beginning and the end
	Exit     int     `json:"exit,omitempty"`   // of a program
	Error    string  `json:"error,omitempty"`
	Reason   string  `json:"reason,omitempty"` // an operator's
	Attempts int     `json:"looks,omitempty"`  // of a wait
	Seconds  float64 `json:"seconds,omitempty"`
}

// Status is the status of a run.
type Status string

// Statuses.
const (
	Running      Status = "running"
	Waiting      Status = "waiting" // for an operator
	RunDone      Status = "done"
	RunFailed    Status = "failed" // a step failed; its compensation failed, or none was needed
	Compensating Status = "compensating"
	Compensated  Status = "compensated"
)

// Ended reports whether the run has reached a final status.
func (s Status) Ended() bool { return s == RunDone || s == RunFailed || s == Compensated }

// Next is what a run does next.
type Next struct {
	End       Status // "" unless the run has ended
	Step      *Step  // a step of the runbook's order
	Block     *Step  // the block to run: the step's own, or its compensation
	Direction Direction
	Attempt   int
	Open      *Record // an intent without an outcome
}

// Next returns what a run does next, given its records in the order in which they were
// written. It is the whole state machine of a run: it reads nothing but the records, so a
// process that resumes a killed run decides as that one would have.
//
// When a step has failed for good, its own action is compensated too: it may have done half of
// its work. Actions that can't be undone are corrected in the same order, last first.
func (r *Runbook) Next(log []Record) Next {
	failed := -1
	for i, s := range r.Steps {
		n, state := nextAttempt(s, s, Forward, log)
		if state == over {
			continue
		}
		if state == exhausted {
			failed = i
			break
		}
		return n
	}
	if failed < 0 {
		return Next{End: RunDone}
	}
	end := RunFailed
	for _, s := range slices.Backward(r.Steps[:failed+1]) {
		block := r.compensation(s)
		if block == nil || skipped(s, log) {
			continue
		}
		end = Compensated
		switch n, state := nextAttempt(s, block, Compensate, log); state {
		case over:
		case exhausted:
			return Next{End: RunFailed, Step: s, Block: block, Direction: Compensate}
		default:
			return n
		}
	}
	return Next{End: end, Step: r.Steps[failed], Block: r.Steps[failed], Direction: Forward}
}

// skipped reports whether the step itself did nothing.
func skipped(s *Step, log []Record) bool {
	for _, one := range log {
		if one.Step == s.ID && one.Direction == Forward && one.Outcome != Skipped {
			return false
		}
	}
	return true
}

// matches reports whether the record answers what the block asks. The database checks an
// approver against the kind and the terms in the record. So a record of another kind, or with
// weaker terms than the block's, is no approval, whatever its author.
func (r *Record) matches(block *Step) bool {
	return block.Kind != Approve || r.Kind == Approve && r.Role == block.Role && (r.TwoPeople || !block.TwoPeople)
}

type progress int

const (
	due progress = iota
	over
	exhausted
)

func nextAttempt(s, block *Step, d Direction, log []Record) (Next, progress) {
	n := Next{Step: s, Block: block, Direction: d, Attempt: 1}
	var last *Record
	failures := 0
	for i := range log {
		one := &log[i]
		if one.Step != s.ID || one.Direction != d {
			continue
		}
		n.Attempt = max(n.Attempt, one.Attempt+1)
		if !one.matches(block) {
			continue
		}
		last = one
		switch one.Outcome {
		case Failed:
			failures++
		case Unknown:
			failures = 0
		}
	}
	if last == nil {
		return n, due
	}
	switch last.Outcome {
	case "":
		n.Attempt, n.Open = last.Attempt, last
	case Done, Skipped:
		return n, over
	case Failed:
		if failures > block.Retries {
			return n, exhausted
		}
	}
	return n, due
}
