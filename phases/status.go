package phases

import "time"

// Status is where a migration stands, as its row in the state database says.
type Status struct {
	Migration         string     `json:"migration"`
	Route             Route      `json:"route"`
	PhaseSince        time.Time  `json:"phase_since"`                   // when the phase was entered
	RouteSince        time.Time  `json:"route_since"`                   // when the epoch began
	Paused            string     `json:"paused,omitempty"`              // the reason, while paused
	ConfigHash        string     `json:"config_hash"`                   // of the description that is applied
	LegacyEpoch       int64      `json:"legacy_epoch"`                  // the last epoch in phase legacy; 0: never
	Dirty             time.Time  `json:"dirty,omitzero"`                // until when writes of a lease that ended uncleanly may land; zero: there was none
	Attempt           string     `json:"attempt,omitempty"`             // of the fence that stands or is being raised or lifted
	FenceEra          uint32     `json:"fence_era,omitempty"`           // the era that writes of retain belong to
	Reversible        bool       `json:"reversible"`                    // retain journals the keys it writes
	ReturnKeys        int64      `json:"return_keys"`                   // in the return journal
	JournalKeys       int64      `json:"journal_keys"`                  // keys whose target copy is known to be behind
	LastCause         string     `json:"last_cause,omitempty"`          // of the newest history entry
	LastReason        string     `json:"last_reason,omitempty"`         //
	LastActor         string     `json:"last_actor,omitempty"`          //
	Environment       string     `json:"environment,omitempty"`         //
	StateLoss         *StateLoss `json:"state_loss,omitempty"`          // what the state database has forgotten; nil: nothing that is known
	ReturnJournalLost bool       `json:"return_journal_lost,omitempty"` // the return journal may lack keys: a way back looks through the target for them
}

// Lease is one instance of the fleet.
type Lease struct {
	Instance     string    `json:"instance"`
	Acknowledged int64     `json:"acknowledged_epoch"`
	Joined       time.Time `json:"joined"`
	Renewed      time.Time `json:"renewed"`
	Expires      time.Time `json:"expires"`
	Lapsed       bool      `json:"lapsed"` // ran out without leaving
	About        string    `json:"about"`  // host, pid, program
}

// Fleet is the evidence of the leases.
type Fleet struct {
	Live       int      `json:"live"`
	Behind     int      `json:"behind"`      // live, but have not acknowledged the present epoch
	Lapsed     []string `json:"lapsed"`      // instances whose lease ran out without leaving
	LiveRoutes []Route  `json:"live_routes"` // the routes that a live lease may still be on, newest first
}

// Settled tells that every instance is known to be on the present route.
func (f Fleet) Settled() bool { return f.Behind == 0 && len(f.Lapsed) == 0 }

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
	TwoWay      bool      `json:"two_way"` // extras of the target looked for too
	Checked     int64     `json:"checked"`
	Differences int64     `json:"differences"` // confirmed, whether repaired afterwards or not
	Repaired    int64     `json:"repaired"`    // of these, and of the journal's keys
	// Lost counts those of Differences that are kept by name and were missing or older in
	// the target though no journal knew of them.
	LostWrites int64 `json:"lost_writes,omitempty"`
}

// Clean tells that the run found no confirmed difference. A run that repaired
// what it found is not clean: only a later one is.
func (r *ReconcileResult) Clean() bool { return r != nil && r.Differences == 0 && r.Repaired == 0 }

// DrillResult is the newest drill that passed.
type DrillResult struct {
	ConfigHash string    `json:"config_hash"`
	Passed     time.Time `json:"passed"`
}

// VerificationResult is the newest verification of the rollback runbook.
type VerificationResult struct {
	Runbook    string    `json:"runbook"`
	SourceHash string    `json:"source_hash"` // of its text
	ConfigHash string    `json:"config_hash"`
	Passed     bool      `json:"passed"`
	At         time.Time `json:"at"`
}

// Approval is a person's word for one step.
type Approval struct {
	Actor      string    `json:"actor"`
	To         Phase     `json:"to"`
	Epoch      int64     `json:"epoch"`
	ConfigHash string    `json:"config_hash"`
	Expires    time.Time `json:"expires"`
	Reason     string    `json:"reason"`
}

// Snapshot is all that a decision rests on, read in one transaction.
type Snapshot struct {
	Now time.Time `json:"now"` // of the state database
	// Actor is the state database's session_user who reads this, and Decides tells that
	// phases.approval.role, if it names a role, has him as a member.
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
	Approvals       []Approval          `json:"approvals,omitempty"` // not yet expired
	Drill           *DrillResult        `json:"drill,omitempty"`
	Runbook         *VerificationResult `json:"runbook,omitempty"` // the newest verification, passed or not
	// Evaluations are the newest of each measured gate, of whatever epoch.
	Evaluations []Evaluation `json:"evaluations,omitempty"`
	Latch       *Latch       `json:"latch,omitempty"` // an automatic rollback that nobody has acknowledged
}

// Cause classifies a history entry.
type Cause string

// Causes.
const (
	CauseCreated  Cause = "created"
	CauseAdvance  Cause = "advance"
	CauseRollback Cause = "rollback"
	CauseFence    Cause = "fence"   // a step of the fence's own protocol
	CauseFailure  Cause = "failure" // a write that the target refused
	CauseConfig   Cause = "config"  // another description was applied
	CauseEvict    Cause = "evict"   // an operator's word for a lapsed instance
	CausePause    Cause = "pause"
	CauseResume   Cause = "resume"
	CauseApprove  Cause = "approve"
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
	Reclaim  bool         `json:"reclaim,omitempty"`   // the state has lost transactions: To is what Reclaimed says
	Latch    *Latch       `json:"latch,omitempty"`     // with CauseTrigger, and with no other: what fired; At and Epoch are given by the state
	Attempt  string       `json:"attempt,omitempty"`   // set while a fence is on its way; "" clears it
	FenceEra uint32       `json:"fence_era,omitempty"` // 0 keeps the present one
}
