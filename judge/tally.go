package judge

import (
	"time"

	"github.com/stranglerfig/migrator/evidence"
	"github.com/stranglerfig/migrator/phases"
)

// tally counts what happened, and how much of it counts against.
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

// tallier counts in some buckets.
type tallier func([]evidence.Bucket) tally

// comparisons are those that came to a result.
func comparisons(b []evidence.Bucket) tally {
	n := func(o evidence.Outcome) int64 {
		return int64(evidence.N(b, evidence.Series{Operation: evidence.Comparison, Outcome: o}))
	}
	wrong := n(evidence.Mismatch) + n(evidence.Lost)
	return tally{N: n(evidence.Agreed) + n(evidence.Lagged) + wrong, K: wrong}
}

// failed counts one store's operations in one role. Whoever lost patience says
// nothing of the store.
func failed(b []evidence.Bucket, op evidence.Operation, role evidence.Role) tally {
	n := func(o evidence.Outcome) int64 {
		return int64(evidence.N(b, evidence.Series{Operation: op, Store: evidence.Target, Role: role, Outcome: o}))
	}
	bad := n(evidence.Failed) + n(evidence.TimedOut) + n(evidence.Rejected)
	return tally{N: n(evidence.OK) + bad, K: bad}
}

// targetWrites are all writes to the target, waited for or not.
func targetWrites(b []evidence.Bucket) tally { return failed(b, evidence.Write, "") }

// servingWrites are those that a caller waited for.
func servingWrites(b []evidence.Bucket) tally { return failed(b, evidence.Write, evidence.Serving) }

// targetReads are the reads that the route sends to the target. One that legacy
// answered in its stead counts against, whether the target was asked or not.
func targetReads(b []evidence.Bucket) tally {
	t := failed(b, evidence.Read, evidence.Serving)
	if fallen := int64(evidence.N(b, evidence.Series{Operation: evidence.Read, Role: evidence.Fallback})); fallen > t.K {
		t.N += fallen - t.K
		t.K = fallen
	}
	return t
}

// ofEpoch are the buckets of the present epoch and configuration.
func ofEpoch(b []evidence.Bucket, st phases.Standing) []evidence.Bucket {
	var own []evidence.Bucket
	for _, one := range b {
		if one.Epoch == st.Route.Epoch && one.ConfigHash == st.ConfigHash {
			own = append(own, one)
		}
	}
	return own
}

// lately are the buckets that end within a time before now.
func lately(b []evidence.Bucket, now time.Time, within time.Duration) []evidence.Bucket {
	var late []evidence.Bucket
	for _, one := range b {
		if one.Ended.After(now.Add(-within)) {
			late = append(late, one)
		}
	}
	return late
}
