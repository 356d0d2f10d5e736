package reconcile

import "context"

// Worker compares jobs of a run that another process coordinates.
type Worker struct {
	comparer *comparer
}

// Worker makes one for a run, by its terms.
func (rc *Reconciler) Worker(run int64, terms Terms) (*Worker, error) {
	mine := *rc
	mine.Rate = terms.Rate
	jobs := mine.Jobs
	if jobs == nil {
		jobs = &localJobs{}
	}
	c, err := mine.newComparer(mine.defaults(), jobs, func(int64) {})
	if err != nil {
		return nil, err
	}
	c.pace.run = run
	c.use(terms)
	return &Worker{c}, nil
}

// Compare compares a job.
func (w *Worker) Compare(ctx context.Context, j Job) (*Tally, error) {
	t := &Tally{}
	if err := w.comparer.compareJob(ctx, j, t); err != nil {
		return nil, err
	}
	return t, nil
}
