package reconcile

import (
	"context"

	"golang.org/x/time/rate"
)

// pace slows a run down to its rate, and stops it while it is paused.
type pace struct {
	jobs    Jobs
	run     int64
	rate    int           // records per second at most, by all processes together
	limiter *rate.Limiter // nil: no limit
}

func newPace(jobs Jobs, o Options) *pace {
	p := &pace{jobs: jobs, rate: o.Rate}
	if o.Rate > 0 {
		p.limiter = rate.NewLimiter(rate.Limit(o.Rate), o.Batch)
	}
	return p
}

// wait returns when the next n records may be read: the run is not paused, and this
// process's part of the rate allows them. n is a batch at most.
func (p *pace) wait(ctx context.Context, n int) error {
	sharers, err := p.jobs.WaitWhilePaused(ctx, p.run)
	if err != nil {
		return err
	}
	if p.limiter == nil {
		return ctx.Err()
	}
	if limit := rate.Limit(p.rate) / rate.Limit(max(1, sharers)); limit != p.limiter.Limit() {
		p.limiter.SetLimit(limit)
	}
	return p.limiter.WaitN(ctx, n)
}

// waitWhilePaused returns once the run is not paused.
func (p *pace) waitWhilePaused(ctx context.Context) error {
	_, err := p.jobs.WaitWhilePaused(ctx, p.run)
	return err
}
