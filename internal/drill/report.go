package drill

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// Report is the result of a drill. Its times are the state database's. Those of the load are
// this machine's, converted by the offset of the clocks.
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
	Reasons []string `json:"reasons"` // why it failed; empty if passed

	Fault        Fault         `json:"fault"`
	Steps        []Step        `json:"steps"`
	Before       string        `json:"route_before"`
	After        string        `json:"route_after"`
	Healthy      *Healthy      `json:"healthy,omitempty"`
	FaultTargets []FaultTarget `json:"instances,omitempty"` // that the fault was injected on
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

// Fault is the fault that was injected.
type Fault struct {
	ID       string         `json:"id"`
	Kind     dual.FaultKind `json:"kind"`
	Share    phases.Percent `json:"share"`
	Delay    float64        `json:"delay_seconds,omitempty"`
	Reads    bool           `json:"reads"`
	Writes   bool           `json:"writes"`
	Injected time.Time      `json:"injected,omitzero"`
	Observed time.Time      `json:"observed,omitzero"` // the first operation that it was injected into
	Lifted   time.Time      `json:"lifted,omitzero"`
	Executed int64          `json:"executed"` // operations that it was injected into, as last reported
}

// Step is one part of the drill.
type Step struct {
	Name   string    `json:"name"`
	Began  time.Time `json:"began"`
	Took   float64   `json:"seconds"`
	OK     bool      `json:"ok"`
	Detail string    `json:"detail,omitempty"`
}

// Healthy is the baseline period before the fault, in which no trigger may fire.
type Healthy struct {
	From     time.Time      `json:"from"`
	Until    time.Time      `json:"until"`
	Reads    int64          `json:"reads"`
	Writes   int64          `json:"writes"` // acknowledged
	Triggers []Observations `json:"triggers"`
}

// Observations counts a trigger's evaluations by verdict.
type Observations struct {
	Trigger  string                 `json:"trigger"`
	Acts     bool                   `json:"acts"` // it is neither off nor a dry run
	Verdicts map[phases.Verdict]int `json:"verdicts"`
	Last     string                 `json:"last"` // detail of the last evaluation
}

// FaultTarget is what one live instance reports of the fault.
type FaultTarget struct {
	Instance string    `json:"instance"`
	About    string    `json:"about"`
	Armed    bool      `json:"armed"` // the fault is active on it
	Executed int64     `json:"executed"`
	First    time.Time `json:"first,omitzero"`
}

// Killed is the daemon that was killed while the fault was active.
type Killed struct {
	Process string    `json:"process"`
	At      time.Time `json:"at"`
}

// Fired is what rolled back.
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
	Detect float64 `json:"detect"` // from the first failed operation to the first firing verdict
	Decide float64 `json:"decide"` // from there to the verdict that was acted on
	Commit float64 `json:"commit"` // from there to the new route
	Settle float64 `json:"settle"` // from there until every instance was on it
	Total  float64 `json:"total"`
	// FromInjection is from the injection until every instance was on the new route: instances take a fault up
	// with their next renewal.
	FromInjection float64 `json:"from_injection"`
}

// Totals are the operations of the load.
type Totals struct {
	Kind   string `json:"kind"`
	Reads  int64  `json:"reads"`
	Writes int64  `json:"writes"` // acknowledged
	Failed int64  `json:"failed"` // reads and writes that failed; the outcome of such a write is unknown
}

// Checked is the comparison of the ledger with the store that the route reads.
type Checked struct {
	Records     int64    `json:"records"`
	Lost        int64    `json:"lost"`                  // lost writes: an acknowledged write can't be read
	Stale       *int64   `json:"stale,omitempty"`       // an older state is read; nil: nothing distinguishes states
	Behind      int64    `json:"target_behind"`         // the target has an older state that was not journaled
	Overwritten int64    `json:"overwritten"`           // written by the application since
	StaleReads  *int64   `json:"stale_reads,omitempty"` // while the load ran: older than what was acknowledged before the read; nil: no read was watched
	Watched     int64    `json:"watched_reads"`         // reads whose answers were compared with what was acknowledged
	Harmed      int64    `json:"harmed_reads"`          // the same, while the target was corrupted and before the rollback
	Violations  []string `json:"violations"`            // the first of them
}

// OK reports whether no acknowledged write is lost or stale, and no read was stale.
func (c *Checked) OK() bool {
	return c.Records > 0 && c.Lost == 0 && count(c.Stale) == 0 && c.Behind == 0 && count(c.StaleReads) == 0
}

func (c *Checked) staleReadsText() string {
	if c.StaleReads == nil {
		return "not watched"
	}
	return fmt.Sprintf("%d of %d that were watched", *c.StaleReads, c.Watched)
}

// wrong lists what is wrong, with numbers.
func (c *Checked) wrong() string {
	return fmt.Sprintf("of %d records %d writes are lost and %s, %d are older in the target than acknowledged, %s",
		c.Records, c.Lost, watchedText(c.Stale, "stale"), c.Behind, watchedText(c.StaleReads, "reads stale"))
}

// count is zero for what was not watched.
func count(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}

// watchedText is a count with its name; what nothing watched is no zero.
func watchedText(n *int64, name string) string {
	if n == nil {
		return name + ": not watched"
	}
	return fmt.Sprintf("%d %s", *n, name)
}

// Controls show that the checks can fail, and that no trigger fires without a fault.
type Controls struct {
	QuietWithoutFault    bool         `json:"quiet_without_fault"`
	Planted              []record.Key `json:"planted"`           // records that were removed from the target
	PlantedFound         int          `json:"planted_found"`     // of them, by reconcile
	PlantedRewritten     int          `json:"planted_rewritten"` // of the others: the application has written them meanwhile
	NegativeControlFound bool         `json:"phantom_found"`     // a write that was never made is reported as lost
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
