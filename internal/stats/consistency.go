package stats

import (
	"fmt"
	"math"
	"time"
)

// BucketLength is the length of the Buckets of a Consistency.
const BucketLength = 5 * time.Minute

const slotsPerHour = int(time.Hour / BucketLength)

// Consistency is the gate that lets a target serve reads once it has agreed with legacy for
// long enough. It has a clock that
//
//   - runs from the first comparison under the present epoch and configuration,
//   - counts the buckets that have samples, and so stops without data,
//   - restarts after a breach, an hour of its run whose own lower bound is above the limit,
//   - restarts after any comparison under another configuration, and
//   - restarts when data return after a gap that would take longer to make up for, at
//     Coverage, than a new run would. This depends on when comparisons were made, not on
//     their results, and so costs no confidence.
//
// The gate passes when the clock has counted For, at least Coverage of its run's buckets have
// samples, and the e-process over the run proves the rate below Limit. Each run is an
// e-process of its own, with its own 1-Confidence.
//
// The zero value has the defaults.
type Consistency struct {
	Limit      float64       // share of comparisons that differ; default 0.001
	Confidence float64       // default 0.95
	For        time.Duration // rounded up to whole buckets; default 72 h
	Coverage   float64       // share of buckets; default 0.95
}

// Bucket counts the comparisons of five minutes under one epoch and configuration. N
// comparisons gave a result, K of them a confirmed mismatch.
type Bucket struct {
	Start  time.Time // a multiple of BucketLength
	N, K   int64
	Epoch  int64
	Config string // the configuration's hash
}

// Clock is the result of a Consistency at one moment.
type Clock struct {
	Since     time.Time     // zero if the run has not begun
	Cause     Cause         // why it began then
	Breached  time.Time     // the bucket that completed the last breach; zero if there was none
	Covered   time.Duration // buckets with samples
	Remaining time.Duration // until Covered, and Coverage, are enough, if samples continue
	Buckets   int           // complete ones since the run began
	Missing   int           // those without a sample
	N, K      int64
	LogE      float64
	Bound     float64 // AnytimeUpper of the run: at most Limit if the e-process passes
	Passes    bool
	// Due is approximately when the gate passes, at the rate and the pace of the run so far;
	// now if it passes; zero if it never would.
	Due time.Time
}

// Cause is why a run of the clock began.
type Cause string

// Causes of a run.
const (
	CauseNone          Cause = ""
	CauseFirst         Cause = "first comparison"
	CauseBreach        Cause = "breach"
	CauseConfiguration Cause = "changed configuration"
	CauseGap           Cause = "gap in the data"
)

// Evaluate evaluates all buckets of the migration, or of the last weeks, in the order of their
// starts, one per start, epoch and configuration. Buckets without samples may be left out. The
// result depends on the arguments alone: telemetry that arrives late counts as if it had been
// in time.
func (c Consistency) Evaluate(buckets []Bucket, epoch int64, config string, now time.Time) (Clock, error) {
	c = c.withDefaults()
	r := run{Consistency: c, epoch: epoch, config: config, cause: CauseFirst}
	for i, b := range buckets {
		if err := b.check(now); err != nil {
			return Clock{}, err
		}
		if i > 0 && b.Start.Before(buckets[i-1].Start) {
			return Clock{}, fmt.Errorf("consistency: the bucket of %s comes after that of %s", stamp(b.Start), stamp(buckets[i-1].Start))
		}
		r.add(b, now)
	}
	return r.clock(now), nil
}

func (c Consistency) withDefaults() Consistency {
	byDefault := func(v *float64, d float64) {
		if *v == 0 {
			*v = d
		}
	}
	byDefault(&c.Limit, 0.001)
	byDefault(&c.Confidence, 0.95)
	byDefault(&c.Coverage, 0.95)
	if c.For == 0 {
		c.For = 72 * time.Hour
	}
	return c
}

// slots returns For in buckets.
func (c Consistency) slots() int { return int((c.For + BucketLength - 1) / BucketLength) }

