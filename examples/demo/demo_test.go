package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
)

var migrator string // the program that the demo drives

// build lets testscript.Main build migrator once for all tests.
type build struct{ m *testing.M }

func (b build) Run() int {
	dir, err := os.MkdirTemp("", "migrator-demo-test-")
	if err != nil {
		panic(err)
	}
	migrator = filepath.Join(dir, "migrator")
	if out, err := exec.Command("go", "build", "-o", migrator, "../../cmd/migrator").CombinedOutput(); err != nil {
		panic(string(out))
	}
	return testenv.Run(b.m)
}

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) != "demo" { // testscript makes temporary files before it runs the tests
		if err := testenv.Scratch(); err != nil {
			panic(err)
		}
	}
	testscript.Main(build{m}, map[string]func(){"demo": main})
}

// demoCommand runs the demo as a user does.
func demoCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "demo", append(args[:len(args):len(args)], "--migrator", migrator)...)
	if len(args) > 0 && args[0] == "storefront" {
		cmd = exec.CommandContext(t.Context(), "demo", args...)
	}
	cmd.Env = append(os.Environ(), "NO_COLOR=1", "MIGRATOR_FILE=/does/not/exist.yaml", "MIGRATOR_STATE_URL=postgres://nowhere")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute
	return cmd
}

func TestDemoLosesNothing(t *testing.T) {
	t.Parallel()
	cmd := demoCommand(t, "--products", "2000", "--rate", "100", "-o", "json")
	var stdout, story bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &story
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, story.String())
	}
	var report struct {
		Acknowledged int64  `json:"acknowledged_writes"`
		Reads        int64  `json:"reads"`
		Verified     int64  `json:"verified"`
		Unverified   int64  `json:"unverified"`
		Lost         *int64 `json:"lost"`
		Stale        *int64 `json:"stale"`
		Wrong        *int64 `json:"wrong"`
		Automatic    struct {
			Trigger   string    `json:"trigger"`
			Why       string    `json:"why"`
			Fault     time.Time `json:"fault"`
			Fired     time.Time `json:"fired"`
			Committed time.Time `json:"committed"`
			Settled   time.Time `json:"settled"`
		} `json:"automatic_rollback"`
	}
	if err := json.Unmarshal(stdout.Bytes(), &report); err != nil {
		t.Fatalf("%v in %q", err, stdout.String())
	}
	if report.Lost == nil || *report.Lost != 0 || report.Stale == nil || *report.Stale != 0 || report.Wrong == nil || *report.Wrong != 0 || report.Unverified != 0 {
		t.Errorf("a lost write, or a stale or wrong read: %s", stdout.String())
	}
	if report.Acknowledged < 500 || report.Reads < 1000 || report.Verified < 2000 {
		t.Errorf("the demo did not do enough: %s", stdout.String())
	}
	a := report.Automatic
	t.Logf("%s fired %s after the fault, committed %s, settled %s after it: %s", a.Trigger, a.Fired.Sub(a.Fault), a.Committed.Sub(a.Fault), a.Settled.Sub(a.Fault), a.Why)
	if a.Trigger != phases.TriggerErrors || a.Why == "" || a.Fault.IsZero() || !a.Fired.After(a.Fault) || a.Committed.Before(a.Fired) || a.Settled.Before(a.Committed) {
		t.Errorf("the automatic rollback: %+v", a)
	}
	rest := story.String()
	for _, want := range []string{ // in this order
		"$ storefront seed", "$ migrator init", "$ migrator plan", "$ migrator apply", "serving on", "serving on", "$ migrator serve",
		"legacy → shadow-write", "backfill-done", "$ migrator backfill run", "backfill done",
		"shadow-write → dual-read 1 %", "→ dual-read 100 %", "$ migrator reconcile run --full", "$ migrator phase approve",
		"→ cutover 5 %", "→ cutover 25 %", "SIGSTOP", "rolled the fleet back to dual-read", "$ migrator status",
		"$ migrator phase history", "failure", "SIGCONT", "$ migrator reconcile run --full --repair", "$ migrator reconcile run --full",
		"cutover again", "→ cutover 25 %", "ACL SETUSER default -hmget", "fired", "errors: ", "committed", "settled",
		"reads without an answer since: 0; stale 0, wrong 0", "$ migrator trigger list", "latched: errors", "trigger  cutover 25 %", "rollback-acknowledged",
		"+hmget", "$ migrator trigger acknowledge", "$ migrator reconcile run --full",
		"→ cutover 100 %", "cutover 100 % → grace", "grace → retain", "a forgotten cron job", "SQLSTATE",
		"customers, on retain", "Redis answers 100 %", "lossless after", "the chain is whole", "The ledger", "lost", "0",
	} {
		_, after, ok := strings.Cut(rest, want)
		if !ok {
			t.Fatalf("the output lacks %q in its place:\n%s", want, story.String())
		}
		rest = after
	}
	if strings.Contains(story.String(), "\x1b") {
		t.Error("colours without a terminal")
	}
	nothingLeft(t, cmd)
}

