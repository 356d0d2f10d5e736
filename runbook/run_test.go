package runbook_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/runbook"
)

func (b *bench) file(name string) string {
	b.t.Helper()
	data, err := os.ReadFile(filepath.Join(b.dir, name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		b.t.Fatal(err)
	}
	return string(data)
}

func TestStepsRunInOrder(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.Path)
		if r.Method == "POST" {
			w.WriteHeader(http.StatusAccepted)
		}
	}))
	t.Cleanup(server.Close)
	r := parse(t, strings.ReplaceAll("```sh {#a .check}\ntest -n \"$SECRET_URL\"; echo \"$SECRET_URL\"\n```\n"+
		"```bash {#b .action undo=none}\nset -o pipefail\necho b >> done\n```\n"+
		"```sql {#c .action on=state undo=none}\nCREATE TABLE made (id int); INSERT INTO made VALUES (1);\n```\n"+
		"```sql {#d .verify on=state}\nSELECT count(*) = 1 FROM made;\n```\n"+
		"```sql {#e .wait on=state expect=\"name=products,phase=legacy\"}\nSELECT name, phase FROM migrator.migrations;\n```\n"+
		"```http {#f .check}\nGET SERVER/well\n```\n"+
		"```http {#g .action undo=none status=202}\nPOST SERVER/purge\n\nall\n```\n"+
		"```text {#h .wait for=1ms}\nlet it rest\n```\n", "SERVER", server.URL))
	run := b.begin(r)
	must(t, b.resume(r, run, nil))
	if got, want := b.outcomes(run), "a:done b:done c:done d:done e:done f:done g:done h:done"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if b.file("done") != "b\n" || strings.Join(asked, ",") != "GET /well,POST /purge" || b.status(run) != runbook.RunDone {
		t.Errorf("done %q, asked %v, %s", b.file("done"), asked, b.status(run))
	}
	records, err := b.runs.Records(t.Context(), run.ID)
	must(t, err)
	if out := records[0].Detail.Output; strings.Contains(out, "geheim") || !strings.Contains(out, "(hidden)") {
		t.Errorf("recorded output %q", out)
	}
	// A run that has ended does nothing more.
	must(t, b.resume(r, run, nil))
	if b.file("done") != "b\n" {
		t.Error("the step ran twice")
	}
}

const threeActions = "```sh {#a .action undo=not-a}\necho a >> log\n```\n" +
	"```sh {#not-a .undo}\necho not-a >> log\n```\n" +
	"```sh {#b .action irreversible=true correct=fix-b warn=\"no undo\"}\necho b >> log\n```\n" +
	"```sh {#fix-b .correct}\necho fix-b >> log\n```\n" +
	"```sh {#c .action undo=not-c retries=1 pause=1ms}\necho c >> log; exit 3\n```\n" +
	"```sh {#not-c .undo}\necho not-c >> log\n```\n" +
	"```sh {#d .action undo=none}\necho d >> log\n```\n"

func TestFailedRunCompensatesLastFirst(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r := parse(t, threeActions)
	run := b.begin(r)
	var warned []string
	err := b.resume(r, run, func(x *runbook.Runner) {
		x.Warn = func(_ context.Context, s *runbook.Step) error { warned = append(warned, s.ID); return nil }
	})
	var failed *runbook.FailedError
	if !errors.As(err, &failed) || failed.Status != runbook.Compensated || failed.Step != "c" || !strings.Contains(failed.Error(), "exit code 3") {
		t.Errorf("%v", err)
	}
	if got, want := b.outcomes(run), "a:done b:done c:failed c:failed not-c:done fix-b:done not-a:done"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := strings.Fields(b.file("log")); strings.Join(got, " ") != "a b c c not-c fix-b not-a" {
		t.Errorf("%v", got)
	}
	if strings.Join(warned, " ") != "b" {
		t.Errorf("warned before %v", warned)
	}
	if b.status(run) != runbook.Compensated {
		t.Errorf("%s", b.status(run))
	}
}

func TestUnconfirmedWarningBlocksStep(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r := parse(t, threeActions)
	run := b.begin(r)
	no := errors.New("no")
	if err := b.resume(r, run, func(x *runbook.Runner) {
		x.Warn = func(context.Context, *runbook.Step) error { return no }
	}); !errors.Is(err, no) {
		t.Errorf("%v", err)
	}
	if got := b.outcomes(run); got != "a:done" || b.status(run) != runbook.Running {
		t.Errorf("%s, %s", got, b.status(run))
	}
}

