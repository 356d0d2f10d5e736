package state_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/reconciles"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/store"
)

// comparing begins a run with so many jobs.
func comparing(t *testing.T, s *state.Store, jobs int) (*reconciles.Runs, reconcile.Run, func()) {
	t.Helper()
	r := reconciles.New(s.Pool(), testMigration)
	run, release, err := r.Begin(t.Context(), reconcile.Run{Full: true})
	must(t, err)
	t.Cleanup(release)
	list := make([]reconcile.Job, jobs)
	for i := range list {
		list[i] = reconcile.Job{Number: i, Chunks: []store.Chunk{{Rows: 1}}}
	}
	must(t, r.Enqueue(t.Context(), run.ID, reconcile.Terms{Lease: time.Minute}, list))
	return r, run, release
}

// compareFunc is the comparison of a process that serves runs.
type compareFunc = func(ctx context.Context, run int64, terms reconcile.Terms, j reconcile.Job) (*reconcile.Tally, error)

// process serves the migration's runs as another process does, until stop.
func process(t *testing.T, s *state.Store, compare compareFunc) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- reconciles.New(s.Pool(), testMigration).Serve(ctx, 1, "h1", compare, func(int64, reconcile.Job, *reconcile.Tally) {})
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func tally(n int64) (*reconcile.Tally, error) { return &reconcile.Tally{Checked: n}, nil }

// jobStates waits until the jobs of all runs are in these states.
func jobStates(t *testing.T, s *state.Store, want string) {
	t.Helper()
	testenv.Await(t, "the jobs are "+want, func() bool {
		return value[string](t, s, `SELECT string_agg(state, ' ' ORDER BY run, number) FROM migrator.reconcile_jobs`) == want
	})
}

// TestARowOfRiverProvesNothing: whatever happens to River's rows in the middle of a run, each job is
// compared and counts once.
func TestARowOfRiverProvesNothing(t *testing.T) {
	t.Parallel()
	const jobs = 8
	for name, tamper := range map[string]string{
		"deleted":    `DELETE FROM migrator_river.river_job`,
		"truncated":  `TRUNCATE migrator_river.river_job RESTART IDENTITY`,
		"completed":  `UPDATE migrator_river.river_job SET state = 'completed', finalized_at = now()`,
		"cancelled":  `UPDATE migrator_river.river_job SET state = 'cancelled', finalized_at = now()`,
		"discarded":  `UPDATE migrator_river.river_job SET state = 'discarded', finalized_at = now()`,
		"far away":   `UPDATE migrator_river.river_job SET scheduled_at = now() + interval '9 years' WHERE state = 'available'`,
		"pending":    `UPDATE migrator_river.river_job SET state = 'pending' WHERE state = 'available'`,
		"elsewhere":  `UPDATE migrator_river.river_job SET queue = 'elsewhere'`,
		"unknown":    `UPDATE migrator_river.river_job SET kind = 'unknown' WHERE state = 'available'`,
		"of nothing": `UPDATE migrator_river.river_job SET args = '{"migration": "products", "run": 77, "number": 0}'`,
		"duplicated": `INSERT INTO migrator_river.river_job (kind, queue, args, max_attempts) SELECT kind, queue, args, 3 FROM migrator_river.river_job, generate_series(1, 3)`,
		"forged": `INSERT INTO migrator_river.river_job (kind, queue, args, max_attempts, attempt, state, finalized_at)
			SELECT kind, queue, args, 3, 1, 'completed', now() FROM migrator_river.river_job`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _ := open(t)
			r, run, _ := comparing(t, s, jobs)
			began, tampered := make(chan struct{}, jobs), make(chan struct{})
			var compared atomic.Int64
			process(t, s, func(_ context.Context, _ int64, _ reconcile.Terms, j reconcile.Job) (*reconcile.Tally, error) {
				began <- struct{}{}
				<-tampered
				compared.Add(1)
				return tally(1 << j.Number)
			})
			<-began
			exec(t, s, tamper)
			if n := value[int64](t, s, `SELECT count(*) FROM migrator.reconcile_jobs WHERE state NOT IN ('waiting', 'taken')`); n > 0 {
				t.Errorf("%d jobs have a result", n)
			}
			close(tampered)
			sum := int64(0)
			must(t, r.Work(t.Context(), run.ID, 1,
				func(_ context.Context, j reconcile.Job) (*reconcile.Tally, error) {
					compared.Add(1)
					return tally(1 << j.Number)
				},
				func(_ reconcile.Job, t *reconcile.Tally) error {
					sum += t.Checked
					return nil
				}))
			if sum != 1<<jobs-1 || compared.Load() != jobs {
				t.Errorf("counted %b, compared %d", sum, compared.Load())
			}
		})
	}
}

