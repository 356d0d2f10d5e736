//go:build unix

package daemontest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/reconciles"
	"github.com/stranglerfig/migrator/internal/test/clitest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/reconcile"
)

// compared is an operator with rows in both stores, and the state open.
func compared(t *testing.T, rows int, reconcileLines string) (*operator, *reconciles.Runs) {
	t.Helper()
	o := newOperator(t, "items", "  table: items\n", "  key: item:{id}\n", clitest.Served+"reconcile: {workers: 1, lease: 1s, chunk_rows: 500, "+reconcileLines+"}\n")
	o.SQL(o.Legacy, fmt.Sprintf(`CREATE TABLE items (id bigint PRIMARY KEY, name text);
		INSERT INTO items SELECT i, 'item ' || i FROM generate_series(1, %d) i; ANALYZE items`, rows))
	o.Does("init", "apply", "phase advance", "backfill run")
	store, err := state.Open(t.Context(), o.State)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return o, reconciles.New(store.Pool(), "items")
}

// TestThreeWorkersOneKilledOneFrozen: the run is complete, and each job counts once.
func TestThreeWorkersOneKilledOneFrozen(t *testing.T) {
	t.Parallel()
	threeWorkers(t, 30_000, 8_000, 0)
}

// TestTortureThreeWorkers is the long form: one worker is stopped for a minute.
func TestTortureThreeWorkers(t *testing.T) {
	t.Parallel()
	onlyLong(t)
	threeWorkers(t, 300_000, 6_000, time.Minute)
}