func TestFailedCompensationWaitsForOperator(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r := parse(t, "```sh {#a .action undo=not-a}\ntrue\n```\n```sh {#not-a .undo}\ntest -e repaired\n```\n```sh {#b .check}\nfalse\n```\n")
	run := b.begin(r)
	err := b.resume(r, run, nil)
	var failed *runbook.FailedError
	if !errors.As(err, &failed) || failed.Status != runbook.RunFailed || failed.Block != "not-a" {
		t.Fatalf("%v", err)
	}
	must(t, os.WriteFile(filepath.Join(b.dir, "repaired"), nil, 0o600))
	records, err := b.runs.Records(t.Context(), run.ID)
	must(t, err)
	n := r.Next(records)
	n.Attempt = 2
	log, err := b.runs.Take(t.Context(), run.ID)
	must(t, err)
	must(t, log.SaveOutcome(t.Context(), n, runbook.Unknown, "repaired"))
	log.Release()
	if err := b.resume(r, run, nil); !errors.As(err, &failed) || failed.Status != runbook.Compensated {
		t.Errorf("%v", err)
	}
	if got, want := b.outcomes(run), "a:done b:failed not-a:failed not-a:unknown not-a:done"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// dying is the log of a process that ends between an action and its outcome.
type dying struct {
	runbook.Log
	at string
}

var errDied = errors.New("the process has ended")

func (d dying) End(ctx context.Context, r runbook.Record) error {
	if r.Block == d.at {
		return errDied
	}
	return d.Log.End(ctx, r)
}

func TestInterruptedAttempt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, attributes, body, verify string
		story                          string // after the run resumed
		times                          int    // that the action ran
		doubt                          bool
	}{
		{"it may be run twice", "idempotent=true", "echo x >> log", "", "a:unknown a:done", 2, false},
		{"verification shows that it was done", "verify=v", "echo x >> log", "test -s log", "a:done", 1, false},
		{"verification shows that it was not done", "verify=v", "echo x >> log", "test $(wc -l < log) -ge 2", "a:unknown a:done", 2, false},
		{"its verification can't tell", "verify=v", "echo x >> log", "test $(wc -l < log) -ge 2 || /nowhere", "a:?", 1, true},
		{"outcome unknown", "", "echo x >> log", "", "a:?", 1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			text := "```sh {#a .action undo=none " + c.attributes + "}\n" + c.body + "\n```\n"
			if c.verify != "" {
				text += "```sh {#v .verify timeout=300ms pause=20ms}\n" + c.verify + "\n```\n"
			}
			r := parse(t, text)
			run := b.begin(r)
			// The process is killed between the action and its outcome. In the third case
			// verification fails before that.
			_ = b.resume(r, run, func(x *runbook.Runner) { x.Log = dying{x.Log, "a"} })
			if got := b.outcomes(run); got != "a:?" {
				t.Fatalf("before: %s", got)
			}
			err := b.resume(r, run, nil)
			var doubt *runbook.UnknownOutcomeError
			if errors.As(err, &doubt) != c.doubt || err != nil && !c.doubt {
				t.Errorf("%v", err)
			}
			if got := b.outcomes(run); got != c.story {
				t.Errorf("%s, want %s", got, c.story)
			}
			if got := strings.Count(b.file("log"), "x"); got != c.times {
				t.Errorf("it was run %d times, want %d", got, c.times)
			}
			if !c.doubt {
				return
			}
			if b.status(run) != runbook.Waiting {
				t.Errorf("it is %s", b.status(run))
			}
			// An operator reports the outcome.
			_, err = b.runs.Decide(t.Context(), run.ID, "a", runbook.Done, "I looked")
			must(t, err)
			must(t, b.resume(r, run, nil))
			if got := b.outcomes(run); got != "a:done" || b.status(run) != runbook.RunDone {
				t.Errorf("%s, %s", got, b.status(run))
			}
			if _, err := b.runs.Decide(t.Context(), run.ID, "a", runbook.Failed, "no"); err == nil {
				t.Error("an outcome was recorded twice")
			}
		})
	}
}

