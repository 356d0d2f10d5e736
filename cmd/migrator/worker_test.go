//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/reconciles"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/reconcile"
)

// started is a migrator of its own process.
type started struct {
	t        *testing.T
	cmd      *exec.Cmd
	out, log testenv.Buffer
	over     chan struct{}
	code     int
}

func (o *operator) start(t *testing.T, args ...string) *started {
	t.Helper()
	p := &started{t: t, over: make(chan struct{})}
	p.cmd = exec.Command("migrator", append([]string{"--settings", o.path("settings.yaml"), "--log-format", "json"}, args...)...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		p.code = p.cmd.ProcessState.ExitCode()
		close(p.over)
	}()
	t.Cleanup(func() {
		p.signal(syscall.SIGKILL)
		<-p.over
	})
	return p
}

func (p *started) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// exits waits for the process's end and returns its exit code.
func (p *started) exits() int {
	p.t.Helper()
	select {
	case <-p.over:
	case <-time.After(60 * time.Second):
		p.t.Fatalf("%v does not end: %s%s", p.cmd.Args, p.out.String(), p.log.String())
	}
	return p.code
}

// until asks again and again, for a minute.
func until(t *testing.T, what string, yes func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !yes() {
		select {
		case <-ctx.Done():
			t.Fatalf("waiting until %s", what)
		case <-tick.C:
		}
	}
}

// compared is an operator with rows in both stores, and the state open.
func compared(t *testing.T, rows int, reconcileLines string) (*operator, *reconciles.Runs) {
	t.Helper()
	o := newOperator(t, "items", "  table: items\n", "  key: item:{id}\n", servedRest+"reconcile: {workers: 1, lease: 1s, chunk_rows: 500, "+reconcileLines+"}\n")
	o.sql(o.legacy, fmt.Sprintf(`CREATE TABLE items (id bigint PRIMARY KEY, name text);
		INSERT INTO items SELECT i, 'item ' || i FROM generate_series(1, %d) i; ANALYZE items`, rows))
	o.does("init", "apply", "phase advance", "backfill run")
	store, err := state.Open(t.Context(), o.state)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return o, reconciles.New(store.Pool(), "items")
}

// TestThreeWorkersOneKilledOneFrozen: a run ends complete, and each job counts once,
// whatever becomes of those who work on it.
func TestThreeWorkersOneKilledOneFrozen(t *testing.T) {
	t.Parallel()
	threeWorkers(t, 30_000, 8_000, 0)
}

// The long form: one worker is stopped for a minute.
func TestTortureThreeWorkers(t *testing.T) {
	t.Parallel()
	onlyLong(t)
	threeWorkers(t, 300_000, 6_000, time.Minute)
}

