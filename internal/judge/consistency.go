package judge

import (
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/stats"
	"github.com/stranglerfig/migrator/phases"
)

// consistency is the gate on the share of comparisons that differ: the state of its clock.
type consistency struct {
	tally
	Since      time.Time `json:"since,omitzero"` // when the clock's run began
	Cause      string    `json:"cause,omitempty"`
	Breached   time.Time `json:"breached,omitzero"` // the newest breach
	Buckets    int       `json:"buckets"`           // five-minute buckets of the run
	Missing    int       `json:"missing"`           // those without a comparison
	Covered    float64   `json:"covered"`           // seconds
	Remaining  float64   `json:"remaining"`         // seconds, with coverage
	For        float64   `json:"for"`               // seconds
	Limit      float64   `json:"limit"`
	Confidence float64   `json:"confidence"`
	Due        time.Time `json:"due,omitzero"`

	// Of all comparisons under this configuration since From, whatever restarted the clock.
	From     time.Time `json:"from,omitzero"`
	First    time.Time `json:"first,omitzero"` // the five-minute interval of the first
	Filled   int       `json:"filled,omitempty"`
	Seen     int64     `json:"seen,omitempty"`
	Coverage float64   `json:"coverage,omitempty"`
}

// consistencySpan returns since when comparisons count, and for how long they must have been
// made. In dual-read the whole stay in the phase counts, later only the present step.
func consistencySpan(s phases.Settings, st phases.Status) (since time.Time, need time.Duration) {
	need = time.Duration(s.Gates.Consistency.For)
	if st.Route.Phase == phases.DualRead {
		return st.PhaseSince, need
	}
	return st.RouteSince, min(need, s.Soak(st.Route))
}

func consistencyOf(b []telemetry.Bucket, e phases.Snapshot, s phases.Settings) (*consistency, error) {
	st, g := e.Status, s.Gates.Consistency
	since, need := consistencySpan(s, st)
	c := &consistency{For: need.Seconds(), Limit: g.Limit.Ratio(), Confidence: g.Confidence.Ratio()}
	var counted []telemetry.Bucket
	for _, one := range b {
		if one.Ended.After(since) && one.Epoch <= st.Route.Epoch && (st.Route.Phase == phases.DualRead || one.Epoch == st.Route.Epoch) {
			counted = append(counted, one)
		}
	}
	c.From = since
	if need >= stats.BucketLength {
		c.Coverage = g.Coverage.Ratio()
	}
	for _, slot := range slots(counted, st.Route.Epoch) {
		if slot.Config != st.ConfigHash {
			continue
		}
		if c.First.IsZero() {
			c.First = slot.Start
		}
		c.Filled, c.Seen = c.Filled+1, c.Seen+slot.N
	}
	if need < stats.BucketLength {
		c.shortClock(counted, e, need)
		return c, nil
	}
	clock, err := stats.Consistency{Limit: c.Limit, Confidence: c.Confidence, For: need, Coverage: g.Coverage.Ratio()}.
		Evaluate(slots(counted, st.Route.Epoch), st.Route.Epoch, st.ConfigHash, e.Now)
	if err != nil {
		return nil, err
	}
	c.tally = tally{N: clock.N, K: clock.K}
	c.Since, c.Cause, c.Breached, c.Buckets, c.Missing = clock.Since, string(clock.Cause), clock.Breached, clock.Buckets, clock.Missing
	c.Covered, c.Remaining, c.Due = clock.Covered.Seconds(), clock.Remaining.Seconds(), clock.Due
	return c, nil
}

// shortClock is for rehearsals: a time that is shorter than a five-minute bucket is measured
// from the first comparison.
func (c *consistency) shortClock(b []telemetry.Bucket, e phases.Snapshot, need time.Duration) {
	for _, one := range ofEpochs(b, e.Status.ConfigHash) {
		t := comparisons([]telemetry.Bucket{one})
		if t.N > 0 && c.Since.IsZero() {
			c.Since = one.Began
		}
		c.N, c.K = c.N+t.N, c.K+t.K
		if stats.RateExceeds(c.K, c.N, c.Limit, c.Confidence, 1) {
			c.Breached, c.Since, c.tally = one.Began, time.Time{}, tally{}
		}
	}
	if !c.Since.IsZero() {
		c.Covered = min(e.Now.Sub(c.Since), need).Seconds()
		c.Due = dueAt(c.tally, c.Limit, c.Confidence, c.Since, e.Now)
	}
	c.Remaining = c.For - c.Covered
}

func ofEpochs(b []telemetry.Bucket, config string) []telemetry.Bucket {
	var own []telemetry.Bucket
	for _, one := range b {
		if one.ConfigHash == config {
			own = append(own, one)
		}
	}
	return own
}

// slots sums telemetry into five-minute buckets, under one epoch.
func slots(b []telemetry.Bucket, epoch int64) []stats.Bucket {
	var all []stats.Bucket
	for _, one := range b {
		t := comparisons([]telemetry.Bucket{one})
		if t.N == 0 {
			continue
		}
		slot := stats.Bucket{Start: one.Began.Truncate(stats.BucketLength), N: t.N, K: t.K, Epoch: epoch, Config: one.ConfigHash}
		last := len(all) - 1
		for last >= 0 && all[last].Start.Equal(slot.Start) && all[last].Config != slot.Config {
			last--
		}
		if last >= 0 && all[last].Start.Equal(slot.Start) {
			all[last].N += slot.N
			all[last].K += slot.K
			continue
		}
		all = append(all, slot)
	}
	return all
}

func (c *consistency) evaluate() result {
	upper := stats.AnytimeUpper(c.K, c.N, c.Confidence)
	f := result{
		Verdict: phases.Inconclusive, Samples: c.N, Value: c.share(), Bound: upper, Limit: c.Limit, Due: c.Due,
		Detail: fmt.Sprintf("%d of %d comparisons differ: below %s, limit %s; %s of %s covered", c.K, c.N, percent(upper), percent(c.Limit), short(seconds(c.Covered)), short(seconds(c.For))),
	}
	if c.Missing > 0 {
		f.Detail += fmt.Sprintf(", %d of %d five-minute buckets without a comparison", c.Missing, c.Buckets)
	}
	enough := c.N > 0 && upper <= c.Limit
	switch {
	case enough && c.Remaining <= 0:
		f.Verdict, f.Due = phases.Pass, time.Time{}
	case !c.Breached.IsZero():
		f.Verdict = phases.Fail
		f.Detail = fmt.Sprintf("the limit was surely broken in the hour until %s; the clock restarted: %s", c.Breached.UTC().Format(time.RFC3339), f.Detail)
		f.Hint = hint.Hint{Do: hint.ReconcileRun}
	case c.N == 0:
		f.Verdict, f.Detail, f.Bound = phases.NoData, "nothing has been compared", 1
	}
	return f
}