// A shell or statement that outlives its runner is awaited before the attempt's outcome is
// determined.
func TestResumeAwaitsOrphans(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r := parse(t, "```sh {#a .action undo=none verify=v}\necho x >> log\n```\n```sh {#v .verify timeout=1m pause=10ms}\ntest -e done\n```\n")
	run := b.begin(r)
	_ = b.resume(r, run, func(x *runbook.Runner) { x.Log = dying{x.Log, "a"} })
	// An orphan holds the mark, as a child of the killed process would.
	orphan := b.executors(r, run)
	started, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		s := &runbook.Step{ID: "orphan", Language: "sh", Body: "mkfifo pipe; echo locked; read line < pipe; touch done", Kind: runbook.Action}
		_, err := orphan.Do(context.Background(), s, func(string) { close(started) })
		ended <- errors.Join(err, orphan.Close())
	}()
	<-started
	var still *runbook.StillRunningError
	impatient := *r.Named("a")
	impatient.Timeout = phases.Duration(time.Millisecond)
	if err := b.executors(r, run).AwaitStopped(t.Context(), &impatient); !errors.As(err, &still) {
		t.Fatalf("an orphan was not detected: %v", err)
	}
	must(t, os.WriteFile(filepath.Join(b.dir, "pipe"), []byte("go\n"), 0o600))
	must(t, <-ended)
	must(t, b.resume(r, run, nil))
	if got := b.outcomes(run); got != "a:done" {
		t.Errorf("%s", got)
	}
}

func TestTimeoutKillsProcessGroup(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r := parse(t, "```sh {#a .action undo=none timeout=300ms}\n(trap '' TERM; while :; do sleep 0.05; echo x >> alive; done) &\nsleep 60\n```\n")
	run := b.begin(r)
	err := b.resume(r, run, nil)
	if err == nil || !strings.Contains(err.Error(), "timeout of 300ms") {
		t.Errorf("%v", err)
	}
	// No process holds the mark any more.
	must(t, b.executors(r, run).AwaitStopped(t.Context(), r.Named("a")))
}

func TestRunIsExclusive(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	run := b.begin(parse(t, "```sh {#a .check}\ntrue\n```\n"))
	log, err := b.runs.Take(t.Context(), run.ID)
	must(t, err)
	within, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	if _, err := b.runs.Take(within, run.ID); err == nil {
		t.Error("two processes have the run")
	}
	log.Release()
	if err := log.Mark(t.Context(), runbook.Running); err == nil {
		t.Error("the log accepts writes without the lock")
	}
}

func TestApprovalFromAnotherTerminal(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		outcome runbook.Outcome
		story   string
	}{"yes": {runbook.Done, "a:done go:done b:done"}, "no": {runbook.Failed, "a:done go:failed not-a:done"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			r := parse(t, "```sh {#a .action undo=not-a}\ntrue\n```\n```sh {#not-a .undo}\ntrue\n```\n"+
				"```text {#go .approve timeout=1m}\nShall we?\n```\n```sh {#b .check}\ntrue\n```\n")
			run := b.begin(r)
			asked := make(chan struct{})
			done := make(chan error, 1)
			go func() {
				done <- b.resume(r, run, func(x *runbook.Runner) {
					x.Poll = 10 * time.Millisecond
					x.Notify = func(e runbook.Event) {
						if e.What == "wait" && e.Text == "Shall we?" {
							close(asked)
						}
					}
				})
			}()
			<-asked
			if b.status(run) != runbook.Waiting {
				t.Errorf("it is %s", b.status(run))
			}
			_, err := b.runs.Decide(t.Context(), run.ID, "go", c.outcome, "seen")
			must(t, err)
			if err := <-done; (err == nil) != (c.outcome == runbook.Done) {
				t.Errorf("%v", err)
			}
			if got := b.outcomes(run); got != c.story {
				t.Errorf("%s, want %s", got, c.story)
			}
		})
	}
}

func TestApprovalTimeoutLeavesRunOpen(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r := parse(t, "```text {#go .approve timeout=50ms}\nShall we?\n```\n")
	run := b.begin(r)
	var waits *runbook.WaitingError
	for range 2 {
		if err := b.resume(r, run, func(x *runbook.Runner) { x.Poll = 10 * time.Millisecond }); !errors.As(err, &waits) {
			t.Errorf("%v", err)
		}
	}
	if got := b.outcomes(run); got != "go:?" {
		t.Errorf("%s: the approval was requested twice", got)
	}
}

func TestFixedWaitDoesNotRestart(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r := parse(t, "```text {#rest .wait for=1h}\nlet it rest\n```\n")
	run := b.begin(r)
	ctx, cancel := context.WithCancel(t.Context())
	log, err := b.runs.Take(ctx, run.ID)
	must(t, err)
	err = (&runbook.Runner{Book: r, Log: log, Do: b.executors(r, run), Notify: func(e runbook.Event) {
		if e.What == "wait" {
			cancel() // as a signal would
		}
	}}).Run(ctx)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
	log.Release()
	_, err = b.store.Pool().Exec(t.Context(), `ALTER TABLE migrator.runbook_steps DISABLE TRIGGER sign; UPDATE migrator.runbook_steps SET intent_at = intent_at - interval '2 hours'`)
	must(t, err)
	must(t, b.resume(r, run, nil))
}