// TestRiverRetriesAJob that failed, by the same entry; the last failure is recorded in our row.
func TestRiverRetriesAJob(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name               string
		fails              int64
		with               error
		state, failures    string
		river, riverErrors string
	}{
		{"fails twice", 2, errNo, "done", "2", "completed", "2"},
		{"always fails", 9, errNo, "failed", "3", "discarded", "3"},
		{"legacy moved", 9, store.ErrMoved, "failed", "1", "cancelled", "1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, _ := open(t)
			r, run, _ := comparing(t, s, 1)
			var tries atomic.Int64
			stop := process(t, s, func(context.Context, int64, reconcile.Terms, reconcile.Job) (*reconcile.Tally, error) {
				if tries.Add(1) <= c.fails {
					return nil, c.with
				}
				return tally(5)
			})
			jobStates(t, s, c.state)
			stop()
			if got := value[string](t, s, `SELECT failures::text FROM migrator.reconcile_jobs`); got != c.failures {
				t.Errorf("%s failures", got)
			}
			if got := value[string](t, s, `SELECT string_agg(state || ' ' || cardinality(errors), ', ') FROM migrator_river.river_job`); got != c.river+" "+c.riverErrors {
				t.Errorf("River has %s", got)
			}
			err := r.Work(t.Context(), run.ID, 1, nil, func(reconcile.Job, *reconcile.Tally) error { return nil })
			if c.state == "failed" == (err == nil) || errors.Is(c.with, store.ErrMoved) != errors.Is(err, store.ErrMoved) {
				t.Errorf("the run: %v", err)
			}
		})
	}
}

// TestTheEndOfARunCancelsItsJobs in all processes: they don't ask.
func TestTheEndOfARunCancelsItsJobs(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*reconciles.Runs, reconcile.Run) error{
		"cancelled": func(r *reconciles.Runs, run reconcile.Run) error {
			return r.Cancel(context.Background(), run.ID, "mistake")
		},
		"stopped": func(r *reconciles.Runs, run reconcile.Run) error {
			run.Status = reconcile.Stopped
			return r.Save(context.Background(), run, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _ := open(t)
			r, run, _ := comparing(t, s, 5)
			began, ended := make(chan struct{}), make(chan error)
			process(t, s, func(ctx context.Context, _ int64, _ reconcile.Terms, _ reconcile.Job) (*reconcile.Tally, error) {
				began <- struct{}{}
				<-ctx.Done()
				ended <- ctx.Err()
				return nil, ctx.Err()
			})
			<-began
			must(t, r.Pause(t.Context(), run.ID, "lunch", false))
			at := time.Now()
			must(t, end(r, run))
			<-ended
			t.Logf("after %s", time.Since(at).Round(time.Millisecond))
			jobStates(t, s, "waiting waiting waiting waiting waiting") // nothing else is taken: began is not received
			if n := value[int64](t, s, `SELECT count(*) FROM migrator_river.river_queue WHERE paused_at IS NOT NULL`); n > 0 {
				t.Error("the queue stays paused")
			}
		})
	}
}