func (b Bucket) check(now time.Time) error {
	switch {
	case b.K < 0 || b.K > b.N:
		return fmt.Errorf("consistency: the bucket of %s has %d mismatches of %d", stamp(b.Start), b.K, b.N)
	case !b.Start.Equal(b.Start.Truncate(BucketLength)):
		return fmt.Errorf("consistency: a bucket begins at %s, not at a multiple of %s", stamp(b.Start), BucketLength)
	case b.Start.After(now):
		return fmt.Errorf("consistency: the bucket of %s is in the future", stamp(b.Start))
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// run is the clock's state from bucket to bucket.
type run struct {
	Consistency
	epoch  int64
	config string

	since, last time.Time // of the run's first and last bucket with samples; zero before
	cause       Cause     // of this run; before it has begun, of the next one
	breached    time.Time
	evaluatedTo time.Time // earlier buckets are evaluated already
	covered     int       // buckets with samples
	missing     int       // those without, between the first and the last
	n, k        int64
	hour        []Bucket // the buckets of the last hour
}

// restart ends the run. The next one begins with the next bucket that has samples.
func (r *run) restart(cause Cause) {
	r.since, r.last, r.cause = time.Time{}, time.Time{}, cause
	r.covered, r.missing, r.n, r.k, r.hour = 0, 0, 0, 0, r.hour[:0]
}

func (r *run) add(b Bucket, now time.Time) {
	if b.N == 0 || b.Epoch != r.epoch {
		return
	}
	if b.Config != r.config {
		r.restart(CauseConfiguration)
		return
	}
	if b.Start.Before(r.evaluatedTo) {
		return
	}
	if !r.since.IsZero() {
		r.missing += int(b.Start.Sub(r.last)/BucketLength) - 1
		if r.remaining(r.covered, r.missing) > r.slots() {
			r.restart(CauseGap)
		}
	}
	if r.since.IsZero() {
		r.since = b.Start
	}
	r.last = b.Start
	r.n += b.N
	r.k += b.K
	// An incomplete bucket counts for or against, but not for the clock. Its hour is evaluated
	// once, when it is complete.
	if b.Start.Add(BucketLength).After(now) {
		return
	}
	r.covered++
	if r.breaches(b) {
		r.breached, r.evaluatedTo = b.Start, b.Start.Add(BucketLength)
		r.restart(CauseBreach)
	}
}

// breaches evaluates the hour that ends with b, once for each bucket. A run of For has that
// many evaluations, so all of them together err with 1-Confidence.
func (r *run) breaches(b Bucket) bool {
	r.hour = append(r.hour, b)
	for r.hour[0].Start.Before(b.Start.Add(-BucketLength * time.Duration(slotsPerHour-1))) {
		r.hour = r.hour[1:]
	}
	var n, k int64
	for _, b := range r.hour {
		n += b.N
		k += b.K
	}
	return RateExceeds(k, n, r.Limit, r.Confidence, int64(r.slots()))
}

// remaining returns the number of buckets, all with samples, that are still needed.
func (r *run) remaining(covered, missing int) int {
	wanted := float64(r.slots() - covered)
	if missing > 0 {
		wanted = max(wanted, float64(missing)/(1-r.Coverage)-float64(covered+missing))
	}
	// Rounding errors in a sum of shares must not add a bucket.
	return int(min(max(math.Ceil(wanted-1e-6), 0), math.MaxInt32))
}

func (r *run) clock(now time.Time) Clock {
	c := Clock{Since: r.since, Cause: r.cause, Breached: r.breached, N: r.n, K: r.k, Bound: 1}
	missing := r.missing
	if r.since.IsZero() {
		if c.Cause == CauseFirst {
			c.Cause = CauseNone
		}
	} else {
		missing += max(0, int(now.Sub(r.last)/BucketLength)-1)
		c.LogE = LogE(r.k, r.n, r.Limit)
		c.Bound = AnytimeUpper(r.k, r.n, r.Confidence)
	}
	remaining := r.remaining(r.covered, missing)
	c.Missing, c.Buckets = missing, r.covered+missing
	c.Covered = time.Duration(r.covered) * BucketLength
	c.Remaining = time.Duration(remaining) * BucketLength
	enough := c.LogE >= logNeeded(r.Confidence)
	c.Passes = remaining == 0 && enough
	switch {
	case r.since.IsZero():
	case enough:
		c.Due = now.Add(c.Remaining)
	default:
		if n, ok := SampleExpected(r.Limit, r.Confidence, float64(r.k)/float64(r.n)); ok {
			pace := float64(now.Sub(r.since)) / float64(r.n)
			if wait := pace * float64(max(n-r.n, 1)); wait < 100*365*24*float64(time.Hour) {
				c.Due = now.Add(max(c.Remaining, time.Duration(wait)))
			}
		}
	}
	return c
}
