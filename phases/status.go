package phases

import (
	"fmt"
	"time"
)

// Status is a migration's status, as its row in the state database records it.
type Status struct {
	Migration         string     `json:"migration"`
	Route             Route      `json:"route"`
	PhaseSince        time.Time  `json:"phase_since"`                   // when the phase was entered
	RouteSince        time.Time  `json:"route_since"`                   // when the epoch began
	Paused            string     `json:"paused,omitempty"`              // the reason, while paused
	ConfigHash        string     `json:"config_hash"`                   // of the migration file that is applied: what evidence is bound to
	StoredHash        string     `json:"stored_hash,omitempty"`         // of all that is stored of it: processes reload when it changes
	LegacyEpoch       int64      `json:"legacy_epoch"`                  // the last epoch in phase legacy; 0: never
	Dirty             time.Time  `json:"dirty,omitzero"`                // until when writes of a lease that ended uncleanly may land; zero: no lease did
	Attempt           string     `json:"attempt,omitempty"`             // of the fence that is up or is being raised or lifted
	FenceEra          uint32     `json:"fence_era,omitempty"`           // the era that writes of retain belong to
	Reversible        bool       `json:"reversible"`                    // retain journals the keys it writes
	FirstFenceEra     uint32     `json:"first_fence_era,omitempty"`     // the era in which legacy was fenced; FenceEra grows when a return is given up
	ReturnKeys        int64      `json:"return_keys"`                   // in the return journal
	ReturnRest        int64      `json:"return_rest"`                   // of those, keys whose newest state legacy has no copy of
	ReturnRate        float64    `json:"return_rate,omitempty"`         // keys that were copied to legacy in a second, when that was last measured
	SetsAside         bool       `json:"sets_aside,omitempty"`          // the return in progress sets aside what legacy refuses
	ReturnFinal       bool       `json:"return_final,omitempty"`        // the return in progress can't be given up any more
	SetAside          int64      `json:"set_aside,omitempty"`           // records that returns have set aside
	JournalKeys       int64      `json:"journal_keys"`                  // keys whose target copy is known to be behind
	LastCause         string     `json:"last_cause,omitempty"`          // of the newest history entry
	LastReason        string     `json:"last_reason,omitempty"`         //
	LastActor         string     `json:"last_actor,omitempty"`          //
	Environment       string     `json:"environment,omitempty"`         //
	StateLoss         *StateLoss `json:"state_loss,omitempty"`          // of the state database; nil: none is known
	AcceptedMissing   int64      `json:"accepted_missing,omitempty"`    // records that the target has lost, which the return in progress may leave as legacy has them
	Unclean           string     `json:"unclean,omitempty"`             // why a full reconcile is needed, in addition to Dirty; "": a lease or a state loss
	TargetLost        string     `json:"target_lost,omitempty"`         // why the target is not used: it lacks the migration's mark; "": it had it when it last answered
	TargetDoubted     bool       `json:"target_doubted,omitempty"`      // the target may have lost data, and no full reconcile since was clean
	TargetSeen        time.Time  `json:"target_seen,omitzero"`          // when the whole target last had the migration's mark; zero: it has none
	LegacyChanged     string     `json:"legacy_changed,omitempty"`      // how the parts of legacy's table have changed since the migration file was applied
	Moves             string     `json:"moves,omitempty"`               // a hash of what instances move; "": none is applied that says it
	FieldsEpoch       int64      `json:"fields_epoch,omitempty"`        // in which the columns that are moved were last changed beyond legacy; 0: never
	FieldsOpen        bool       `json:"fields_open,omitempty"`         // no backfill has begun since then: instances of before may still join
	Columns           []Column   `json:"columns,omitempty"`             // how the stores' columns differ from what was applied, as of ColumnsSeen
	ColumnsSeen       time.Time  `json:"columns_seen,omitzero"`         // when the stores' columns were last looked at; zero: never
	UnreadableWindows int64      `json:"unreadable_windows,omitempty"`  // windows of telemetry that could not be added up, and were left out
	UnreadableWhy     string     `json:"unreadable_why,omitempty"`      // of the newest of them
	ReturnJournalLost bool       `json:"return_journal_lost,omitempty"` // the return journal may lack keys: a rollback scans the target for them
}

// FilledFrom is the first epoch in which a backfill that counts can have begun.
func (s Status) FilledFrom() int64 { return max(s.LegacyEpoch+1, s.FieldsEpoch) }

