package judge

import (
	"fmt"
	"math"
	"time"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/internal/stats"
	"github.com/stranglerfig/migrator/phases"
)

// gateConfidence is a gate's confidence that a share is below its limit. It holds however
// often the gate is evaluated.
const gateConfidence = 0.95

// recentWindow is the period before now in which failures must not accumulate, however good
// the time before it was.
const recentWindow = 30 * time.Minute

// failures is a gate on the share of operations that failed since the epoch began, or since
// the newest breach of the limit in it: otherwise the failures of a long outage would
// outweigh a good week after it. Each such beginning starts an e-process of its own.
type failures struct {
	What     string    `json:"what"` // "writes to the target"
	Since    time.Time `json:"since"`
	Now      time.Time `json:"now"`
	All      tally     `json:"all"`
	Recent   tally     `json:"recent"` // of the last half hour
	Limit    float64   `json:"limit"`
	Breached time.Time `json:"breached,omitzero"` // the end of the newest breach
	Breach   tally     `json:"breach,omitzero"`
	Calm     float64   `json:"calm,omitempty"` // seconds since a breach before the gate can pass
}

// breachEvaluationsPerDay is how often in a day a gate on failures checks for a breach.
var breachEvaluationsPerDay = stats.EvaluationsPerDay(time.Minute, 1)

func failuresOf(what string, b []telemetry.Bucket, e phases.Snapshot, count tallier, s phases.FailureGate) *failures {
	f := &failures{
		What: what, Since: e.Status.RouteSince, Now: e.Now, Limit: s.Limit.Ratio(), Calm: time.Duration(s.Calm).Seconds(),
	}
	run, late, sum := 0, 0, tally{} // sum: of the half hour, from b[late] on
	for i := range b {
		t := count(b[i : i+1])
		sum = sum.add(t)
		for ; !b[late].Ended.After(b[i].Ended.Add(-recentWindow)); late++ {
			gone := count(b[late : late+1])
			sum = tally{sum.N - gone.N, sum.K - gone.K, sum.Untried - gone.Untried}
		}
		if t.K > 0 && stats.RateExceeds(sum.K, sum.N, f.Limit, gateConfidence, breachEvaluationsPerDay) {
			f.Breached, f.Breach, f.Since = b[i].Ended, sum, b[i].Ended
			run, late, sum = i+1, i+1, tally{}
		}
	}
	f.All, f.Recent = count(b[run:]), count(within(b[run:], e.Now, recentWindow))
	return f
}

func (f *failures) evaluate() result {
	upper := stats.AnytimeUpper(f.All.K, f.All.N, gateConfidence)
	r := result{
		Verdict: phases.Inconclusive, Samples: f.All.N, Value: f.All.share(), Bound: upper, Limit: f.Limit,
		Detail: fmt.Sprintf("%d of %d %s failed%s: below %s, limit %s", f.All.K, f.All.N, f.What, f.All.besides(), percent(upper), percent(f.Limit)),
	}
	calm := f.Breached.Add(seconds(f.Calm))
	switch {
	case !f.Breached.IsZero() && f.Now.Before(calm):
		r.Verdict, r.Due = phases.Fail, calm
		r.Samples, r.Value, r.Bound = f.Breach.N, f.Breach.share(), stats.ClopperPearsonLower(f.Breach.K, f.Breach.N, gateConfidence)
		r.Detail = fmt.Sprintf("%d of %d %s failed until %s%s: surely above %s. Counted again since then (%d of %d failed), and closed for %s",
			f.Breach.K, f.Breach.N, f.What, f.Breached.UTC().Format(time.RFC3339), f.Breach.besides(), percent(f.Limit), f.All.K, f.All.N, short(seconds(f.Calm)))
	case f.All.N == 0:
		r.Verdict, r.Detail, r.Bound = phases.NoData, "no "+f.What+" in this epoch", 1
		if !f.Breached.IsZero() {
			r.Detail += " since the limit was surely broken, until " + f.Breached.UTC().Format(time.RFC3339)
		}
	case stats.RateExceeds(f.Recent.K, f.Recent.N, f.Limit, gateConfidence, breachEvaluationsPerDay):
		r.Verdict = phases.Fail
		r.Detail = fmt.Sprintf("%d of %d %s of the last %s failed%s: surely above %s", f.Recent.K, f.Recent.N, f.What, short(recentWindow), f.Recent.besides(), percent(f.Limit))
	case upper <= f.Limit:
		r.Verdict = phases.Pass
	case stats.RateExceeds(f.All.K, f.All.N, f.Limit, gateConfidence, breachEvaluationsPerDay):
		r.Verdict = phases.Fail
		r.Detail = fmt.Sprintf("%d of %d %s since %s failed%s: surely above %s", f.All.K, f.All.N, f.What, f.Since.UTC().Format(time.RFC3339), f.All.besides(), percent(f.Limit))
	default:
		r.Due = dueAt(f.All, f.Limit, gateConfidence, f.Since, f.Now)
	}
	return r
}

