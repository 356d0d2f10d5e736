package drill

import (
	"encoding/json"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// Report is all that a drill has seen. Its times are the state database's, but for
// those of the load, which are this machine's moved to it.
type Report struct {
	Drill       int64     `json:"drill"` // its number in the state
	Migration   string    `json:"migration"`
	Environment string    `json:"environment"`
	ConfigHash  string    `json:"config_hash"`
	Rehearsal   string    `json:"rehearsal"` // hash of what was rehearsed: the same in every environment
	Actor       string    `json:"actor"`
	Program     string    `json:"program,omitempty"` // version
	Began       time.Time `json:"began"`
	Finished    time.Time `json:"finished"`

	Passed  bool     `json:"passed"`
	Reasons []string `json:"reasons"` // why not; empty if passed

	Fault        Fault         `json:"fault"`
	Steps        []Step        `json:"steps"`
	Before       string        `json:"route_before"`
	After        string        `json:"route_after"`
	Healthy      *Healthy      `json:"healthy,omitempty"`
	FaultTargets []FaultTarget `json:"instances,omitempty"` // that were to play the fault
	Daemon       *Killed       `json:"daemon,omitempty"`    // nil: none was killed
	Fired        *Fired        `json:"fired,omitempty"`
	Times        *Times        `json:"times,omitempty"`
	Load         *Totals       `json:"load,omitempty"`
	Ledger       *Checked      `json:"ledger,omitempty"`
	Controls     *Controls     `json:"controls,omitempty"`

	Reconciles []Reconciled `json:"reconciles"`
	Series     []Second     `json:"series"`
	Marks      []Mark       `json:"marks"`
}

// Fault is what was played.
type Fault struct {
	ID       string         `json:"id"`
	Kind     dual.FaultKind `json:"kind"`
	Share    phases.Percent `json:"share"`
	Delay    float64        `json:"delay_seconds,omitempty"`
	Reads    bool           `json:"reads"`
	Writes   bool           `json:"writes"`
	Injected time.Time      `json:"injected,omitzero"`
	Observed time.Time      `json:"observed,omitzero"` // the first operation that it was played on
	Lifted   time.Time      `json:"lifted,omitzero"`
	Executed int64          `json:"executed"` // operations that it was played on, as last told
}

// Step is one thing that was done, or awaited.
type Step struct {
	Name   string    `json:"name"`
	Began  time.Time `json:"began"`
	Took   float64   `json:"seconds"`
	OK     bool      `json:"ok"`
	Detail string    `json:"detail,omitempty"`
}

// Healthy is the time before the fault, in which nothing may fire.
type Healthy struct {
	From     time.Time      `json:"from"`
	Until    time.Time      `json:"until"`
	Reads    int64          `json:"reads"`
	Writes   int64          `json:"writes"` // acknowledged
	Triggers []Observations `json:"triggers"`
}

// Looks are how often a trigger came to which verdict.
type Observations struct {
	Trigger  string                 `json:"trigger"`
	Acts     bool                   `json:"acts"` // it is neither off nor a dry run
	Verdicts map[phases.Verdict]int `json:"verdicts"`
	Last     string                 `json:"last"` // what the last look said
}

// FaultTarget is what one live instance says of the fault.
type FaultTarget struct {
	Instance string    `json:"instance"`
	About    string    `json:"about"`
	Armed    bool      `json:"armed"` // it knows the fault
	Executed int64     `json:"executed"`
	First    time.Time `json:"first,omitzero"`
}

// Killed is the daemon that was killed while the fault was being played.
type Killed struct {
	Process string    `json:"process"`
	At      time.Time `json:"at"`
}

// Fired is what took reads back.
type Fired struct {
	Cause      phases.Cause    `json:"cause"` // trigger, or failure: a write that the target refused
	Trigger    string          `json:"trigger,omitempty"`
	Evaluation int64           `json:"evaluation,omitempty"`
	At         time.Time       `json:"at,omitzero"`
	Detail     string          `json:"detail"`
	Samples    int64           `json:"samples"`
	Value      float64         `json:"value"`
	Bound      float64         `json:"bound"`
	Limit      float64         `json:"limit"`
	Inputs     json.RawMessage `json:"inputs,omitempty"`
}

// Times are how long each part of the rollback took, in seconds.
type Times struct {
	Detect float64 `json:"detect"` // from the first operation that failed to the first verdict that said so
	Decide float64 `json:"decide"` // from there to the verdict that was acted on
	Commit float64 `json:"commit"` // from there to the new route
	Settle float64 `json:"settle"` // from there until every instance was on it
	Total  float64 `json:"total"`
}

// Totals are what the load came to.
type Totals struct {
	Kind   string `json:"kind"`
	Reads  int64  `json:"reads"`
	Writes int64  `json:"writes"` // acknowledged
	Failed int64  `json:"failed"` // reads and writes without success: such a write may have happened or not
}

// Checked is the write ledger held against the store that reads are routed to.
type Checked struct {
	Records     int64    `json:"records"`
	Lost        int64    `json:"lost"`          // an acknowledged write can't be read
	Stale       int64    `json:"stale"`         // an older state is read
	Behind      int64    `json:"target_behind"` // the target has an older state, and no journal knew of it
	Overwritten int64    `json:"overwritten"`   // somebody else has written since
	StaleReads  int64    `json:"stale_reads"`   // while the load ran: older than what was acknowledged before the read
	Harmed      int64    `json:"harmed_reads"`  // the same, of a corrupted target before reads were taken back
	Violations  []string `json:"violations"`    // the first of them
}

// OK tells that no acknowledged write is lost, and no read was older than one.
func (c *Checked) OK() bool {
	return c.Records > 0 && c.Lost == 0 && c.Stale == 0 && c.Behind == 0 && c.StaleReads == 0
}

// Controls show that the checks can fail, and that nothing fires without a fault.
type Controls struct {
	QuietWithoutFault    bool         `json:"quiet_without_fault"`
	Planted              []record.Key `json:"planted"`           // records that were taken out of the target
	PlantedFound         int          `json:"planted_found"`     // of them, by reconcile
	PlantedRewritten     int          `json:"planted_rewritten"` // of the others: somebody has written them meanwhile
	NegativeControlFound bool         `json:"phantom_found"`     // a write that never was is found to be lost
}

// Reconciled is one full reconcile.
type Reconciled struct {
	When        string  `json:"when"`
	Run         int64   `json:"run"`
	Checked     int64   `json:"checked"`
	Differences int64   `json:"differences"`
	Repaired    int64   `json:"repaired"`
	Unsettled   int64   `json:"unsettled"`
	Seconds     float64 `json:"seconds"`
}

// Second is one second of the load.
type Second struct {
	At       time.Time `json:"at"`
	Reads    int64     `json:"reads"`
	Writes   int64     `json:"writes"`
	Failed   int64     `json:"failed"`
	ReadP99  float64   `json:"read_p99_ms"`
	WriteP99 float64   `json:"write_p99_ms"`
}

// Mark is a moment that charts show.
type Mark struct {
	At   time.Time `json:"at"`
	What string    `json:"what"`
}