// Column is one way in which a store's columns differ from what apply has resolved them to.
type Column struct {
	Side   string `json:"side"`   // legacy or target
	Column string `json:"column"` //
	Change string `json:"change"` // added, dropped, renamed, replaced, retyped, collation, null, key, version
	Detail string `json:"detail"`
	Broken bool   `json:"broken"` // what is moved is no longer what was applied; otherwise something is not moved
}

// Lease is one instance of the fleet.
type Lease struct {
	Instance     string    `json:"instance"`
	Acknowledged int64     `json:"acknowledged_epoch"`
	Joined       time.Time `json:"joined"`
	Renewed      time.Time `json:"renewed"`
	Expires      time.Time `json:"expires"`
	Lapsed       bool      `json:"lapsed"` // expired without leaving
	About        string    `json:"about"`  // host, pid, program
	Moves        string    `json:"moves"`  // a hash of what it moves; "": it does not say
	Other        bool      `json:"other"`  // what it moves is not what is applied
}

// Fleet is the part of a snapshot that the leases give.
type Fleet struct {
	Live       int      `json:"live"`
	Behind     int      `json:"behind"`      // live, but have not acknowledged the present epoch
	Lapsed     []string `json:"lapsed"`      // instances whose lease expired without leaving
	Other      []string `json:"other"`       // instances that move something else than what is applied, or don't say what
	LiveRoutes []Route  `json:"live_routes"` // the routes that a live lease may still be on, newest first
}

// Settled reports whether every instance is known to be on the present route.
func (f Fleet) Settled() bool { return f.Behind == 0 && len(f.Lapsed) == 0 && len(f.Other) == 0 }

// BackfillStatus is the newest backfill.
type BackfillStatus struct {
	Epoch    int64     `json:"epoch"` // in which its barrier was taken
	Began    time.Time `json:"began"`
	Finished time.Time `json:"finished,omitzero"` // zero: still to be finished
}

// ReconcileResult is the newest finished reconcile run.
type ReconcileResult struct {
	Run         int64     `json:"run"`
	Epoch       int64     `json:"epoch"` // in which it began
	ConfigHash  string    `json:"config_hash"`
	Began       time.Time `json:"began"`
	Finished    time.Time `json:"finished"`
	Full        bool      `json:"full"`    // every record, not a sample
	TwoWay      bool      `json:"two_way"` // searched for extra records of the target too
	Checked     int64     `json:"checked"`
	Differences int64     `json:"differences"` // confirmed, whether repaired afterwards or not
	Repaired    int64     `json:"repaired"`    // of these, and of the journal's keys
	// Undecided records had no result: they changed at every read, or legacy was fenced meanwhile.
	Undecided int64 `json:"undecided,omitempty"`
	// LostWrites counts those of Differences whose keys the run records, and that were missing
	// or older in the target though no journal had them.
	LostWrites int64 `json:"lost_writes,omitempty"`
}

// Clean reports whether the run found no confirmed difference. A run that repaired
// differences is not clean: only a later one can be. Nor is one that could not judge every
// record: what was skipped does not count as agreeing.
func (r *ReconcileResult) Clean() bool {
	return r != nil && r.Differences == 0 && r.Repaired == 0 && r.Undecided == 0
}

// DrillResult is the newest drill that passed.
type DrillResult struct {
	ConfigHash string    `json:"config_hash"`
	Passed     time.Time `json:"passed"`
	// Faults are the kinds of faults that passed drills under this configuration have rehearsed, each with the newest.
	Faults map[string]time.Time `json:"faults,omitempty"`
}

// InjectedFault is a fault that the instances inject for a drill.
type InjectedFault struct {
	ID     string    `json:"id"`
	Kind   string    `json:"kind"`
	Share  Percent   `json:"share"` // of the operations that it affects
	Reads  bool      `json:"reads"`
	Writes bool      `json:"writes"`
	Until  time.Time `json:"until"` // then it ends by itself
}

// String describes it, without its end.
func (f InjectedFault) String() string {
	of := "reads"
	switch {
	case f.Reads && f.Writes:
		of = "reads and writes"
	case f.Writes:
		of = "writes"
	}
	return fmt.Sprintf("%s, in %s %% of the target's %s", f.Kind, f.Share, of)
}

// VerificationResult is the newest verification of the rollback runbook.
type VerificationResult struct {
	Runbook    string    `json:"runbook"`
	SourceHash string    `json:"source_hash"` // of its text
	ConfigHash string    `json:"config_hash"`
	Passed     bool      `json:"passed"`
	At         time.Time `json:"at"`
}

