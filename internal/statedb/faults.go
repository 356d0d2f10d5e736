package statedb

import (
	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/phases"
)

// Staging is the only environment in which faults are played.
const Staging = "staging"

// kept is a fault as the migration's row has it; its end is a column of its own.
type ActiveFault struct {
	ID     string         `json:"id"`
	Kind   dual.FaultKind `json:"kind"`
	Share  phases.Percent `json:"share"`
	Delay  int64          `json:"delay_ms"`
	Reads  bool           `json:"reads,omitempty"`
	Writes bool           `json:"writes,omitempty"`
}
