package reconcile

import "context"

// Worker compares jobs of a run that another process coordinates.
type Worker struct {
	work *work
}

// Worker makes one for a run, by its terms.
func (rc *Reconciler) Worker(run int64, terms Terms) (*Worker, error) {
	mine := *rc
	mine.Rate, mine.Report = terms.Rate, nil
	w, err := mine.start()
	if err != nil {
		return nil, err
	}
	w.run.ID, w.terms = run, terms
	return &Worker{w}, nil
}

// Compare compares a job.
func (w *Worker) Compare(ctx context.Context, j Job) (*Tally, error) {
	return w.work.compareJob(ctx, j)
}
