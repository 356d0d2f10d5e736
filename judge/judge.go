// Package judge looks at a migration's evidence: it reads what instances have
// counted and what outside sources say, has package phases evaluate gates and
// triggers, and has every evaluation kept with what it rested on.
package judge

import (
	"context"
	"encoding/json"
	"time"

	"github.com/stranglerfig/migrator/evidence"
	"github.com/stranglerfig/migrator/phases"
)

// State remembers evidence and evaluations. state.Store is the one in PostgreSQL.
type State interface {
	Evidence(ctx context.Context, migration string) (phases.Evidence, error)
	// Observed returns what instances have counted since a moment of the state's
	// clock, oldest first. Young buckets are seconds long, older ones five minutes.
	Observed(ctx context.Context, migration string, since time.Time) ([]evidence.Bucket, error)
	// Record keeps evaluations and returns them with their ids and times.
	Record(ctx context.Context, migration string, all []phases.Evaluation) ([]phases.Evaluation, error)
}

// Source is evidence from outside: an expression asked of a Prometheus, a command.
type Source interface {
	Read(ctx context.Context) Reading
}

// Reading is what a source said. With a verdict (NoData, Error, or a command's Pass
// or Fail) that is the answer; without one, Value is compared with the limit.
type Reading struct {
	Verdict phases.Verdict
	Value   float64
	Detail  string          // for an operator; no secrets
	Inputs  json.RawMessage // what was asked and answered
}
