package dual

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/internal/stats/sketch"
)

// kind is a telemetry series without its outcome.
type kind uint8

const (
	readLegacy kind = iota
	readTarget
	readFallback // of legacy, where the route names the target: it failed
	readUntried  // the same, its breaker was open
	readLapsed   // the same, the lease had expired
	readDegraded // the same, the copy is known to be behind
	readMissed   // the same, the target has neither the record nor a version of it
	shadowLegacy
	shadowTarget
	writeLegacy
	writeTarget
	writeBehind // in the background
	writeAdded
	changedRow // of legacy
	kinds
)

var kindNames = [kinds]telemetry.Series{
	readLegacy:   {Operation: telemetry.Read, Store: telemetry.Legacy, Role: telemetry.Serving},
	readTarget:   {Operation: telemetry.Read, Store: telemetry.Target, Role: telemetry.Serving},
	readFallback: {Operation: telemetry.Read, Store: telemetry.Legacy, Role: telemetry.Fallback},
	readUntried:  {Operation: telemetry.Read, Store: telemetry.Legacy, Role: telemetry.Untried},
	readLapsed:   {Operation: telemetry.Read, Store: telemetry.Legacy, Role: telemetry.Lapsed},
	readDegraded: {Operation: telemetry.Read, Store: telemetry.Legacy, Role: telemetry.Degraded},
	readMissed:   {Operation: telemetry.Read, Store: telemetry.Legacy, Role: telemetry.Missed},
	shadowLegacy: {Operation: telemetry.Read, Store: telemetry.Legacy, Role: telemetry.Shadow},
	shadowTarget: {Operation: telemetry.Read, Store: telemetry.Target, Role: telemetry.Shadow},
	writeLegacy:  {Operation: telemetry.Write, Store: telemetry.Legacy, Role: telemetry.Serving},
	writeTarget:  {Operation: telemetry.Write, Store: telemetry.Target, Role: telemetry.Serving},
	writeBehind:  {Operation: telemetry.Write, Store: telemetry.Target, Role: telemetry.Shadow},
	writeAdded:   {Operation: telemetry.Write, Store: telemetry.Both, Role: telemetry.Added},
	changedRow:   {Operation: telemetry.Change, Store: telemetry.Legacy, Role: telemetry.Serving},
}

// outcomes are the outcomes of kinds, in outcomeOf's order.
var outcomes = [...]telemetry.Outcome{telemetry.OK, telemetry.Failed, telemetry.TimedOut, telemetry.Rejected, telemetry.Cancelled, telemetry.Faulty}

type outcomeOf uint8

const (
	wasOK outcomeOf = iota
	wasError
	wasTimeout
	wasRejected
	wasCancelled
	wasFaulty
)

// verdictOf is how a comparison ended.
type verdictOf uint8

const (
	agreed verdictOf = iota
	lagged
	mismatched
	lostWriteConfirmed
	aborted
	dropped
)

var verdicts = [...]telemetry.Outcome{telemetry.Agreed, telemetry.Lagged, telemetry.Mismatch, telemetry.LostWrite, telemetry.Aborted, telemetry.Dropped}

const (
	comparisons       = int(kinds) * len(outcomes)    // the first series of sampled comparisons
	missedComparisons = comparisons + len(verdicts)   // the first of those that follow a miss
	seriesCount       = comparisons + 2*len(verdicts) //
)

func seriesAt(n int) telemetry.Series {
	if n >= comparisons {
		s := telemetry.Series{Operation: telemetry.Comparison, Store: telemetry.Both, Role: telemetry.Shadow}
		if n >= missedComparisons {
			s.Role = telemetry.Missed
			n -= len(verdicts)
		}
		s.Outcome = verdicts[n-comparisons]
		return s
	}
	s := kindNames[n/len(outcomes)]
	s.Outcome = outcomes[n%len(outcomes)]
	return s
}

func index(k kind, o outcomeOf) int { return int(k)*len(outcomes) + int(o) }

// classify returns the outcome of an attempt on a store; ctx is the caller's.
func classify(ctx context.Context, err error) outcomeOf {
	if err == nil {
		return wasOK // before slow is declared, which is allocated
	}
	var slow interface{ Timeout() bool }
	switch {
	case errors.Is(err, errBreakerOpen):
		return wasRejected
	case ctx.Err() != nil:
		return wasCancelled
	// [write-fault]: an outage of legacy makes writes late, and must not count as one of the target.
	case isWriteFault(err):
		return wasFaulty
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &slow) && slow.Timeout():
		return wasTimeout
	default:
		return wasError
	}
}

// observed counts the outcomes of a route's operations that shards don't count. A
// recorder is made when its series is timed for the first time.
type observed struct {
	counts    [seriesCount]atomic.Uint64
	latencies [comparisons]atomic.Pointer[sketch.Recorder]
}

func (s *observed) count(k kind, o outcomeOf, n uint64) { s.counts[index(k, o)].Add(n) }

// compared counts a comparison. Those that follow a miss are counted apart: they are no sample.
func (s *observed) compared(v verdictOf, afterMiss bool) {
	first := comparisons
	if afterMiss {
		first = missedComparisons
	}
	s.counts[first+int(v)].Add(1)
}

func (s *observed) time(k kind, o outcomeOf, took time.Duration) {
	at := &s.latencies[index(k, o)]
	r := at.Load()
	if r == nil {
		r = new(sketch.Recorder)
		if !at.CompareAndSwap(nil, r) {
			r = at.Load()
		}
	}
	r.Record(took)
}

// beside counts and times an attempt that is made beside the caller's operation.
func (s *observed) beside(ctx context.Context, k kind, err error, began stopwatch) (result outcomeOf, took time.Duration) {
	result, took = classify(ctx, err), watch().since(began)
	s.count(k, result, 1)
	s.time(k, result, took)
	return result, took
}

// stopwatch measures with the monotonic clock alone, half the price of time.Now.
type stopwatch time.Duration

var watchOrigin = time.Now()

func watch() stopwatch { return stopwatch(time.Since(watchOrigin)) }

func (w stopwatch) since(began stopwatch) time.Duration { return time.Duration(w - began) }
