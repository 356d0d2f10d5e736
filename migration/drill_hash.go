package migration

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/stranglerfig/migrator/phases"
)

// DrillHash is a hash of what a drill rehearses: what is moved and where to, how it is
// compared, how writes reach the target, and the triggers. Migration files of staging and
// of production share it although they differ in the environment, in the duration of
// phases, in their gates and in what Hash leaves out.
func (m *Config) DrillHash() string {
	what := *m
	what.Environment, what.Schema = "", nil
	what.Phases = phases.Schedule{}
	what.Gates = phases.GateSettings{}
	sum := sha256.Sum256([]byte("rehearsal " + what.Hash()))
	return hex.EncodeToString(sum[:])
}