// TestTortureDemoCaptures: an application of plain SQL goes through all phases.
func TestTortureDemoCaptures(t *testing.T) {
	t.Parallel()
	if os.Getenv("MIGRATOR_TORTURE") == "" {
		t.Skip("a minute of its own: internal/test/daemontest has a shorter way through all phases; make torture runs it")
	}
	cmd := demoCommand(t, "--capture", "--products", "2000", "--rate", "100", "-o", "json")
	var stdout, story bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &story
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, story.String())
	}
	var report struct {
		Acknowledged int64  `json:"acknowledged_writes"`
		Verified     int64  `json:"verified"`
		Lost         *int64 `json:"lost"`
	}
	if err := json.Unmarshal(stdout.Bytes(), &report); err != nil {
		t.Fatalf("%v in %q", err, stdout.String())
	}
	if report.Lost == nil || *report.Lost != 0 || report.Acknowledged < 200 || report.Verified < 100 {
		t.Errorf("%s", stdout.String())
	}
	rest := story.String()
	for _, want := range []string{ // in this order
		"$ storefront seed", "$ migrator init", "$ migrator plan", "will be created", "$ migrator apply", "plain SQL", "$ migrator serve", "legacy → shadow-write",
		"$ migrator backfill run", "backfill done", "$ migrator status", "capture ", "holds", "→ dual-read", "$ migrator reconcile run --full", "→ cutover", "→ grace",
		"grace → retain", "the chain is whole", "read from Redis", "The ledger", "lost", "0",
	} {
		_, after, ok := strings.Cut(rest, want)
		if !ok {
			t.Fatalf("the output lacks %q in its place:\n%s", want, story.String())
		}
		rest = after
	}
	nothingLeft(t, cmd)
}

// nothingLeft checks that the demo has removed its temporary files; see testenv.Scratch.
func nothingLeft(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	left, err := filepath.Glob(fmt.Sprintf("/tmp/migrator-%d/tmp-%d-*", os.Geteuid(), cmd.Process.Pid))
	if err != nil || len(left) > 0 {
		t.Errorf("%q are left (%v)", left, err)
	}
}

// TestDemoEndsWithItsUser: a killed demo can't clean up, but its processes must end too.
func TestDemoEndsWithItsUser(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		signal os.Signal
	}{{"interrupted", syscall.SIGINT}, {"killed", syscall.SIGKILL}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cmd := demoCommand(t, "--products", "200")
			read, write, err := os.Pipe() // not io.Pipe: orphans must not keep Wait from returning
			if err != nil {
				t.Fatal(err)
			}
			cmd.Stdout, cmd.Stderr = write, write
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			_ = write.Close()
			var story bytes.Buffer
			var shops []string
			lines := bufio.NewScanner(io.TeeReader(read, &story))
			for len(shops) < 2 && lines.Scan() {
				if m := regexp.MustCompile(`serving on (\S+)`).FindStringSubmatch(lines.Text()); m != nil {
					shops = append(shops, m[1])
				}
			}
			if len(shops) < 2 {
				t.Fatalf("the shop did not start:\n%s", story.String())
			}
			go func() { _, _ = io.Copy(io.Discard, read) }()
			if err := cmd.Process.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			err = cmd.Wait()
			var exit *exec.ExitError
			if c.signal == syscall.SIGINT && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
				t.Errorf("it ended with %v", err)
			}
			for _, shop := range shops {
				awaitRefusal(t, shop)
			}
			if c.signal == syscall.SIGINT {
				nothingLeft(t, cmd)
			}
		})
	}
}

// awaitRefusal waits until the address refuses connections.
func awaitRefusal(t *testing.T, at string) {
	t.Helper()
	u, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.After(2 * time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := net.DialTimeout("tcp", u.Host, time.Second)
		if err != nil {
			return
		}
		_ = conn.Close()
		select {
		case <-deadline:
			t.Fatalf("%s still listens", at)
		case <-tick.C:
		}
	}
}

func TestDemoRefusesBadInput(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		want string
		code int
	}{
		{[]string{"--products", "5"}, "want a number from 100", 2},
		{[]string{"--rate", "NaN"}, "want a number above 0", 2},
		{[]string{"-o", "yaml"}, "want text or json", 2},
		{[]string{"more"}, "takes no arguments", 2},
		{[]string{"storefront", "sell"}, "unknown command", 2},
		{[]string{"storefront", "load"}, "--url is missing", 2},
		{[]string{"storefront", "load", "--speed"}, "not defined", 2},
	} {
		out, err := demoCommand(t, c.args...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != c.code || !strings.Contains(string(out), c.want) {
			t.Errorf("demo %s: %v, %q, want %d and %q", strings.Join(c.args, " "), err, out, c.code, c.want)
		}
	}
}
