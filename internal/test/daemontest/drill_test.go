package daemontest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/drill"
	"github.com/stranglerfig/migrator/internal/test/clitest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
)

const stagedTriggers = `
triggers:
  mismatches: {interval: 1s}
  errors: {interval: 1s}
  latency: {off: it needs a machine of its own}
  lost_writes: {interval: 1s}
`

const planted = 5 // records that a drill removes from the target

// staged is a storefront in staging, in mid-cutover.
type staged struct {
	*operator
	t   *testing.T
	url string // of the shop
}

func newStaged(t *testing.T, rest string, serve ...string) *staged {
	t.Helper()
	return newSeeded(t, "", rest, serve...)
}

// newSeeded changes legacy before the migration begins.
func newSeeded(t *testing.T, change, rest string, serve ...string) *staged {
	t.Helper()
	loadOne(t)
	s := &staged{newOperator(t, "products", "  table: products\n", "  key: product:{id}\n", clitest.Staged+rest), t, ""}
	if out, err := s.command("storefront", "seed", "--products", "300").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s.SQL(s.Legacy, change)
	s.Does("init", "apply", "phase advance", "backfill run", "phase advance", "reconcile run --full", "phase advance")
	s.shop(serve...)
	return s
}

// command runs migrator or the storefront in a separate process.
func (s *staged) command(program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(s.t.Context(), program, args...)
	cmd.Dir = s.Dir
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "MIGRATOR_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "STOREFRONT_DATABASE_URL="+s.Legacy, "STOREFRONT_CACHE_URL="+s.Target, "MIGRATOR_STATE_URL="+s.State, "NO_COLOR=1")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute
	return cmd
}

// customers use the shop until the returned function is called, and write a ledger.
func (s *staged) customers(rate string) (stop func()) {
	s.t.Helper()
	s.Write("ledger", "")
	load := s.command("storefront", "load", "--url", s.url, "--products", "300", "--rate", rate, "--readers", "2", "--writers", "2", "--duration", "30m", "--ledger", s.Path("ledger"))
	hold, err := load.StdinPipe()
	if err == nil {
		err = load.Start()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return sync.OnceFunc(func() {
		_ = hold.Close()
		_ = load.Process.Signal(syscall.SIGTERM)
		_ = load.Wait()
	})
}

// shop serves until the test ends.
func (s *staged) shop(args ...string) {
	s.t.Helper()
	cmd := s.command("storefront", append([]string{"serve", "--listen", "127.0.0.1:0", "--migration", "migration.yaml", "--instance", "shop"}, args...)...)
	var log bytes.Buffer
	cmd.Stderr = &log
	hold, err := cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = hold.Close()
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	line := bufio.NewScanner(out)
	if line.Scan() {
		_, s.url, _ = strings.Cut(line.Text(), "serving on ")
	} else {
		_ = cmd.Wait()
		s.t.Fatalf("the shop does not serve: %s", log.String())
	}
}

// drills runs a drill and returns its report.
func (s *staged) drills(code int, args ...string) (r drill.Report, output string) {
	s.t.Helper()
	args = append([]string{"drill", "rollback", "--healthy", "8s", "--within", "3m", "--after", "1s", "--load-rate", "80", "--reports", s.Dir, "-o", "json"}, args...)
	cmd := s.command("migrator", args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != code {
		s.t.Fatalf("exit code %d, want %d: %s", got, code, stderr.String())
	}
	if code != clitest.Done && code != clitest.NotYet {
		return r, stderr.String()
	}
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		s.t.Fatalf("%v\n%s%s", err, stdout.String(), stderr.String())
	}
	c, err := clitest.ReadContract()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := c.Document("migrator drill rollback", stdout.Bytes()); err != nil {
		s.t.Error(err)
	}
	for _, kind := range []string{"json", "md", "html"} {
		text, err := os.ReadFile(r.File(s.Dir, kind))
		if err != nil || !bytes.Contains(text, []byte("products")) {
			s.t.Errorf("the report %s: %v", kind, err)
		}
	}
	return r, stderr.String()
}

// TestADrillPasses: the storefront's target fails, a daemon that has just taken over rolls
// back, no acknowledged write is lost, and the state database records the drill.
func TestADrillPasses(t *testing.T) {
	t.Parallel()
	s := newStaged(t, stagedTriggers, "--faults")
	stop := s.customers("20")
	defer stop()
	r, output := s.drills(clitest.Done, "--load-column", "description")
	stop()
	if !r.Passed || len(r.Reasons) > 0 || r.Before != "cutover 50 %" || r.After != "dual-read 100 %" {
		t.Fatalf("%+v\n%s", r.Reasons, output)
	}
	if f := r.Fired; f == nil || f.Trigger != phases.TriggerErrors || f.Evaluation == 0 || len(f.Inputs) == 0 {
		t.Errorf("fired: %+v", f)
	}
	if x := r.Times; x == nil || x.Detect < 0 || x.Decide < 0 || x.Commit < 0 || x.Settle < 0 || x.Total <= 0 {
		t.Errorf("times: %+v", x)
	}
	if l := r.Ledger; l == nil || l.Records < 100 || !l.OK() || l.Stale == nil || l.StaleReads == nil || l.Watched < 100 {
		t.Errorf("ledger: %+v", l)
	}
	if d := r.Daemon; d == nil || d.At.Before(r.Fault.Observed) || r.Times.FromInjection < r.Times.Total {
		t.Errorf("the daemon %+v was killed before the fault was met, at %s; times %+v", d, r.Fault.Observed, r.Times)
	}
	if c := r.Controls; c == nil || c.PlantedFound == 0 || c.PlantedFound+c.PlantedRewritten != planted || // the load may rewrite one
		!c.NegativeControlFound {
		t.Errorf("controls: %+v", c)
	}
	// Fewer than 11 failures fire no trigger; the telemetry before the rollback has fewer.
	if len(r.FaultTargets) != 2 || r.Fault.Executed < 11 || r.FaultTargets[0].Executed+r.FaultTargets[1].Executed != r.Fault.Executed || r.Daemon == nil || len(r.Reconciles) != 3 || len(r.Series) < 5 {
		t.Errorf("instances %+v, fault %+v, daemon %+v, %d reconciles", r.FaultTargets, r.Fault, r.Daemon, len(r.Reconciles))
	}
	t.Logf("%s", r.Summary())
	s.restored()
	s.Does("trigger acknowledge --reason drilled", "history verify", "drill list", "drill show "+strconv.FormatInt(r.Drill, 10))
}

// restored checks that the load has left legacy unchanged.
func (s *staged) restored() {
	s.t.Helper()
	if n := s.count(`SELECT count(*)::text FROM products WHERE description LIKE 'drill %'`); n != "0" {
		s.t.Errorf("%s products still hold what the load has written", n)
	}
}

// count asks legacy for one number.
func (s *staged) count(query string) (n string) {
	s.t.Helper()
	conn, err := pgx.Connect(s.t.Context(), s.Legacy)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = conn.Close(s.t.Context()) }()
	if err := conn.QueryRow(s.t.Context(), query).Scan(&n); err != nil {
		s.t.Fatal(err)
	}
	return n
}