// Approval is a person's approval of one step.
type Approval struct {
	Actor      string    `json:"actor"`
	To         Phase     `json:"to"`
	Epoch      int64     `json:"epoch"`
	ConfigHash string    `json:"config_hash"`
	Expires    time.Time `json:"expires"`
	Reason     string    `json:"reason"`
}

// Snapshot is the input of one decision, read in one transaction.
type Snapshot struct {
	Now time.Time `json:"now"` // of the state database
	// Actor is the session_user of the state database that reads the snapshot. Decides is
	// true if Actor is a member of phases.approval.role, or that names no role.
	Actor     string           `json:"actor"`
	Decides   bool             `json:"decides"`
	Status    Status           `json:"status"`
	Fleet     Fleet            `json:"fleet"`
	Backfill  *BackfillStatus  `json:"backfill,omitempty"`
	Reconcile *ReconcileResult `json:"reconcile,omitempty"` // the newest finished run
	// FullReconcile is the newest finished run that was full and two-way.
	FullReconcile *ReconcileResult `json:"full_reconcile,omitempty"`
	// FailedReconcile is the newest finished run that found differences, of either
	// kind: a clean sample after it does not hide it.
	FailedReconcile *ReconcileResult    `json:"failed_reconcile,omitempty"`
	Approvals       []Approval          `json:"approvals,omitempty"` // not yet expired, or of this epoch
	Drill           *DrillResult        `json:"drill,omitempty"`
	Fault           *InjectedFault      `json:"fault,omitempty"`   // in force now
	Runbook         *VerificationResult `json:"runbook,omitempty"` // the newest verification, passed or not
	// Evaluations are the newest of each measured gate, of whatever epoch.
	Evaluations []Evaluation `json:"evaluations,omitempty"`
	Latch       *Latch       `json:"latch,omitempty"` // an automatic rollback that no operator has acknowledged
	// Bypass is what legacy's counters show of writes that no instance reported; nil: they were not
	// looked at in this stay beyond legacy.
	Bypass *Bypass `json:"bypass,omitempty"`
	// Capture is what change capture does; nil: it has never run.
	Capture *Capture `json:"capture,omitempty"`
}

// Cause classifies a history entry.
type Cause string

// Causes.
const (
	CauseCreated   Cause = "created"
	CauseAdvance   Cause = "advance"
	CauseRollback  Cause = "rollback"
	CauseFence     Cause = "fence"     // a step of the fence's own protocol
	CauseFailure   Cause = "failure"   // a write that the target refused
	CauseConfig    Cause = "config"    // another migration file was applied
	CauseLoss      Cause = "loss"      // a store has lost data
	CauseTable     Cause = "table"     // legacy's table has changed beside the application: its parts, with no record gone, or records that no instance wrote
	CauseForgotten Cause = "forgotten" // all but the history was removed
	CauseEvict     Cause = "evict"     // an operator confirmed that a lapsed instance has stopped
	CausePause     Cause = "pause"
	CauseResume    Cause = "resume"
	CauseApprove   Cause = "approve"
	// CauseTrigger is an automatic rollback, which latches until CauseAcknowledge.
	CauseTrigger     Cause = "trigger"
	CauseAcknowledge Cause = "acknowledge"
	// CauseSchedule is a ramp's step that the daemon took when it was due.
	CauseSchedule Cause = "schedule"
)

// Move is one decided change of route.
type Move struct {
	From     Route        `json:"from"` // compare-and-set: the move is refused if the migration is elsewhere
	To       Route        `json:"to"`   // Epoch is given by the state
	Cause    Cause        `json:"cause"`
	Reason   string       `json:"reason"`
	Gates    []GateResult `json:"gates,omitempty"`
	Reclaim  bool         `json:"reclaim,omitempty"`   // the state has lost transactions: To is the route that Reclaimed returns
	Latch    *Latch       `json:"latch,omitempty"`     // with CauseTrigger only: what fired; At and Epoch are given by the state
	Attempt  string       `json:"attempt,omitempty"`   // set while a fence is being raised, is up or is being lifted; "" clears it
	FenceEra uint32       `json:"fence_era,omitempty"` // 0 keeps the present one
	// FirstFenceEra is the era in which the attempt fenced legacy; 0 keeps the present one.
	FirstFenceEra uint32 `json:"first_fence_era,omitempty"`
	// AcceptMissing is how many records a move to Returning may leave as legacy has them.
	AcceptMissing int64 `json:"accept_missing,omitempty"`
	// SetAside makes a move to Returning set aside what legacy refuses.
	SetAside bool `json:"set_aside,omitempty"`
}
