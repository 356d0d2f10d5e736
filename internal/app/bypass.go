package app

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/stranglerfig/migrator/internal/judge"
	"github.com/stranglerfig/migrator/internal/sleep"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// bypassEpisode is how long after the last finding a new one is counted on its own.
const bypassEpisode = 24 * time.Hour

// BypassLook is the result of a look at legacy's counters.
type BypassLook struct {
	*phases.Bypass      // nil: nothing is compared in this phase
	New            bool // this look has found changes that no instance reported
	// Unsettled is how long it takes until instances have reported all that they may have written
	// of what legacy has counted; 0: nothing speaks for a bypass.
	Unsettled time.Duration
}

// diagnoseBypass looks at legacy's counters, and says what they show of writes that no instance has
// reported; "": nothing, or they can't be read. Where the look is too early to tell, it waits until
// instances have reported.
func (j *Job) diagnoseBypass(ctx context.Context) string {
	if j.Config.Capture.Mode.On() {
		return "" // what they write is brought
	}
	look, err := j.WatchBypass(ctx)
	if err == nil && look.Unsettled > 0 {
		if sleep.For(ctx, look.Unsettled) != nil {
			return ""
		}
		look, err = j.WatchBypass(ctx)
	}
	if err == nil && look.Bypass == nil { // another process has looked at the same time
		c, failed := j.State.BypassContext(ctx, j.Config.Name)
		if failed == nil && c.Last != nil {
			look.Bypass = &c.Last.Bypass
		}
	}
	if err != nil || !look.Found() {
		return ""
	}
	return look.Describe()
}

// WatchBypass compares what legacy has counted since the last look with what instances have reported,
// in phases in which the target is to have all of legacy's writes.
func (j *Job) WatchBypass(ctx context.Context) (look BypassLook, err error) {
	name := j.Config.Name
	if j.Config.Capture.Mode == phases.CaptureOnly {
		return look, nil // every program does
	}
	c, err := j.State.BypassContext(ctx, name)
	if err != nil || !c.Status.Route.Phase.Compared() {
		return look, err
	}
	next := state.BypassLook{Stay: c.Status.LegacyEpoch, Bypass: phases.Bypass{Began: c.Now}}
	counters := ""
	var samples []judge.CountedChanges
	if c.Last != nil {
		next = *c.Last
		counters = next.Counters
		if err := json.Unmarshal(next.Samples, &samples); err != nil {
			return look, err
		}
	}
	var changes int64
	next.Why = "legacy's store counts no changes"
	counter, counts := j.Legacy.(store.WriteCounter)
	if counts {
		if next.Counters, changes, next.Why, err = counter.CountWrites(ctx, counters); err != nil {
			return look, err
		}
	}
	after, err := j.State.BypassContext(ctx, name)
	if err != nil || after.Status.Route.Epoch != c.Status.Route.Epoch {
		return look, err // the next look
	}
	next.Looked, next.Epoch, next.Discarded = after.Now, c.Status.Route.Epoch, after.Discarded
	switch {
	case next.Why != "":
	case after.Unreported != "":
		next.Why = after.Unreported
	case c.Last != nil && after.Discarded != c.Last.Discarded:
		next.Why = "instances have discarded counts, since they could not reach the state database"
	case c.Last != nil && after.Passed:
		next.Why = "legacy was written by a return or an abandoned fence"
	}
	sample := judge.CountedChanges{At: after.Now}
	if n := len(samples); n > 0 && next.Why == "" && counters != "" {
		sample.Changes = samples[n-1].Changes + changes
		next.Judged += phases.Duration(after.Now.Sub(samples[n-1].At))
	} else {
		samples = nil // what was counted until now can't be compared with what was reported
	}
	news := ""
	samples = append(samples, sample)
	buckets, err := j.State.Counted(ctx, name, samples[0].At)
	if err != nil {
		return look, err
	}
	limit := j.Config.Settings().Gates.Bypass.Tolerated().Ratio()
	settle := max(judge.BypassSettle, time.Duration(j.Config.Fleet.Lease)+10*time.Second)
	if after.Now.Sub(after.Reporting) > settle { // no instance is left that could report
		settle = 0
	}
	past, found := judge.Bypass(samples, buckets, limit, after.Now.Add(-settle))
	if _, soon := judge.Bypass(samples, buckets, limit, after.Now); soon && !found {
		look.Unsettled = settle
	}
	if found {
		samples = slices.Clone(samples[past.Upto:])
		if !next.Found() || after.Now.Sub(next.Last) >= bypassEpisode {
			next.Least, next.Most, next.First = 0, 0, past.Since
		}
		next.Least, next.Most, next.Last = next.Least+past.Least, next.Most+past.Most, after.Now
		if next.Writers, err = counter.Writers(ctx); err != nil {
			next.Writers = nil // a hint alone
		}
		if next.Least == past.Least {
			news = next.Describe()
		}
	}
	for len(samples) > 2 && after.Now.Sub(samples[1].At) > judge.BypassHorizon {
		samples = samples[1:]
	}
	if next.Samples, err = json.Marshal(samples); err != nil {
		return look, err
	}
	noted, err := j.State.NoteBypass(ctx, name, c.Last, next, news)
	if err != nil || !noted {
		return look, err
	}
	look.Bypass, look.New = &next.Bypass, found
	return look, nil
}