// TestTortureADrillOfCorruptedWritesPasses: corrupted records in the target are found,
// cause a rollback, and are repaired.
func TestTortureADrillOfCorruptedWritesPasses(t *testing.T) {
	t.Parallel()
	onlyLong(t)
	s := newStaged(t, stagedTriggers, "--faults")
	theirs := s.serve(t)
	defer s.customers("20")()
	r, output := s.drills(clitest.Done, "--fault", "corrupt", "--load-keys", "60", "--daemon-pid", strconv.Itoa(theirs.cmd.Process.Pid))
	if r.Daemon == nil || theirs.end(os.Kill) != -1 {
		t.Errorf("the named daemon was not killed: %+v\n%s", r.Daemon, theirs.logText())
	}
	if f := r.Fired; f == nil || f.Trigger != phases.TriggerLostWrites && f.Trigger != phases.TriggerMismatches {
		t.Errorf("fired: %+v\n%s", f, output)
	}
	if n := len(r.Reconciles); n != 3 || r.Reconciles[1].Differences <= int64(planted) || r.Reconciles[2].Differences != 0 {
		t.Errorf("%+v", r.Reconciles)
	}
}

// TestTortureADrillUnderTheShopsOwnLoadPasses: the storefront's customers meet the fault,
// and their ledger is compared with its answers.
func TestTortureADrillUnderTheShopsOwnLoadPasses(t *testing.T) {
	t.Parallel()
	onlyLong(t)
	s := newStaged(t, stagedTriggers, "--faults", "--hand-in", "1s")
	defer s.customers("100")()
	r, output := s.drills(clitest.Done, "--load", s.Path("ledger"), "--fault", "blackhole", "--delay", "200ms")
	if len(r.FaultTargets) != 1 || r.Ledger == nil || r.Ledger.Records < 20 || r.Fired == nil {
		t.Errorf("%+v, %+v, %+v\n%s", r.FaultTargets, r.Ledger, r.Fired, output)
	}
}