func threeWorkers(t *testing.T, rows, rate int, frozen time.Duration) {
	t.Helper()
	o, kept := compared(t, rows, fmt.Sprintf("rate: %d", rate))
	o.redis("DEL", "item:7", "item:29999")
	o.redis("HSET", "item:15000", "name", "another")
	o.redis("HSET", "item:0", "id", "0", "name", "extra", "_v", "00000001000000010000000000000001")

	var workers [3]*started
	for i := range workers {
		workers[i] = o.start(t, "worker", "--workers", "1")
	}
	for _, w := range workers {
		until(t, "the worker waits for jobs", func() bool { return strings.Contains(w.log.String(), "waiting for jobs") })
	}
	run := o.start(t, "reconcile", "run", "--full", "-o", "json")
	jobs := func() []reconciles.JobRow {
		t.Helper()
		list, err := kept.JobRows(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	holds := func(w *started) int {
		for _, j := range jobs() {
			if j.State == "taken" && strings.Contains(j.Worker, fmt.Sprintf(":%d:", w.cmd.Process.Pid)) {
				return j.Number
			}
		}
		return -1
	}
	lost := map[int]bool{}
	for i, s := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP} {
		until(t, "the worker has a job", func() bool { return holds(workers[i]) >= 0 })
		workers[i].signal(s)
		if n := holds(workers[i]); n >= 0 {
			lost[n] = true
		}
	}
	if len(lost) == 0 {
		t.Fatal("both had finished before they were hit")
	}
	until(t, "others have the jobs of the dead and the frozen", func() bool {
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
	workers[1].signal(syscall.SIGCONT)
	if code := run.exits(); code != exitNotYet {
		t.Fatalf("exit code %d: %s%s", code, run.out.String(), run.log.String())
	}
	var told reconciled
	if err := json.Unmarshal([]byte(run.out.String()), &told); err != nil {
		t.Fatal(err)
	}
	if told.Status != reconcile.Done || told.Checked != int64(rows) || told.Differences != 4 || told.Classes[reconcile.Missing] != 2 ||
		told.Classes[reconcile.FieldDiff]+told.Classes[reconcile.Stale] != 1 || told.Classes[reconcile.Extra] != 1 {
		t.Errorf("%+v", told)
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
		w.signal(syscall.SIGTERM)
		if code := w.exits(); code != exitDone || !strings.Contains(w.out.String(), "Stopped after") {
			t.Errorf("a worker told to stop: %d: %s%s", code, w.out.String(), w.log.String())
		}
	}
	if !strings.Contains(workers[1].log.String(), "was given to another worker meanwhile") {
		t.Logf("the frozen one had no job when it woke: %s", workers[1].log.String())
	}
}

// TestAKilledRunIsGoneOnWith: of what its jobs have done, nothing is done again.
func TestAKilledRunIsGoneOnWith(t *testing.T) {
	t.Parallel()
	o, kept := compared(t, 20_000, "rate: 10_000")
	o.redis("DEL", "item:1", "item:20000")
	o.redis("HSET", "item:0", "id", "0", "name", "extra", "_v", "00000001000000010000000000000001")
	first := o.start(t, "reconcile", "run", "--full")
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
	until(t, "a job is done", func() bool { return done() > 0 })
	if code, _, stderr := o.try("reconcile", "run"); code != exitNotYet || !strings.Contains(stderr, "under way") {
		t.Errorf("a second run beside it: %d: %s", code, stderr)
	}
	first.signal(syscall.SIGKILL)
	first.exits()
	before, err := kept.JobRows(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	var code int
	var stdout, stderr string
	until(t, "the state database has seen its end", func() bool {
		code, stdout, stderr = o.try("reconcile", "run", "--full", "-o", "json")
		return !strings.Contains(stderr, "under way")
	})
	var told reconciled
	if err := json.Unmarshal([]byte(stdout), &told); err != nil {
		t.Fatal(err, stderr)
	}
	if code != exitNotYet || told.ID != 1 || told.Checked != 20_000 || told.Differences != 3 || told.Suspects != 3 || !strings.Contains(stderr, "going on with run 1") {
		t.Errorf("%d: %+v %s", code, told, stderr)
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
		if code, _, stderr := o.try(strings.Fields(line)...); code != exitUsage && code != exitError || !strings.Contains(stderr, "Try: ") {
			t.Errorf("%s without a run: %d: %s", line, code, stderr)
		}
	}
	run := o.start(t, "reconcile", "run", "--full")
	until(t, "it is under way", func() bool {
		list, err := kept.JobRows(t.Context(), 1)
		return err == nil && len(list) > 0 && list[0].State != "waiting"
	})
	o.does("reconcile pause --reason lunch")
	until(t, "it says that it waits", func() bool {
		return strings.Contains(run.log.String(), "is paused (") && strings.Contains(run.log.String(), "lunch")
	})
	if got, err := kept.Run(t.Context(), 1); err != nil || got.Status != reconcile.Paused {
		t.Fatalf("%+v, %v", got, err)
	}
	o.does("reconcile resume")
	until(t, "it goes on", func() bool { return strings.Contains(run.log.String(), "goes on") })
	run.signal(syscall.SIGTERM)
	if code := run.exits(); code != exitError {
		t.Errorf("stopped by a signal: %d: %s", code, run.log.String())
	}
	if got, err := kept.Run(t.Context(), 1); err != nil || got.Status != reconcile.Stopped {
		t.Fatalf("%+v, %v", got, err)
	}
	again := o.start(t, "reconcile", "resume", "1", "--summary", "--textfile", o.path("run.prom"))
	if code := again.exits(); code != exitDone || !strings.Contains(again.out.String(), "reconcile items: run 1, full, done: 20,000 checked, 0 different") {
		t.Errorf("%d: %s%s", code, again.out.String(), again.log.String())
	}
	metrics, err := os.ReadFile(o.path("run.prom"))
	if err != nil || !strings.Contains(string(metrics), `migrator_reconcile_records{migration="items",result="checked"} 20000`) ||
		!strings.Contains(string(metrics), `migrator_reconcile_last_success_timestamp_seconds{migration="items"} 1.`) {
		t.Errorf("%s, %v", metrics, err)
	}
	if left, _ := filepath.Glob(o.path("run.prom*")); len(left) != 1 {
		t.Errorf("files left: %v", left)
	}

	run = o.start(t, "reconcile", "run", "--full")
	until(t, "it is under way", func() bool {
		list, err := kept.JobRows(t.Context(), 2)
		return err == nil && len(list) > 0 && list[0].State != "waiting"
	})
	o.does("reconcile cancel --reason mistake")
	if code := run.exits(); code != exitError || !strings.Contains(run.log.String(), "mistake") {
		t.Errorf("cancelled: %d: %s", code, run.log.String())
	}
	if got, err := kept.Run(t.Context(), 2); err != nil || got.Status != reconcile.Cancelled || got.Finished.IsZero() {
		t.Errorf("%+v, %v", got, err)
	}
	if code, _, stderr := o.try("reconcile", "resume", "2"); code != exitUsage || !strings.Contains(stderr, "is cancelled") {
		t.Errorf("resume of it: %d: %s", code, stderr)
	}
}

// TestAWorkerOfAnotherDescriptionTakesNothing: what it would compare is not what the
// run is about.
func TestAWorkerOfAnotherDescriptionTakesNothing(t *testing.T) {
	t.Parallel()
	o, kept := compared(t, 6_000, "rate: 6_000")
	worker := o.start(t, "worker")
	until(t, "the worker waits for jobs", func() bool { return strings.Contains(worker.log.String(), "waiting for jobs") })
	run := o.start(t, "reconcile", "run", "--full")
	if code := run.exits(); code != exitDone {
		t.Errorf("%d: %s", code, run.log.String())
	}
	text, err := os.ReadFile(o.path("migration.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	o.write("migration.yaml", string(text)+"compare: [{path: /name, ignore: a test}]\n")
	if code, _, stderr := o.try("worker"); code != exitUsage || !strings.Contains(stderr, "differs from what was applied") {
		t.Errorf("one that starts: %d: %s", code, stderr)
	}
	o.does("apply")
	run = o.start(t, "reconcile", "run", "--full")
	if code := run.exits(); code != exitDone {
		t.Errorf("%d: %s", code, run.log.String())
	}
	list, err := kept.JobRows(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range list {
		if j.State != "done" || strings.Contains(j.Worker, fmt.Sprintf(":%d:", worker.cmd.Process.Pid)) {
			t.Errorf("%+v", j)
		}
	}
	if !strings.Contains(worker.log.String(), "another description") {
		t.Errorf("it says nothing: %s", worker.log.String())
	}
}

// worker looks at what a worker prints when it is told to stop.
func (a *audit) worker() {
	a.t.Helper()
	w := a.o.start(a.t, "worker", "-o", "json")
	until(a.t, "the worker waits for jobs", func() bool { return strings.Contains(w.log.String(), "waiting for jobs") })
	w.signal(syscall.SIGTERM)
	if code := w.exits(); code != exitDone {
		a.t.Errorf("%d: %s", code, w.log.String())
	}
	a.seen["migrator worker"] = true
	if err := a.c.document("migrator worker", []byte(w.out.String())); err != nil {
		a.t.Error(err)
	}
}

// TestAKilledRepairIsGoneOnWith: what was found and not repaired yet is found again.
func TestAKilledRepairIsGoneOnWith(t *testing.T) {
	t.Parallel()
	o, kept := compared(t, 12_000, "rate: 100_000, repair_rate: 5, max_difference: 50%")
	o.sql(o.legacy, `UPDATE items SET name = 'changed' WHERE id % 600 = 0`) // which nobody told the target
	first := o.start(t, "reconcile", "run", "--full", "--repair")
	until(t, "a record is repaired", func() bool {
		run, err := kept.Run(t.Context(), 1)
		return err == nil && run.Repaired > 0
	})
	first.signal(syscall.SIGKILL)
	first.exits()
	var stdout, stderr string
	until(t, "the state database has seen its end", func() bool {
		_, stdout, stderr = o.try("reconcile", "run", "--full", "--repair", "-o", "json")
		return !strings.Contains(stderr, "under way")
	})
	var told reconciled
	if err := json.Unmarshal([]byte(stdout), &told); err != nil {
		t.Fatal(err, stderr)
	}
	if told.ID != 1 || told.Differences != 20 || told.Repaired != 20 || told.Checked != 12_000 || len(told.Findings) != 20 {
		t.Errorf("%+v", told)
	}
	o.does("reconcile run --full")
}
