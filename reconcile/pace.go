package reconcile

import (
	"context"

	"golang.org/x/time/rate"
)

// pace slows a run down to its rate, and stops it while it is paused.
type pace struct {
	jobs    Jobs
	run     int64
	batch   int           // records that are waited for at once, at most
	rate    int           // records per second at most, by all processes together
	limiter *rate.Limiter // nil: no limit
}

// use sets the run's rate; 0: no limit. It must not be called while records are read.
func (p *pace) use(perSecond int) {
	p.rate, p.limiter = perSecond, nil
	if perSecond > 0 {
		p.limiter = rate.NewLimiter(rate.Limit(perSecond), p.batch)
	}
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