// fails runs a drill that must fail for this reason alone.
func (s *staged) fails(reason string, args ...string) drill.Report {
	s.t.Helper()
	r, output := s.drills(clitest.NotYet, args...)
	if r.Passed || len(r.Reasons) != 1 || !strings.Contains(r.Reasons[0], reason) {
		s.t.Errorf("it failed for %q, want %q\n%s", r.Reasons, reason, output)
	}
	s.quiet()
	return r
}

// quiet checks that no fault is active.
func (s *staged) quiet() {
	s.t.Helper()
	s.SQL(s.State, `DO $$ BEGIN IF EXISTS (SELECT FROM migrator.migrations WHERE fault IS NOT NULL) THEN RAISE 'a fault is left'; END IF; END $$`)
}

// TestADrillFailsForTheRightReason: without a load, with instances that inject no faults,
// and with a target that differed before.
func TestADrillFailsForTheRightReason(t *testing.T) {
	t.Parallel()
	s := newStaged(t, stagedTriggers) // the shop was deployed without faults
	s.fails("there is no load", "--load", "none")
	s.Write("ledger", "")
	s.fails("has no write since", "--load", s.Path("ledger"), "--within", "3s")
	// A fault that would take nothing back, so that the route stays.
	r := s.fails("shop did not activate it", "--fault", "latency", "--delay", "10ms", "--within", "10s", "--healthy", "3s")
	if len(r.FaultTargets) != 2 || r.Fired != nil || r.Ledger != nil || r.After != "cutover 50 %" {
		t.Errorf("%+v", r)
	}
	s.Redis("DEL", "product:7")
	s.fails("the stores differ before the drill")
}

// TestADrillWithoutATriggerFails: the trigger that would have rolled back is off.
func TestADrillWithoutATriggerFails(t *testing.T) {
	t.Parallel()
	s := newStaged(t, strings.Replace(stagedTriggers, "errors: {interval: 1s}", "errors: {interval: 1s, dry_run: true}", 1), "--faults")
	s.interrupted()
	r := s.fails("errors is a dry run: firing", "--within", "20s", "--healthy", "8s")
	if r.Fault.Executed == 0 || r.After != "cutover 50 %" {
		t.Errorf("%+v, on %s", r.Fault, r.After)
	}
	text, err := os.ReadFile(s.Path("migration.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	s.Write("migration.yaml", string(text)+"  off: none\n")
	s.Does("apply")
	s.fails("each is off or a dry run")
}

// TestADrillThatWasKilledLeavesAFaultThatIsShown: and the next drill, in which no operation of the application meets
// the fault, does not pass.
func TestADrillThatWasKilledLeavesAFaultThatIsShown(t *testing.T) {
	t.Parallel()
	s := newStaged(t, stagedTriggers, "--faults")
	s.stopped(os.Kill)
	shows := func(args string, words ...string) {
		t.Helper()
		out := s.prints(args)
		for _, word := range words {
			if !strings.Contains(out, word) {
				t.Errorf("%s does not show %q:\n%s", args, word, out)
			}
		}
	}
	shows("status", "fault      injected for a drill until ", "latency, in 100 % of the target's reads", "migrator drill lift")
	shows("doctor", "a fault is injected for a drill until")
	_, stderr := s.drills(clitest.NotYet, "--keep-daemon")
	if !strings.Contains(stderr, "the fault of an earlier drill is in force until") {
		t.Errorf("the next drill: %s", stderr)
	}
	shows("drill lift", "lifted the fault of a drill")
	shows("drill lift", "has no fault")
	s.quiet()
	if !long() {
		return // the reason of the drill that follows has a test in internal/drill
	}
	testenv.Await(t, "the shop to be alone: the leases of the killed drill's load lapse", func() bool {
		var fleet []struct {
			Lapsed bool `json:"lapsed"`
		}
		if err := json.Unmarshal([]byte(s.prints("fleet list -o json")), &fleet); err != nil {
			t.Fatal(err)
		}
		lapsed := false
		for _, one := range fleet {
			lapsed = lapsed || one.Lapsed
		}
		if lapsed { // on a loaded machine the shop's too, which then joins again
			s.Does("fleet evict --lapsed --yes --reason killed")
		}
		return len(fleet) == 1 && !lapsed
	})
	r := s.fails("no application met the fault: shop had no operation that it applies to", "--load-column", "description")
	if r.After != "dual-read 100 %" || !strings.Contains(r.Summary(), "application shop had no operation") {
		t.Errorf("%s", r.Summary())
	}
}

// interrupted stops a drill while its fault is active.
func (s *staged) interrupted() {
	s.t.Helper()
	lines, code := s.stopped(syscall.SIGINT)
	if code != clitest.NotYet || !strings.Contains(strings.Join(lines, "\n"), "the drill was interrupted") {
		s.t.Errorf("exit code %d: %s", code, strings.Join(lines, "\n"))
	}
	s.quiet()
}

// stopped sends a signal to a drill whose fault is active.
func (s *staged) stopped(signal os.Signal) (lines []string, code int) {
	s.t.Helper()
	cmd := s.command("migrator", "drill", "rollback", "--fault", "latency", "--delay", "10ms", "--healthy", "8s", "--within", "3m", "--reports", s.Dir)
	output, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	for scan := bufio.NewScanner(output); scan.Scan(); {
		lines = append(lines, scan.Text())
		if strings.HasPrefix(scan.Text(), "observe the fault on every instance") {
			_ = cmd.Process.Signal(signal)
		}
	}
	_ = cmd.Wait()
	return lines, cmd.ProcessState.ExitCode()
}

// TestADrillsDaemonEndsWithIt, also if the drill is killed and cannot stop it.
func TestADrillsDaemonEndsWithIt(t *testing.T) {
	t.Parallel()
	o := newOperator(t, "products", "  table: products\n", "  key: product:{id}\n", clitest.Staged)
	o.SQL(o.Legacy, `CREATE TABLE products (id bigint PRIMARY KEY, name text)`)
	o.Does("init", "apply")
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = write.Close() }()
	cmd := exec.Command("migrator", "--settings", o.Path("settings.yaml"), "drill", "daemon", "--listen", "127.0.0.1:0")
	var log testenv.Buffer
	cmd.Stdin, cmd.Stderr = read, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = read.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill() }()
	testenv.Await(t, "it listens", func() bool { return strings.Contains(log.String(), "listening") })
	_ = write.Close() // as the kernel does for a killed process
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("%v: %s", err, log.String())
		}
	case <-time.After(2 * time.Minute):
		t.Fatalf("it continues: %s", log.String())
	}
}

