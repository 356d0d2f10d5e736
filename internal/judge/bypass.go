package judge

import (
	"time"

	"github.com/stranglerfig/migrator/dual/telemetry"
)

// CountedChanges is what legacy has counted up to a moment, since a comparison began.
type CountedChanges struct {
	At      time.Time `json:"at"` // by the state's clock, after the counters were read
	Changes int64     `json:"changes"`
}

const (
	// BypassSettle is how old a sample must be to be judged: by then every instance has reported what
	// it had written before it (a window is closed every 20 s at most).
	BypassSettle = 30 * time.Second
	// BypassHorizon is how far back samples are compared. Older telemetry is too coarse.
	BypassHorizon = 50 * time.Minute
	// bypassLeast is how many changes beyond all allowances are a finding: those of an operator's
	// single UPDATE, or of a preflight that writes a row and rolls back, are not.
	bypassLeast = 20
	// bypassWindows is how many windows' worth of reports may be on the other side of a sample: a
	// window covers ten seconds, arrives later, and legacy's sessions count up to ten seconds late.
	bypassWindows = 3
)

// Bypassed is a finding of Bypass.
type Bypassed struct {
	Least, Most int64
	Since       time.Time // the sample from which on they were made
	Upto        int       // the index of the sample that shows them; later ones are still to be judged
}

// Bypass finds changes that legacy has counted and no instance has reported, in samples (oldest
// first) and the telemetry since the first of them. Samples after settled are not judged yet. limit is the share of the reported changes that may
// come in addition, as of attempts that were rolled back inside a write.
//
// It proves harm: what can be explained by reports on the other side of a sample, or by attempts that
// failed, is no finding. That is the largest excess of counted over reported changes since any
// earlier sample (a CUSUM), less three of the busiest windows.
func Bypass(samples []CountedChanges, buckets []telemetry.Bucket, limit float64, settled time.Time) (found Bypassed, ok bool) {
	reported := make([]int64, len(buckets))
	var busiest int64
	for n := range buckets {
		reported[n] = int64(telemetry.N(buckets[n:n+1], telemetry.Series{Operation: telemetry.Change}))
		busiest = max(busiest, reported[n])
	}
	slack := bypassWindows * busiest
	// before is what was reported in the windows that end before a sample, or in its bucket.
	before := func(at time.Time) (n int64) {
		for i, b := range buckets {
			if b.Began.Before(at) {
				n += reported[i]
			}
		}
		return n
	}
	last := -1
	for n, s := range samples {
		if !s.At.After(settled) {
			last = n
		}
	}
	if last < 1 {
		return found, false
	}
	end, endReported := samples[last], before(samples[last].At)
	for _, s := range samples[:last] {
		counted, claimed := end.Changes-s.Changes, endReported-before(s.At)
		excess := counted - claimed - int64(limit*float64(claimed))
		if excess-slack >= found.Least { // of equal ones the latest: when they began
			found = Bypassed{Least: excess - slack, Most: max(counted-claimed, 0) + slack, Since: s.At, Upto: last}
		}
	}
	return found, found.Least >= bypassLeast
}