// TestAnOldRunsCancellationLeavesTheNewOneAlone.
func TestAnOldRunsCancellationLeavesTheNewOneAlone(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	old, run, release := comparing(t, s, 1)
	release()
	_, _, _ = comparing(t, s, 1)
	began, done := make(chan struct{}), make(chan struct{})
	process(t, s, func(ctx context.Context, _ int64, _ reconcile.Terms, _ reconcile.Job) (*reconcile.Tally, error) {
		began <- struct{}{}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-done:
			return tally(1)
		}
	})
	<-began
	must(t, old.Cancel(t.Context(), run.ID, ""))
	close(done)
	jobStates(t, s, "waiting done")
}

// TestAPausedRunsJobsAreNotFetched until it continues, or until another run begins.
func TestAPausedRunsJobsAreNotFetched(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	r, run, release := comparing(t, s, 2)
	began, release0 := make(chan int, 3), make(chan struct{})
	process(t, s, func(_ context.Context, _ int64, _ reconcile.Terms, j reconcile.Job) (*reconcile.Tally, error) {
		began <- j.Number
		if j.Number == 0 {
			<-release0
		}
		if status := value[string](t, s, `SELECT status FROM migrator.reconcile_runs ORDER BY id DESC LIMIT 1`); j.Number == 1 && status != "running" {
			t.Errorf("a job of a run that is %s", status)
		}
		return tally(1)
	})
	<-began
	must(t, r.Pause(t.Context(), run.ID, "lunch", false))
	close(release0)
	jobStates(t, s, "done waiting")
	must(t, r.Pause(t.Context(), run.ID, "a longer lunch", false))
	must(t, r.Continue(t.Context(), run.ID, false))
	jobStates(t, s, "done done")

	must(t, r.Pause(t.Context(), run.ID, "its process dies", false))
	release()
	_, _, _ = comparing(t, s, 1)
	jobStates(t, s, "done done done")
}

// TestAFrozenWorkersResultIsDropped: its job went to another worker, and counts as that one's.
func TestAFrozenWorkersResultIsDropped(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	_, _, _ = comparing(t, s, 1)
	began, thaw, thawed := make(chan struct{}), make(chan struct{}), make(chan struct{})
	stop := process(t, s, func(context.Context, int64, reconcile.Terms, reconcile.Job) (*reconcile.Tally, error) {
		began <- struct{}{}
		<-thaw
		defer close(thawed)
		return tally(1)
	})
	<-began
	exec(t, s, `UPDATE migrator.reconcile_jobs SET beat_at = beat_at - interval '1 hour'`)
	process(t, s, func(context.Context, int64, reconcile.Terms, reconcile.Job) (*reconcile.Tally, error) {
		return tally(5)
	})
	jobStates(t, s, "done")
	close(thaw)
	<-thawed
	stop()
	if got := value[string](t, s, `SELECT checked || ' ' || attempts FROM migrator.reconcile_jobs`); got != "5 2" {
		t.Errorf("checked and attempts: %s", got)
	}
}

// TestAStoppedProcessGivesItsJobBack, and another one has it at once.
func TestAStoppedProcessGivesItsJobBack(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	_, _, _ = comparing(t, s, 2)
	began := make(chan struct{})
	stop := process(t, s, func(ctx context.Context, _ int64, _ reconcile.Terms, _ reconcile.Job) (*reconcile.Tally, error) {
		began <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	})
	<-began
	taken := make(chan time.Time)
	process(t, s, func(context.Context, int64, reconcile.Terms, reconcile.Job) (*reconcile.Tally, error) {
		taken <- time.Now()
		return tally(5)
	})
	<-taken
	jobStates(t, s, "taken done")
	at := time.Now()
	go stop()
	t.Logf("taken again after %s", (<-taken).Sub(at).Round(time.Millisecond))
	jobStates(t, s, "done done")
	if got := value[int](t, s, `SELECT sum(failures)::integer FROM migrator.reconcile_jobs`); got != 0 {
		t.Errorf("%d failures", got)
	}
}
