package reconcile

import (
	"context"
	"testing"

	"golang.org/x/time/rate"
)

// sharing is of a run that so many processes work on.
type sharing struct {
	Jobs

	processes int
}

func (s *sharing) WaitWhilePaused(context.Context, int64) (int, error) { return s.processes, nil }

// TestTheRateIsOfAllProcesses: each takes its part, which changes as others come and go.
func TestTheRateIsOfAllProcesses(t *testing.T) {
	t.Parallel()
	jobs := &sharing{}
	p := &pace{jobs: jobs, batch: 100}
	p.use(1000)
	for _, c := range []struct {
		processes int
		want      rate.Limit
	}{{1, 1000}, {4, 250}, {2, 500}, {0, 1000}} { // 0: this process alone, not yet known
		jobs.processes = c.processes
		if err := p.wait(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if got := p.limiter.Limit(); got != c.want {
			t.Errorf("%d processes: %g a second each, want %g", c.processes, got, c.want)
		}
	}
}
