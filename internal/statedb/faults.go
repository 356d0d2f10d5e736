package statedb

import (
	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/phases"
)

// Staging is the only environment in which faults are injected.
const Staging = "staging"

// ActiveFault is a fault as the migration's row stores it; its end is a separate column.
type ActiveFault struct {
	ID     string         `json:"id"`
	Kind   dual.FaultKind `json:"kind"`
	Share  phases.Percent `json:"share"`
	Delay  int64          `json:"delay_ms"`
	Reads  bool           `json:"reads,omitempty"`
	Writes bool           `json:"writes,omitempty"`
}
