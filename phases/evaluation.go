package phases

import (
	"encoding/json"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
)

// Kind distinguishes gates from triggers.
type Kind string

// Kinds of evaluations.
const (
	GateKind    Kind = "gate"
	TriggerKind Kind = "trigger"
)

// Verdicts of triggers, beside NoData and Error: harm is not proven, or it is.
const (
	Quiet  Verdict = "quiet"
	Firing Verdict = "firing"
)

// Times of what an Alertmanager sends.
const (
	// AlertsFresh is how long its Watchdog, or a firing alert, may not be repeated.
	AlertsFresh = 5 * time.Minute
	// ClocksDiffer is by how much the clocks of Prometheus and of the state may differ.
	ClocksDiffer = 5 * time.Minute
)

// Labels of the alerts of configs/prometheus.
const (
	// Watchdog is the name of the alert that fires always, so that silence is noticed.
	Watchdog = "Watchdog"
	// OwnSource is the label source of alerts about migrator. None fires a trigger: that a
	// trigger is blind, or was rolled back, proves no harm.
	OwnSource = "migrator"
)

// Evaluation is one evaluation of a measured gate or a trigger, with its inputs. The
// state keeps it. It counts only for the epoch and configuration it was made under.
type Evaluation struct {
	ID         int64     `json:"id,omitzero"` // given by the state
	Kind       Kind      `json:"kind"`
	Name       string    `json:"name"`
	At         time.Time `json:"at"` // by the state database
	Epoch      int64     `json:"epoch"`
	ConfigHash string    `json:"config_hash"`
	Verdict    Verdict   `json:"verdict"`
	Detail     string    `json:"detail"`
	Hint       hint.Hint `json:"hint,omitzero"`
	Due        time.Time `json:"due,omitzero"` // when, at the present rate or by time alone, a gate will pass
	DryRun     bool      `json:"dry_run,omitempty"`

	Samples int64   `json:"samples"`
	Value   float64 `json:"value"` // as measured: a share, a ratio, seconds
	Bound   float64 `json:"bound"` // its confidence bound: upper for a gate, lower for a trigger
	Limit   float64 `json:"limit"` // what the bound is compared with
	// Inputs are the other inputs: with them the verdict can be computed again.
	Inputs json.RawMessage `json:"inputs,omitempty"`
}

// unbounded is the bound, in seconds, of a measure that has too few samples for one.
const unbounded = 9e9

// Bounded reports whether the samples are enough for a bound.
func (e Evaluation) Bounded() bool { return e.Bound < unbounded }

// Latch is an automatic rollback that no operator has acknowledged yet. While it
// exists, the migration does not advance.
type Latch struct {
	Trigger    string    `json:"trigger"`
	Evaluation int64     `json:"evaluation"` // that fired
	Epoch      int64     `json:"epoch"`      // of the rollback
	At         time.Time `json:"at"`
	Reason     string    `json:"reason"`
}
