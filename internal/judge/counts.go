package judge

import (
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/phases"
)

// tally counts N operations or comparisons, of which K are bad.
type tally struct {
	N int64 `json:"n"`
	K int64 `json:"k"`
	// Untried operations were refused by an open breaker, without asking the target.
	Untried int64 `json:"untried,omitempty"`
}

func (t tally) add(o tally) tally { return tally{t.N + o.N, t.K + o.K, t.Untried + o.Untried} }

// besides is what a text says of the untried operations.
func (t tally) besides() string {
	if t.Untried == 0 {
		return ""
	}
	return fmt.Sprintf(" (%d were not tried)", t.Untried)
}

func (t tally) share() float64 {
	if t.N == 0 {
		return 0
	}
	return float64(t.K) / float64(t.N)
}

// tallier counts in buckets.
type tallier func([]telemetry.Bucket) tally

// comparisons counts completed comparisons, and those that differ. Those that follow a miss are
// left out: they are no sample of the reads.
func comparisons(b []telemetry.Bucket) tally {
	n := func(o telemetry.Outcome) int64 {
		return int64(telemetry.N(b, telemetry.Series{Operation: telemetry.Comparison, Role: telemetry.Shadow, Outcome: o}))
	}
	wrong := n(telemetry.Mismatch) + n(telemetry.LostWrite)
	return tally{N: n(telemetry.Agreed) + n(telemetry.Lagged) + wrong, K: wrong}
}

// asked counts the operations of one role that the target was asked for, and of those the ones
// that it failed. Left out are those that prove nothing about it: canceled by their caller,
// refused by an open breaker, or answered by legacy because of the instance's own lease or
// journal.
func asked(b []telemetry.Bucket, op telemetry.Operation, role telemetry.Role) tally {
	n := func(o telemetry.Outcome) int64 {
		return int64(telemetry.N(b, telemetry.Series{Operation: op, Store: telemetry.Target, Role: role, Outcome: o}))
	}
	bad := n(telemetry.Failed) + n(telemetry.TimedOut)
	return tally{N: n(telemetry.OK) + bad, K: bad, Untried: n(telemetry.Rejected)}
}

// askedWrites counts the writes that a caller waited for.
func askedWrites(b []telemetry.Bucket) tally { return asked(b, telemetry.Write, telemetry.Serving) }

// askedReads counts the reads that the target was asked for.
func askedReads(b []telemetry.Bucket) tally { return asked(b, telemetry.Read, telemetry.Serving) }

// served is a tally for a gate: what the breaker refused counts as failed too. The target had
// failed just before, and in an outage nearly all operations are refused that way: an advance
// must not be decided on the few others.
func served(t tally) tally { return tally{N: t.N + t.Untried, K: t.K + t.Untried, Untried: t.Untried} }

// targetWrites counts all writes to the target for a gate, also those in the background.
func targetWrites(b []telemetry.Bucket) tally { return served(asked(b, telemetry.Write, "")) }

// targetReads counts the reads that the route sends to the target for a gate.
func targetReads(b []telemetry.Bucket) tally { return served(askedReads(b)) }

// ofEpoch returns the buckets of the present epoch and configuration.
func ofEpoch(b []telemetry.Bucket, st phases.Status) []telemetry.Bucket {
	var own []telemetry.Bucket
	for _, one := range b {
		if one.Epoch == st.Route.Epoch && one.ConfigHash == st.ConfigHash {
			own = append(own, one)
		}
	}
	return own
}

// within returns the buckets that end within a time before now.
func within(b []telemetry.Bucket, now time.Time, within time.Duration) []telemetry.Bucket {
	var late []telemetry.Bucket
	for _, one := range b {
		if one.Ended.After(now.Add(-within)) {
			late = append(late, one)
		}
	}
	return late
}