// dueAt estimates when the e-process passes at the rate and the pace so far; zero if never,
// or in more than a year.
func dueAt(t tally, limit, confidence float64, since, now time.Time) time.Time {
	need, ok := stats.SampleExpected(limit, confidence, t.share())
	if !ok || t.N == 0 {
		return time.Time{}
	}
	wait := float64(now.Sub(since)) / float64(t.N) * float64(max(need-t.N, 1))
	if wait > float64(365*24*time.Hour) {
		return time.Time{}
	}
	return now.Add(time.Duration(wait))
}

// triggerConfidence is a trigger's confidence over all evaluations of a day.
const triggerConfidence = 0.999

// window is a period before now.
type window struct {
	Seconds float64 `json:"seconds"`
	tally
}

func windows(b []telemetry.Bucket, now time.Time, count tallier, lengths ...time.Duration) []window {
	all := make([]window, len(lengths))
	for i, d := range lengths {
		all[i] = window{Seconds: d.Seconds(), tally: count(within(b, now, d))}
	}
	return all
}

// excess is a trigger on a share: it fires if the share is surely above the limit in one of
// the windows.
type excess struct {
	What              string   `json:"what"` // "comparisons differ"
	Windows           []window `json:"windows"`
	Limit             float64  `json:"limit"`
	EvaluationsPerDay int64    `json:"looks"` // over all windows
}

func (x *excess) evaluate() result {
	r := result{Verdict: phases.Quiet, Limit: x.Limit, Bound: math.Inf(-1)}
	each := 1 - (1-triggerConfidence)/float64(x.EvaluationsPerDay)
	for _, w := range x.Windows {
		r.Samples = max(r.Samples, w.N)
		if w.N == 0 {
			continue
		}
		lower := stats.ClopperPearsonLower(w.K, w.N, each)
		fires := stats.RateExceeds(w.K, w.N, x.Limit, triggerConfidence, x.EvaluationsPerDay)
		if lower <= r.Bound && !fires || r.Verdict == phases.Firing {
			continue
		}
		r.Value, r.Bound = w.share(), lower
		r.Detail = fmt.Sprintf("%d of %d %s in %s%s: above %s, limit %s", w.K, w.N, x.What, short(seconds(w.Seconds)), w.besides(), percent(lower), percent(x.Limit))
		if fires {
			r.Verdict = phases.Firing
		}
	}
	if r.Samples == 0 {
		r.Verdict, r.Detail, r.Bound = phases.NoData, "no samples in any window: "+x.What, 0
	}
	return r
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// errorRates is the trigger on operations that fail. A CUSUM over the windows that instances
// report detects a high rate fast; bounds over minutes detect a slow rise.
type errorRates struct {
	Reads  errorRate `json:"reads"`
	Writes errorRate `json:"writes"`
}

type errorRate struct {
	Steps []tally `json:"steps"` // of the last half hour, since the CUSUM was last at 0
	Slow  excess  `json:"slow"`
}

func errorRateOf(what string, b []telemetry.Bucket, now time.Time, count tallier, limit phases.Share, perDay int64) errorRate {
	late := within(b, now, recentWindow)
	rate := errorRate{Slow: excess{What: what, Windows: windows(late, now, count, 5*time.Minute, recentWindow), Limit: limit.Ratio(), EvaluationsPerDay: perDay}}
	sum := stats.CUSUM{Limit: rate.Slow.Limit}
	for i := range late {
		t := count(late[i : i+1])
		if t.N == 0 {
			continue
		}
		rate.Steps = append(rate.Steps, t)
		if sum.Add(t.N, t.K); sum.Score == 0 {
			rate.Steps = nil
		}
	}
	return rate
}

func (r errorRate) evaluate() result {
	x := r.Slow.evaluate()
	sum := stats.CUSUM{Limit: r.Slow.Limit}
	var all tally
	for _, t := range r.Steps {
		sum.Add(t.N, t.K)
		all = all.add(t)
	}
	if sum.Fires() && x.Verdict != phases.Firing {
		x.Verdict, x.Value = phases.Firing, all.share()
		x.Detail = fmt.Sprintf("%d of the newest %d %s%s: the rate has risen above %s (CUSUM %.1f of %d)", all.K, all.N, r.Slow.What, all.besides(), percent(r.Slow.Limit), sum.Score, stats.FireAt)
		x.Bound = stats.ClopperPearsonLower(all.K, all.N, gateConfidence)
	}
	return x
}

func (x *errorRates) evaluate() result {
	reads, writes := x.Reads.evaluate(), x.Writes.evaluate()
	worse := func(f result) int {
		switch f.Verdict {
		case phases.Firing:
			return 2
		case phases.Quiet:
			return 1
		default:
			return 0
		}
	}
	if worse(writes) > worse(reads) || worse(writes) == worse(reads) && writes.Bound > reads.Bound {
		return writes
	}
	return reads
}
