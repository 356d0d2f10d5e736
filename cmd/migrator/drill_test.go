package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/drill"
	"github.com/stranglerfig/migrator/phases"
)

const stagedRest = `
environment: staging
phases:
  shadow_write: {for: 0s}
  dual_read: {steps: [100], over: 0s}
  cutover: {steps: [50, 100], over: 0s, auto: false}
  approval: {for: []}
writing: {not_after: 2s, deadline: 2s}
fleet: {lease: 3s, renew: 500ms}
gates: {off: a test of drills}
reconcile: {pause: 100ms}
`

const stagedTriggers = `
triggers:
  mismatches: {interval: 1s}
  errors: {interval: 1s}
  latency: {off: it needs a machine of its own}
  lost_writes: {interval: 1s}
`

// staged is a storefront in staging, in mid-cutover.
type staged struct {
	*operator
	t *testing.T
}

func newStaged(t *testing.T, rest string, serve ...string) *staged {
	t.Helper()
	s := &staged{newOperator(t, "products", "  table: products\n", "  key: product:{id}\n", stagedRest+rest), t}
	if out, err := s.command("demo", "storefront", "seed", "--products", "300").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s.does("init", "apply", "phase advance", "backfill run", "phase advance", "reconcile run --full", "phase advance")
	s.shop(serve...)
	return s
}

// command runs this program in a process of its own.
func (s *staged) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(s.t.Context(), "migrator", args...)
	cmd.Dir = s.dir
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "MIGRATOR_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "STOREFRONT_DATABASE_URL="+s.legacy, "STOREFRONT_CACHE_URL="+s.target, "MIGRATOR_STATE_URL="+s.state, "NO_COLOR=1")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	return cmd
}

// shop serves until the test ends.
func (s *staged) shop(args ...string) {
	s.t.Helper()
	cmd := s.command(append([]string{"demo", "storefront", "serve", "--listen", "127.0.0.1:0", "--migration", "migration.yaml", "--instance", "shop"}, args...)...)
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
	if !bufio.NewScanner(out).Scan() {
		_ = cmd.Wait()
		s.t.Fatalf("the shop does not serve: %s", log.String())
	}
}

// drills runs one, and returns its report.
func (s *staged) drills(code int, args ...string) (r drill.Report, said string) {
	s.t.Helper()
	args = append([]string{"drill", "rollback", "--healthy", "4s", "--within", "30s", "--after", "1s", "--reports", s.dir, "-o", "json"}, args...)
	cmd := s.command(args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != code {
		s.t.Fatalf("exit code %d, want %d: %s", got, code, stderr.String())
	}
	if code != exitDone && code != exitNotYet {
		return r, stderr.String()
	}
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		s.t.Fatalf("%v\n%s%s", err, stdout.String(), stderr.String())
	}
	for _, kind := range []string{"json", "md", "html"} {
		text, err := os.ReadFile(reportFile(s.dir, r, kind))
		if err != nil || !bytes.Contains(text, []byte("products")) {
			s.t.Errorf("the report %s: %v", kind, err)
		}
	}
	return r, stderr.String()
}

// TestADrillPasses: the storefront's target fails, reads are taken back by a daemon
// that has just taken over, nothing is lost, and the state knows of it.
func TestADrillPasses(t *testing.T) {
	t.Parallel()
	s := newStaged(t, stagedTriggers, "--faults")
	r, said := s.drills(exitDone, "--load-column", "description")
	if !r.Passed || len(r.Reasons) > 0 || r.Before != "cutover 50 %" || r.After != "dual-read 100 %" {
		t.Fatalf("%+v\n%s", r.Reasons, said)
	}
	if f := r.Fired; f == nil || f.Trigger != phases.TriggerErrors || f.Evaluation == 0 || len(f.Inputs) == 0 {
		t.Errorf("fired: %+v", f)
	}
	if x := r.Times; x == nil || x.Detect < 0 || x.Decide < 0 || x.Commit < 0 || x.Settle < 0 || x.Total <= 0 {
		t.Errorf("times: %+v", x)
	}
	if l := r.Ledger; l == nil || l.Records < 100 || !l.OK() {
		t.Errorf("ledger: %+v", l)
	}
	if c := r.Controls; c == nil || c.PlantedFound != planted || !c.PhantomFound {
		t.Errorf("controls: %+v", c)
	}
	if len(r.Players) != 2 || r.Fault.Executed == 0 || r.Daemon == nil || len(r.Reconciles) != 3 || len(r.Series) < 5 {
		t.Errorf("instances %+v, fault %+v, daemon %+v, %d reconciles", r.Players, r.Fault, r.Daemon, len(r.Reconciles))
	}
	t.Logf("%s", r.Summary())
	s.restored()
	s.does("trigger acknowledge --reason drilled", "history verify", "drill list", "drill show "+strconv.FormatInt(r.Drill, 10))
}

// restored tells that the load has left legacy as it was.
func (s *staged) restored() {
	s.t.Helper()
	if n := s.count(`SELECT count(*)::text FROM products WHERE description LIKE 'drill %'`); n != "0" {
		s.t.Errorf("%s products still hold what the load has written", n)
	}
}

// count asks legacy for one number.
func (s *staged) count(query string) (n string) {
	s.t.Helper()
	conn, err := pgx.Connect(s.t.Context(), s.legacy)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = conn.Close(s.t.Context()) }()
	if err := conn.QueryRow(s.t.Context(), query).Scan(&n); err != nil {
		s.t.Fatal(err)
	}
	return n
}
