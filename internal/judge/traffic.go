package judge

import (
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/stats"
	"github.com/stranglerfig/migrator/phases"
)

const (
	// neverWithin is how long a gate may take at the traffic so far. One that needs longer will not
	// open in the time that a migration has.
	neverWithin = 90 * 24 * time.Hour
	// trafficFrom is the shortest time whose traffic says anything about the time to come: it has a
	// day and a night.
	trafficFrom = 24 * time.Hour
)

// supply is how fast a gate gets its samples.
type supply struct {
	Of     string    // "comparisons"
	Since  time.Time // of the samples; zero: not known
	Needed int64     // expected, in all; 0: no number is enough, which is no lack of data
	Gaps   string    // why no number of them is enough at this pace
	Advice string    // settings with which the gate needs less
}

// never says why a gate that lacks data can't open at the traffic so far; "": it may.
func (s supply) never(samples, least int64, now time.Time) string {
	took := now.Sub(s.Since)
	if s.Since.IsZero() || took < trafficFrom {
		return ""
	}
	needed := max(s.Needed, least)
	switch {
	case s.Gaps != "":
		return s.Gaps
	case s.Needed == 0 || needed <= samples:
		return ""
	case samples == 0:
		return fmt.Sprintf("about %d %s are needed, and none was made in %s", needed, s.Of, short(took.Round(time.Hour)))
	}
	// Floating point: the product would overflow a Duration.
	if wait := float64(took) / float64(samples) * float64(needed-samples); wait > float64(neverWithin) {
		return fmt.Sprintf("about %d %s are needed, and %d were made in %s: %.0f days more", needed, s.Of, samples, short(took.Round(time.Hour)), wait/float64(24*time.Hour))
	}
	return ""
}

// hint is what a person who decides may do.
func (s supply) hint() hint.Hint {
	return hint.Hint{Do: hint.Override, Text: "after a full reconcile that is clean; or " + s.Advice}
}

// gaps describes the gaps of comparisons that coverage does not allow, if they go on; "" if it
// allows them.
func (c *consistency) gaps(now time.Time) string {
	slots := int(now.Sub(c.First) / stats.BucketLength)
	if c.First.IsZero() || slots == 0 || float64(c.Filled) >= c.Coverage*float64(slots) {
		return ""
	}
	return fmt.Sprintf("%d of %d five-minute intervals have comparisons, and coverage wants %s", c.Filled, slots, percent(c.Coverage))
}

func (c *consistency) supply(now time.Time) supply {
	s := supply{Of: "comparisons", Since: c.From, Gaps: c.gaps(now)}
	s.Needed, _ = stats.SampleExpected(c.Limit, c.Confidence, c.share())
	if c.Seen > 0 {
		s.Since = c.First
	}
	s.Advice = "compare more reads (phases.dual_read.steps, phases.cutover.shadow, phases.grace.shadow), or raise gates.consistency.limit"
	if s.Gaps != "" {
		s.Advice = "lower gates.consistency.coverage, or compare more reads (phases.dual_read.steps, phases.cutover.shadow, phases.grace.shadow)"
	}
	return s
}

func (f *failures) supply() supply {
	s := supply{Of: f.What, Since: f.Since, Advice: "lower the gate's min_samples, or raise its limit"}
	s.Needed, _ = stats.SampleExpected(f.Limit, gateConfidence, f.All.share())
	return s
}

func (a *addedLatency) supply() supply {
	return supply{Of: "timed writes", Since: a.Since, Needed: stats.QuantileSample(0.95, latencyConfidence), Advice: "lower gates.added_latency.min_samples"}
}

// supplyOf is how fast the gate gets its samples. samples are all that it got, also before its clock
// last restarted.
func (in inputs) supplyOf(f result) (s supply, samples int64, ok bool) {
	switch {
	case in.Consistency != nil:
		return in.Consistency.supply(in.Now), in.Consistency.Seen, !in.Consistency.From.IsZero()
	case in.Failures != nil:
		return in.Failures.supply(), f.Samples, true
	case in.Added != nil:
		return in.Added.supply(), f.Samples, !in.Added.Since.IsZero()
	}
	return s, 0, false
}

// lacking marks a gate that lacks data, and will at the traffic so far.
func (in inputs) lacking(f result) result {
	if in.Kind != phases.GateKind || f.Verdict != phases.Inconclusive && f.Verdict != phases.NoData {
		return f
	}
	s, samples, ok := in.supplyOf(f)
	if !ok {
		return f
	}
	if why := s.never(samples, in.Least, in.Now); why != "" {
		f.Detail, f.Due, f.Hint = "never at this traffic: "+why+"; "+f.Detail, time.Time{}, s.hint()
	}
	return f
}
