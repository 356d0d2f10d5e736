package reconcile

import (
	"context"
	"sync"

	"golang.org/x/sync/errgroup"
)

// localJobs are the jobs of a run that only this process works on, and nothing keeps.
type localJobs struct {
	jobs []Job
}

func (l *localJobs) Enqueue(_ context.Context, _ int64, _ Terms, jobs []Job) error {
	l.jobs = jobs
	return nil
}

func (l *localJobs) Resumed(context.Context, int64) (Resumed, error) { return Resumed{}, nil }

func (l *localJobs) WaitWhilePaused(ctx context.Context, _ int64) (int, error) { return 1, ctx.Err() }

func (l *localJobs) Work(ctx context.Context, _ int64, workers int, compare func(context.Context, Job) (*Tally, error), done func(Job, *Tally) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(workers)
	var one sync.Mutex
	for _, j := range l.jobs {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			t, err := compare(ctx, j)
			if err != nil {
				return err
			}
			one.Lock()
			defer one.Unlock()
			return done(j, t)
		})
	}
	return group.Wait()
}
