// Package telemetry is what application instances count: the vocabulary that the
// instances, the state and the gates share. It does no I/O.
package telemetry

import (
	"cmp"
	"slices"
	"time"

	"github.com/stranglerfig/migrator/internal/stats/sketch"
)

// Operation is what was done.
type Operation string

// Operations. A comparison is what a shadow read ends in.
const (
	Read       Operation = "read"
	Write      Operation = "write"
	Comparison Operation = "comparison"
	// Change is a row of legacy that a write changed, as its closure returned it. Of a write that
	// failed it is a row that it would have changed: legacy's counters may have that too.
	Change Operation = "change"
)

// Store is where it was done.
type Store string

// Stores. Of a comparison and of a write's added time it is Both.
const (
	Legacy Store = "legacy"
	Target Store = "target"
	Both   Store = "both"
)

// Role is what the result was for.
type Role string

// Roles.
const (
	Serving Role = "serving" // the caller got it, or waited for it
	Shadow  Role = "shadow"  // made beside the caller's: a shadow read, a background write
	// Legacy answered where the route names the target. Only a Fallback is a failure of the
	// target: it was asked, and failed.
	Fallback Role = "fallback"
	Untried  Role = "untried"  // the breaker was open: the target was not asked
	Lapsed   Role = "lapsed"   // the instance's lease has expired
	Degraded Role = "degraded" // the instance knows that the target lacks its write
	Missed   Role = "missed"   // the target has neither the record nor a version of it
	// Added is the time that a write's caller waited after legacy had the write;
	// its store is Both, its count that of the writes.
	Added Role = "added"
)

// Outcome is how it ended.
type Outcome string

// Outcomes of reads and writes. A record that does not exist is OK. Cancelled (the
// caller gave up) and Faulty prove nothing about the store.
const (
	OK        Outcome = "ok"
	Failed    Outcome = "error"
	TimedOut  Outcome = "timeout"
	Rejected  Outcome = "rejected" // by an open breaker, without asking the store
	Cancelled Outcome = "cancelled"
	// Faulty: a write that failed by itself, while the store works: too late (legacy or the
	// application was slow), without a version, a record that can't be encoded or stored.
	Faulty Outcome = "faulty"
)

// Outcomes of comparisons. Those of the role Shadow are a sample of the reads; those of the role
// Missed are of reads whose record only legacy had.
const (
	Agreed    Outcome = "agreed"
	Lagged    Outcome = "lagged"   // agreed at a recheck, or the target was still changing, or its key is journaled
	Mismatch  Outcome = "mismatch" // confirmed
	LostWrite Outcome = "lost"     // confirmed: legacy has the record, the target lacks it without a version, no journal has its key
	Aborted   Outcome = "undone"   // could not be completed: error, timeout, panic, route replaced
	Dropped   Outcome = "dropped"  // too many at once
)

// Series is one combination of operation, store, role and outcome.
type Series struct {
	Operation Operation `json:"operation"`
	Store     Store     `json:"store"`
	Role      Role      `json:"role"`
	Outcome   Outcome   `json:"outcome"`
}

// Count is how often a series was counted, with the durations of the timed operations:
// a sample, chosen before they began. Latency is nil if none was timed.
type Count struct {
	Series
	N       uint64
	Latency *sketch.Sketch
}

// Exemplar is a timed attempt that a trace has: one that was counted in the latency of its series.
type Exemplar struct {
	Series
	Took    time.Duration
	At      time.Time
	TraceID string
	SpanID  string
}

// BreakerState is the state of a circuit breaker.
type BreakerState string

// States of a breaker.
const (
	BreakerClosed   BreakerState = "closed"
	BreakerOpen     BreakerState = "open"
	BreakerHalfOpen BreakerState = "half-open" // a probe is under way, or the next operation is one
)

// Breaker is a circuit breaker of an instance.
type Breaker struct {
	Name  string // reads or writes of the target, its clock, or the journal
	State BreakerState
}

// Window is what one instance has counted under one epoch in some seconds. An
// incarnation is one process's part in the migration: it outlives leases. Its sequence
// rises, so that a window that is reported twice counts once.
type Window struct {
	Incarnation string
	Instance    string
	Sequence    int64
	Epoch       int64
	ConfigHash  string // of the migration file that the instance's grant was made under
	Length      time.Duration
	Age         time.Duration // between its end and its being sent, by a clock that runs in suspend
	Counts      []Count       // no series twice
	Discarded   uint64        // windows before this one that were discarded while the state was unreachable
}

// Bucket is what all instances counted under one epoch and configuration in a
// period of time, by the state's clock.
type Bucket struct {
	Epoch      int64
	ConfigHash string
	Began      time.Time
	Ended      time.Time
	Instances  int // that reported at least one window
	Counts     []Count
}

// Add merges counts into the bucket's.
func (b *Bucket) Add(counts []Count) {
	for _, c := range counts {
		at := slices.IndexFunc(b.Counts, func(have Count) bool { return have.Series == c.Series })
		if at < 0 {
			b.Counts = append(b.Counts, Count{Series: c.Series})
			at = len(b.Counts) - 1
		}
		have := &b.Counts[at]
		have.N += c.N
		if c.Latency != nil {
			if have.Latency == nil {
				have.Latency = new(sketch.Sketch)
			}
			have.Latency.Merge(c.Latency)
		}
	}
}

// N sums the counts of the series that match; an empty part of the pattern matches any.
func N(buckets []Bucket, pattern Series) (n uint64) {
	for _, b := range buckets {
		for _, c := range b.Counts {
			if pattern.matches(c.Series) {
				n += c.N
			}
		}
	}
	return n
}

// Latency merges the sketches of the series that match.
func Latency(buckets []Bucket, pattern Series) *sketch.Sketch {
	sum := new(sketch.Sketch)
	for _, b := range buckets {
		for _, c := range b.Counts {
			if c.Latency != nil && pattern.matches(c.Series) {
				sum.Merge(c.Latency)
			}
		}
	}
	return sum
}

func (p Series) matches(s Series) bool {
	return (p.Operation == "" || p.Operation == s.Operation) && (p.Store == "" || p.Store == s.Store) &&
		(p.Role == "" || p.Role == s.Role) && (p.Outcome == "" || p.Outcome == s.Outcome)
}

// Compare orders series for stable output.
func Compare(a, b Series) int {
	return cmp.Or(cmp.Compare(a.Operation, b.Operation), cmp.Compare(a.Store, b.Store), cmp.Compare(a.Role, b.Role), cmp.Compare(a.Outcome, b.Outcome))
}