func threeWorkers(t *testing.T, rows, rate int, frozen time.Duration) {
	t.Helper()
	o, kept := compared(t, rows, fmt.Sprintf("rate: %d", rate))
	o.Redis("DEL", "item:7", "item:29999")
	o.Redis("HSET", "item:15000", "name", "another")
	o.Redis("HSET", "item:0", "id", "0", "name", "extra", "_v", "00000001000000010000000000000001")

	var workers [3]*clitest.Process
	for i := range workers {
		workers[i] = o.Start(t, "worker", "--workers", "1")
	}
	for _, w := range workers {
		testenv.Await(t, "the worker waits for jobs", func() bool { return strings.Contains(w.Log.String(), "waiting for jobs") })
	}
	run := o.Start(t, "reconcile", "run", "--full", "-o", "json")
	jobs := func() []reconciles.JobRow {
		t.Helper()
		list, err := kept.JobRows(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	holds := func(w *clitest.Process) int {
		for _, j := range jobs() {
			if j.State == "taken" && strings.Contains(j.Worker, fmt.Sprintf(":%d:", w.Cmd.Process.Pid)) {
				return j.Number
			}
		}
		return -1
	}
	lost := map[int]bool{}
	for i, s := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP} {
		testenv.Await(t, "the worker has a job", func() bool { return holds(workers[i]) >= 0 })
		workers[i].Signal(s)
		if n := holds(workers[i]); n >= 0 {
			lost[n] = true
		}
	}
	if len(lost) == 0 {
		t.Fatal("both had finished before they were hit")
	}
	testenv.Await(t, "other workers have the jobs of the killed and the frozen one", func() bool {
		taken := 0
		for _, j := range jobs() {
			if lost[j.Number] && j.Attempts > 1 {
				taken++
			}
		}
		return taken == len(lost)
	})
	if frozen > 0 {
		<-time.After(frozen)
	}
	workers[1].Signal(syscall.SIGCONT)
	if code := run.Exits(); code != clitest.NotYet {
		t.Fatalf("exit code %d: %s%s", code, run.Out.String(), run.Log.String())
	}
	var result app.Reconciled
	if err := json.Unmarshal([]byte(run.Out.String()), &result); err != nil {
		t.Fatal(err)
	}
	if result.Status != reconcile.Done || result.Checked != int64(rows) || result.Differences != 4 || result.Classes[reconcile.Missing] != 2 ||
		result.Classes[reconcile.FieldDiff]+result.Classes[reconcile.Stale] != 1 || result.Classes[reconcile.Extra] != 1 {
		t.Errorf("%+v", result)
	}
	sum, sharing := int64(0), map[string]bool{}
	for _, j := range jobs() {
		if j.State != "done" {
			t.Errorf("%+v", j)
		}
		sum += j.Checked
		sharing[j.Worker] = true
	}
	if sum != int64(rows) || len(sharing) < 2 {
		t.Errorf("the jobs have checked %d of %d, by %v", sum, rows, sharing)
	}
	for _, w := range workers[1:] {
		w.Signal(syscall.SIGTERM)
		if code := w.Exits(); code != clitest.Done || !strings.Contains(w.Out.String(), "Stopped after") {
			t.Errorf("a stopped worker: %d: %s%s", code, w.Out.String(), w.Log.String())
		}
	}
	if !strings.Contains(workers[1].Log.String(), "job was reassigned to another worker") {
		t.Logf("the frozen one had no job when it woke: %s", workers[1].Log.String())
	}
}

// TestKilledRunIsResumed: no finished job is repeated.
func TestKilledRunIsResumed(t *testing.T) {
	t.Parallel()
	o, kept := compared(t, 20_000, "rate: 5_000")
	o.Redis("DEL", "item:1", "item:20000")
	o.Redis("HSET", "item:0", "id", "0", "name", "extra", "_v", "00000001000000010000000000000001")
	first := o.Start(t, "reconcile", "run", "--full")
	done := func() (n int) {
		list, err := kept.JobRows(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		for _, j := range list {
			if j.State == "done" {
				n++
			}
		}
		return n
	}
	testenv.Await(t, "a job is done", func() bool { return done() > 0 })
	first.Signal(syscall.SIGSTOP) // so that it can't end before the second one begins
	if code, _, stderr := o.Try("reconcile", "run"); code != clitest.NotYet || !strings.Contains(stderr, "another reconcile run") {
		t.Errorf("a second run beside it: %d: %s", code, stderr)
	}
	first.Signal(syscall.SIGKILL)
	first.Exits()
	before, err := kept.JobRows(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	var code int
	var stdout, stderr string
	testenv.Await(t, "the state database has noticed its end", func() bool {
		code, stdout, stderr = o.Try("reconcile", "run", "--full", "-o", "json")
		return !strings.Contains(stderr, "another reconcile run")
	})
	var result app.Reconciled
	if err := json.Unmarshal([]byte(stdout), &result); err != nil {
		t.Fatal(err, stderr)
	}
	if code != clitest.NotYet || result.ID != 1 || result.Checked != 20_000 || result.Differences != 3 || result.Suspects != 3 || !strings.Contains(stderr, "resuming interrupted run 1") {
		t.Errorf("%d: %+v %s", code, result, stderr)
	}
	after, err := kept.JobRows(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	for i, j := range before {
		if j.State == "done" && after[i] != j {
			t.Errorf("done again: %+v, before %+v", after[i], j)
		}
	}
}

// TestARunIsPausedResumedAndCancelled from another terminal.
func TestARunIsPausedResumedAndCancelled(t *testing.T) {
	t.Parallel()
	o, kept := compared(t, 20_000, "rate: 8_000")
	for _, line := range []string{"reconcile pause", "reconcile resume", "reconcile cancel", "reconcile cancel x", "reconcile pause 7 8"} {
		if code, _, stderr := o.Try(strings.Fields(line)...); code != clitest.Usage && code != clitest.Error || !strings.Contains(stderr, "Try: ") {
			t.Errorf("%s without a run: %d: %s", line, code, stderr)
		}
	}
	run := o.Start(t, "reconcile", "run", "--full")
	testenv.Await(t, "it is running", func() bool {
		list, err := kept.JobRows(t.Context(), 1)
		return err == nil && len(list) > 0 && list[0].State != "waiting"
	})
	o.Does("reconcile pause --reason lunch")
	testenv.Await(t, "it reports that it waits", func() bool {
		return strings.Contains(run.Log.String(), "is paused (") && strings.Contains(run.Log.String(), "lunch")
	})
	if got, err := kept.Run(t.Context(), 1); err != nil || got.Status != reconcile.Paused {
		t.Fatalf("%+v, %v", got, err)
	}
	o.Does("reconcile resume")
	testenv.Await(t, "it resumes", func() bool { return strings.Contains(run.Log.String(), "resumed") })
	run.Signal(syscall.SIGTERM)
	if code := run.Exits(); code != clitest.Error {
		t.Errorf("stopped by a signal: %d: %s", code, run.Log.String())
	}
	if got, err := kept.Run(t.Context(), 1); err != nil || got.Status != reconcile.Stopped {
		t.Fatalf("%+v, %v", got, err)
	}
	again := o.Start(t, "reconcile", "resume", "1", "--summary", "--textfile", o.Path("run.prom"))
	if code := again.Exits(); code != clitest.Done || !strings.Contains(again.Out.String(), "reconcile items: run 1, full, done: 20,000 checked, 0 different") {
		t.Errorf("%d: %s%s", code, again.Out.String(), again.Log.String())
	}
	metrics, err := os.ReadFile(o.Path("run.prom"))
	if err != nil || !strings.Contains(string(metrics), `migrator_reconcile_records{migration="items",result="checked"} 20000`) ||
		!strings.Contains(string(metrics), `migrator_reconcile_last_success_timestamp_seconds{migration="items"} 1.`) {
		t.Errorf("%s, %v", metrics, err)
	}
	if left, _ := filepath.Glob(o.Path("run.prom*")); len(left) != 1 {
		t.Errorf("files left: %v", left)
	}

	run = o.Start(t, "reconcile", "run", "--full")
	testenv.Await(t, "it is running", func() bool {
		list, err := kept.JobRows(t.Context(), 2)
		return err == nil && len(list) > 0 && list[0].State != "waiting"
	})
	o.Does("reconcile cancel --reason mistake")
	if code := run.Exits(); code != clitest.Error || !strings.Contains(run.Log.String(), "mistake") {
		t.Errorf("cancelled: %d: %s", code, run.Log.String())
	}
	if got, err := kept.Run(t.Context(), 2); err != nil || got.Status != reconcile.Cancelled || got.Finished.IsZero() {
		t.Errorf("%+v, %v", got, err)
	}
	if code, _, stderr := o.Try("reconcile", "resume", "2"); code != clitest.Usage || !strings.Contains(stderr, "is cancelled") {
		t.Errorf("resume of it: %d: %s", code, stderr)
	}
}

// TestWorkerFollowsWhatIsApplied: it takes no job by rules that are not the run's, and opens the
// stores again when another file is applied, without a restart.
func TestWorkerFollowsWhatIsApplied(t *testing.T) {
	t.Parallel()
	o, _ := compared(t, 6_000, "rate: 3_000")
	worker := o.Start(t, "worker", "--workers", "1")
	says := func(text string, times int) {
		t.Helper()
		testenv.Await(t, fmt.Sprintf("the worker says %d times %s", times, text), func() bool { return strings.Count(worker.Log.String(), text) >= times })
	}
	says("waiting for jobs", 1)
	text, err := os.ReadFile(o.Path("migration.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	o.Write("migration.yaml", string(text)+"compare: [{path: /name, ignore: a test}]\n")
	if code, _, stderr := o.Try("worker"); code != clitest.Usage || !strings.Contains(stderr, "differs from what was applied") {
		t.Errorf("one that starts: %d: %s", code, stderr)
	}
	o.Does("apply")
	says("another migration file was applied", 1)
	says("waiting for jobs", 2)
	run := o.Start(t, "reconcile", "run", "--full")
	says("joined a run", 1)
	if code := run.Exits(); code != clitest.Done {
		t.Errorf("%d: %s", code, run.Log.String())
	}
	// While its own file is not the applied one, it waits.
	o.Write("migration.yaml", string(text))
	o.Does("apply")
	says("waiting for jobs", 3)
	o.Write("migration.yaml", string(text)+"compare: [{path: /name, ignore: another}, {path: /id, tolerance: 1}]\n")
	o.SQL(o.State, `UPDATE migrator.migrations SET config = (config::text || ' ')::json`)
	says("opening the stores again failed", 1)
	o.Write("migration.yaml", string(text))
	says("waiting for jobs", 4)
}

// TestKilledRepairIsResumed: differences that are not repaired yet are found again.
func TestKilledRepairIsResumed(t *testing.T) {
	t.Parallel()
	o, kept := compared(t, 12_000, "rate: 100_000, repair_rate: 5, max_difference: 50%")
	o.SQL(o.Legacy, `UPDATE items SET name = 'changed' WHERE id % 600 = 0`) // without a write to the target
	first := o.Start(t, "reconcile", "run", "--full", "--repair")
	testenv.Await(t, "a record is repaired", func() bool {
		run, err := kept.Run(t.Context(), 1)
		return err == nil && run.Repaired > 0
	})
	first.Signal(syscall.SIGKILL)
	first.Exits()
	var stdout, stderr string
	testenv.Await(t, "the state database has noticed its end", func() bool {
		_, stdout, stderr = o.Try("reconcile", "run", "--full", "--repair", "-o", "json")
		return !strings.Contains(stderr, "another reconcile run")
	})
	var result app.Reconciled
	if err := json.Unmarshal([]byte(stdout), &result); err != nil {
		t.Fatal(err, stderr)
	}
	if result.ID != 1 || result.Differences != 20 || result.Repaired != 20 || result.Checked != 12_000 || len(result.Findings) != 20 {
		t.Errorf("%+v", result)
	}
	o.Does("reconcile run --full")
}
