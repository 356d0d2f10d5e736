package runbook

import (
	"slices"
	"time"
)

// Direction tells whether a step is taken or taken back.
type Direction string

// Directions.
const (
	Forward    Direction = "forward"
	Compensate Direction = "compensate"
)

// Outcome is how an attempt ended.
type Outcome string

// Outcomes. Unknown is an attempt that ended without a word and is known not to have
// done it, or may be made again: the next one follows.
const (
	Done    Outcome = "done"
	Failed  Outcome = "failed"
	Skipped Outcome = "skipped"
	Unknown Outcome = "unknown"
)

// Record is one attempt, as it is kept.
type Record struct {
	Step      string    `json:"step"`
	Direction Direction `json:"direction"`
	Attempt   int       `json:"attempt"` // from 1, for each step and direction
	Kind      Kind      `json:"kind"`
	Block     string    `json:"block"` // the block that is run: the step's own, or its undo or correct
	Host      string    `json:"host,omitempty"`
	Role      string    `json:"role,omitempty"`
	TwoPeople bool      `json:"two_people,omitempty"`
	Began     time.Time `json:"began"`
	Actor     string    `json:"actor"`
	Outcome   Outcome   `json:"outcome,omitempty"` // "": it is under way, or its process ended without a word
	Ended     time.Time `json:"ended,omitzero"`
	EndedBy   string    `json:"ended_by,omitempty"` // who gave the outcome
	Detail    Detail    `json:"detail,omitzero"`
}

// Detail is what an attempt has left behind. No secret of the migration is in it.
type Detail struct {
	Output   string  `json:"output,omitempty"` // the beginning and the end
	Exit     int     `json:"exit,omitempty"`   // of a program
	Error    string  `json:"error,omitempty"`
	Reason   string  `json:"reason,omitempty"` // a person's
	Attempts int     `json:"looks,omitempty"`  // of a wait
	Seconds  float64 `json:"seconds,omitempty"`
}

// Status is where a run stands.
type Status string

// Statuses.
const (
	Running      Status = "running"
	Waiting      Status = "waiting" // for a person
	RunDone      Status = "done"
	RunFailed    Status = "failed" // and something could not be taken back, or nothing had to be
	Compensating Status = "compensating"
	Compensated  Status = "compensated"
)

// Ended tells that nothing more happens by itself.
func (s Status) Ended() bool { return s == RunDone || s == RunFailed || s == Compensated }

// Next is what a run does next.
type Next struct {
	End       Status // "" unless the run is at its end
	Step      *Step  // of the order
	Block     *Step  // that is run: the step, or what takes it back
	Direction Direction
	Attempt   int
	Open      *Record // there is an intent without an outcome
}

// Next finds what a run does next from what is recorded of it, in the order in which
// it was recorded. It is the whole of the saga: all that is known of a run is in its
// records, so a process that was killed is followed by one that finds the same.
//
// When a step has failed for good, its own action is taken back too: it may have done
// half. What can't be undone is corrected in the same order, last first.
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

// skipped tells that the step itself did nothing.
func skipped(s *Step, log []Record) bool {
	for _, one := range log {
		if one.Step == s.ID && one.Direction == Forward && one.Outcome != Skipped {
			return false
		}
	}
	return true
}

// answers tells that the record is of what the block asks. The database lets those alone
// approve whom the record's own kind and terms name: one of another kind, or of lesser
// terms, is nobody's approval, whoever wrote it.
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
