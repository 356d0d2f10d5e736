package judge

import (
	"time"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/phases"
)

// tally counts N operations or comparisons, of which K are bad.
type tally struct {
	N int64 `json:"n"`
	K int64 `json:"k"`
}

func (t tally) share() float64 {
	if t.N == 0 {
		return 0
	}
	return float64(t.K) / float64(t.N)
}

// tallier counts in buckets.
type tallier func([]telemetry.Bucket) tally

// comparisons counts completed comparisons, and those that differ.
func comparisons(b []telemetry.Bucket) tally {
	n := func(o telemetry.Outcome) int64 {
		return int64(telemetry.N(b, telemetry.Series{Operation: telemetry.Comparison, Outcome: o}))
	}
	wrong := n(telemetry.Mismatch) + n(telemetry.LostWrite)
	return tally{N: n(telemetry.Agreed) + n(telemetry.Lagged) + wrong, K: wrong}
}

// failed counts one store's operations in one role. Operations that their caller canceled
// are left out: they do not measure the store.
func failed(b []telemetry.Bucket, op telemetry.Operation, role telemetry.Role) tally {
	n := func(o telemetry.Outcome) int64 {
		return int64(telemetry.N(b, telemetry.Series{Operation: op, Store: telemetry.Target, Role: role, Outcome: o}))
	}
	bad := n(telemetry.Failed) + n(telemetry.TimedOut) + n(telemetry.Rejected)
	return tally{N: n(telemetry.OK) + bad, K: bad}
}

// targetWrites counts all writes to the target, also those in the background.
func targetWrites(b []telemetry.Bucket) tally { return failed(b, telemetry.Write, "") }

// servingWrites counts the writes to the target that a caller waited for.
func servingWrites(b []telemetry.Bucket) tally { return failed(b, telemetry.Write, telemetry.Serving) }

// targetReads counts the reads that the route sends to the target. A read that fell back to
// legacy counts as failed, whether the target was queried or not.
func targetReads(b []telemetry.Bucket) tally {
	t := failed(b, telemetry.Read, telemetry.Serving)
	if fallen := int64(telemetry.N(b, telemetry.Series{Operation: telemetry.Read, Role: telemetry.Fallback})); fallen > t.K {
		t.N += fallen - t.K
		t.K = fallen
	}
	return t
}

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
