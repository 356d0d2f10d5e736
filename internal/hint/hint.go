// Package hint separates a remedy from the error that it belongs to. A library names an
// action and its subjects. Only the program that offers the action knows its form, such
// as a command line or a button.
package hint

import "strings"

// Action is something that migrator can do about an error. Its text is part of the
// programs' JSON contract: an action may be added, none is renamed.
type Action string

// Actions, with their subjects in order.
const (
	Init                Action = "init"                  // install or upgrade the state's schema
	GrantOperator       Action = "grant-operator"        // role, if it is known
	GrantApplication    Action = "grant-application"     // role, if it is known
	GrantServer         Action = "grant-server"          // role, if it is known
	SetStateURL         Action = "state-url"             // name the state database
	Listen              Action = "listen"                // choose the address that HTTP listens at
	SetMigrationFile    Action = "migration-file"        // name the migration file
	Apply               Action = "apply"                 // the migration file
	AddField            Action = "add-field"             // column: move it from now on
	DropField           Action = "drop-field"            // column: do not move it any more
	ChangeField         Action = "change-field"          // column, column: stop to move the first, and move the second as the table has it
	LiftFence           Action = "lift-fence"            // attempt: legacy takes writes again
	Doctor              Action = "doctor"                // check settings, state database and stores
	Status              Action = "status"                // show migrations' status and gates
	Retry               Action = "retry"                 // the same operation again
	Serve               Action = "serve"                 // start the daemon
	Advance             Action = "advance"               // take the next step
	AdvanceDryRun       Action = "advance-dry-run"       // evaluate the gates of the next step
	Approve             Action = "approve"               // phase, if it is known
	Override            Action = "override"              // gate: advance without what it would measure
	Acknowledge         Action = "acknowledge"           // an automatic rollback
	Resume              Action = "resume"                // a paused migration
	Reclaim             Action = "reclaim"               // a migration after state loss
	Rollback            Action = "rollback"              // to the nearest phase that reads from legacy
	RollbackTo          Action = "rollback-to"           // phase, percentage
	RollbackToGrace     Action = "rollback-to-grace"     // undo the fence
	RollbackToLegacy    Action = "rollback-to-legacy"    // to where what is moved may change
	AcceptMissing       Action = "accept-missing"        // number: roll back without the records that the target has lost
	Claim               Action = "claim"                 // the target's keys, although the target lost data
	TakeOver            Action = "take-over"             // the target's keys, from another migration
	Forget              Action = "forget"                // migration: end it in all stores
	Rehearse            Action = "rehearse"              // the rollback from retain: list what legacy would refuse
	SetAside            Action = "set-aside"             // roll back without the records that legacy refuses
	GateExplain         Action = "gate-explain"          // gate
	FleetList           Action = "fleet-list"            // see the instances
	FleetEvict          Action = "fleet-evict"           // instance
	BackfillRun         Action = "backfill-run"          // copy all records
	ReconcileRun        Action = "reconcile-run"         // compare
	ReconcileFull       Action = "reconcile-full"        // compare all records, both ways
	ReconcileRepair     Action = "reconcile-repair"      // compare and repair
	ReconcileFullRepair Action = "reconcile-full-repair" // compare all records, both ways, and repair
	ReconcileResume     Action = "reconcile-resume"      // the newest run that was interrupted or failed
	ReconcileList       Action = "reconcile-list"        // see the runs
	ReconcileShow       Action = "reconcile-show"        // run
	RunbookVerify       Action = "runbook-verify"        // runbook
	RunbookList         Action = "runbook-list"          // see the runs
	RunbookShow         Action = "runbook-show"          // run
	RunbookRender       Action = "runbook-render"        // which: rollback or cutover
	RunbookResume       Action = "runbook-resume"        // run
	RunbookDecide       Action = "runbook-decide"        // run, step, outcome: resume with a decision on a step
	RunbookApprove      Action = "runbook-approve"       // run, step
	DrillList           Action = "drill-list"            // see the drills
	DrillShow           Action = "drill-show"            // drill
	DrillLift           Action = "drill-lift"            // end the fault that a drill left
)

// Actions lists all actions.
func Actions() []Action {
	return []Action{
		Init, GrantOperator, GrantApplication, GrantServer, SetStateURL, Listen, SetMigrationFile, Apply, AddField, DropField, ChangeField, LiftFence, Doctor, Status, Retry, Serve,
		Advance, AdvanceDryRun, Approve, Override, Acknowledge, Resume, Reclaim, Rollback, RollbackTo, RollbackToGrace, RollbackToLegacy, AcceptMissing, Claim, TakeOver, Forget, Rehearse, SetAside, GateExplain,
		FleetList, FleetEvict, BackfillRun,
		ReconcileRun, ReconcileFull, ReconcileRepair, ReconcileFullRepair, ReconcileResume, ReconcileList, ReconcileShow,
		RunbookVerify, RunbookList, RunbookShow, RunbookRender, RunbookResume, RunbookDecide, RunbookApprove,
		DrillList, DrillShow, DrillLift,
	}
}

// Hint is the remedy of an error. The zero value is no hint.
type Hint struct {
	Do Action   `json:"do,omitempty"`
	Of []string `json:"of,omitempty"` // the subjects of Do: see the constants
	// Text is a remedy outside migrator if Do is empty. Else it is a condition or an
	// alternative: a clause that follows the action.
	Text string `json:"text,omitempty"`
}

// IsZero reports whether there is no hint; JSON omits such a field (omitzero).
func (h Hint) IsZero() bool { return h.Do == "" && len(h.Of) == 0 && h.Text == "" }

// String is for logs: the action's code, its subjects and the text.
func (h Hint) String() string {
	head := strings.Join(append([]string{string(h.Do)}, h.Of...), " ")
	if h.Do == "" || h.Text == "" {
		return strings.TrimSpace(head + h.Text)
	}
	return head + ", " + h.Text
}