// TestDrillKillsTheNamedDaemon, and a daemon of its own takes over.
func TestDrillKillsTheNamedDaemon(t *testing.T) {
	t.Parallel()
	o := newOperator(t, "products", "  table: products\n", "  key: product:{id}\n", clitest.Staged)
	o.SQL(o.Legacy, `CREATE TABLE products (id bigint PRIMARY KEY, name text)`)
	o.Does("init", "apply")
	theirs := o.serve(t)
	testenv.Await(t, "the named daemon leads", func() bool {
		_, body := theirs.get("/healthz")
		return strings.Contains(body, `"role": "leader"`)
	})
	program, err := exec.LookPath("migrator")
	if err != nil {
		t.Fatal(err)
	}
	named := theirs.cmd.Process.Pid
	d := &drill.Processes{
		Program: program, Named: named,
		Args: []string{"--settings", o.Path("settings.yaml"), "drill", "daemon", "--listen", "127.0.0.1:0", "--log-format", "json"},
	}
	defer d.Stop()
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if own, leads := d.Own(t.Context()); own != 1 || leads {
		t.Errorf("%d daemons of its own, one of which leads: %t", own, leads)
	}
	who, err := d.Kill()
	if err != nil || who != "process "+strconv.Itoa(named) {
		t.Errorf("%q, %v", who, err)
	}
	<-theirs.done
	testenv.Await(t, "the drill's own leads", func() bool { _, leads := d.Own(t.Context()); return leads })
	if code := theirs.end(os.Kill); code != -1 {
		t.Errorf("the named daemon exited with %d: %s", code, theirs.logText())
	}
	if err := d.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "there is no process "+strconv.Itoa(named)) {
		t.Errorf("named once more: %v", err)
	}
}

// TestDrillsAreRefused outside of staging, and with invalid flags.
func TestDrillsAreRefused(t *testing.T) {
	t.Parallel()
	o := newOperator(t, "products", "  table: products\n", "  key: product:{id}\n", "")
	for _, c := range []struct{ args, says string }{
		{"", "environment: staging"},
		{"--fault fire", "want latency"},
		{"--share 0", "percentage"},
		{"--on nothing", "want reads"},
		{"--fault corrupt --on reads", "needs --on writes"},
		{"--delay 1s", "--delay needs"},
		{"--within 2h", "--within"},
		{"--load-keys 0", "--load-keys"},
		{"--daemon-pid 1 --keep-daemon", "--daemon-pid"},
	} {
		code, _, stderr := o.Try(strings.Fields("drill rollback " + c.args)...)
		if code != clitest.Usage || !strings.Contains(stderr, c.says) {
			t.Errorf("drill rollback %s: %d %s", c.args, code, stderr)
		}
	}
}
