//go:build unix

package daemontest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/state/reconciles"
	"github.com/stranglerfig/migrator/internal/test/clitest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/reconcile"
)

// TestDaemonStartsScheduledRuns: one run makes up for times that passed without a daemon,
// and a time at which another run is in progress is refused and recorded.
func TestDaemonStartsScheduledRuns(t *testing.T) {
	t.Parallel()
	o, kept := compared(t, 3_000, `rate: 100000, schedule: "0 2 * * *", full_schedule: "CRON_TZ=Europe/Berlin 0 3 * * 0"`)
	o.serve(t)
	since := func(kind reconcile.Kind, expr string) reconcile.Scheduled {
		t.Helper()
		last, _, err := kept.LastScheduled(t.Context(), kind, expr)
		if err != nil {
			t.Fatal(err)
		}
		return last
	}
	testenv.Await(t, "both times are recorded", func() bool {
		return !since(reconcile.SampledKind, "0 2 * * *").Due.IsZero() && !since(reconcile.FullKind, "CRON_TZ=Europe/Berlin 0 3 * * 0").Due.IsZero()
	})
	if runs, err := kept.List(t.Context(), 10); err != nil || len(runs) != 0 {
		t.Fatalf("runs before any was due: %+v, %v", runs, err)
	}
	if s := o.schedule(); len(s.Schedules) != 2 || len(s.Times) != 0 || !s.Schedules[0].Known || s.Schedules[0].Last != nil || s.Schedules[0].Overdue != 0 {
		t.Errorf("%+v", s)
	}
	missed := `UPDATE migrator.reconcile_schedule SET due_at = due_at - interval '10 days' WHERE kind = 'sampled'`
	o.SQL(o.State, missed)
	ended := func(n int) (list []reconciles.PastTime) {
		testenv.Await(t, "the time has an outcome", func() bool {
			var err error
			if list, err = kept.ListScheduled(t.Context(), 10); err != nil {
				t.Fatal(err)
			}
			return len(list) == n && list[0].Outcome != reconcile.ScheduleRunning
		})
		return list
	}
	list := ended(1)
	if s := list[0]; s.Outcome != reconcile.ScheduleDone || s.Run != 1 || s.Due.UTC().Hour() != 2 || time.Since(s.Due) > 25*time.Hour || !strings.Contains(s.Detail, "0 different") {
		t.Errorf("%+v", s)
	}
	if runs, err := kept.List(t.Context(), 10); err != nil || len(runs) != 1 || runs[0].Full || runs[0].Status != reconcile.Done {
		t.Errorf("ten nights were missed, one run makes up for them: %+v, %v", runs, err)
	}
	if s := o.schedule(); len(s.Times) != 1 || s.Times[0].Run != 1 || s.Times[0].Skipped != 9 || s.Schedules[0].Last == nil || s.Schedules[0].Last.Run != 1 || s.Schedules[1].Last != nil {
		t.Errorf("%+v", s)
	}
	_, release, err := kept.Begin(t.Context(), reconcile.Run{Full: true})
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	o.SQL(o.State, missed)
	if s := ended(2)[0]; s.Outcome != reconcile.ScheduleRefused || !strings.Contains(s.Detail, "another reconcile run") {
		t.Errorf("%+v", s)
	}
	release()
}

// TestRunWaitsDuringStopOnConditions queries a fake Prometheus, whose result the test
// sets.
func TestRunWaitsDuringStopOnConditions(t *testing.T) {
	t.Parallel()
	var load atomic.Int64
	load.Store(90)
	prometheus := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		now := time.Now().Unix()
		_, _ = fmt.Fprintf(w, `{"status":"success","data":{"resultType":"scalar","result":[%d,"%d"]}}`, now, load.Load())
	}))
	t.Cleanup(prometheus.Close)
	// The run lasts for half a minute: it is not over before a command on a slow machine has paused it.
	o, kept := compared(t, 12_000, `rate: 800, max_connections: 4, statement_timeout: 30s, stop_on: {promql: busy, above: 80, interval: 1s, replication_lag: 5s}}
prometheus: {url: "`+prometheus.URL+`"`)
	run := o.Start(t, "reconcile", "run", "--full")
	testenv.Await(t, "it is paused", func() bool { return strings.Contains(run.Log.String(), "is paused (busy is 90, above 80)") })
	if got, err := kept.Run(t.Context(), 1); err != nil || got.Status != reconcile.Paused {
		t.Errorf("%+v, %v", got, err)
	}
	load.Store(20)
	testenv.Await(t, "it resumes", func() bool { return strings.Contains(run.Log.String(), "run 1 resumed") })
	o.Does("reconcile pause --reason lunch")
	testenv.Await(t, "an operator's pause is logged", func() bool { return strings.Contains(run.Log.String(), "lunch") })
	load.Store(90)
	load.Store(20)
	o.Does("reconcile resume")
	if code := run.Exits(); code != clitest.Done {
		t.Errorf("%d: %s", code, run.Log.String())
	}
}

// TestStoppedDaemonLeavesItsRunToTheNext: the next daemon completes the scheduled run.
func TestStoppedDaemonLeavesItsRunToTheNext(t *testing.T) {
	t.Parallel()
	o, kept := compared(t, 20_000, `rate: 8000, full_schedule: "0 3 * * 0"`)
	d := o.serve(t)
	testenv.Await(t, "the time is recorded", func() bool {
		last, _, err := kept.LastScheduled(t.Context(), reconcile.FullKind, "0 3 * * 0")
		return err == nil && !last.Due.IsZero()
	})
	o.SQL(o.State, `UPDATE migrator.reconcile_schedule SET due_at = due_at - interval '10 days'`)
	testenv.Await(t, "a job is done", func() bool {
		list, err := kept.JobRows(t.Context(), 1)
		for _, j := range list {
			if j.State == "done" {
				return true
			}
		}
		return err != nil
	})
	d.end(syscall.SIGTERM)
	o.serve(t)
	testenv.Await(t, "the run is done", func() bool {
		list, err := kept.ListScheduled(t.Context(), 10)
		return err == nil && len(list) == 1 && list[0].Outcome == reconcile.ScheduleDone && list[0].Run == 1
	})
	if run, err := kept.Run(t.Context(), 1); err != nil || run.Status != reconcile.Done || run.Checked != 20_000 {
		t.Errorf("%+v, %v", run, err)
	}
}
