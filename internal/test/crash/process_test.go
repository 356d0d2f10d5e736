//go:build unix

package crash

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/stranglerfig/migrator/internal/test/testenv"
)

// command returns a command of the place, with a failpoint or none.
func (p *place) command(program, at string, visit int, args ...string) *exec.Cmd {
	limited, cancel := context.WithTimeout(p.t.Context(), 5*time.Minute)
	p.t.Cleanup(cancel)
	cmd := exec.CommandContext(limited, program, args...)
	file, err := filepath.Abs(filepath.Join("testdata", p.file))
	if err != nil {
		p.t.Fatal(err)
	}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "MIGRATOR_") && !strings.HasPrefix(v, "PG") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "MIGRATOR_STATE_URL="+p.databaseURL(), "MIGRATOR_FILE="+file, "NO_COLOR=1",
		"CRASH_DATABASE_URL="+p.databaseURL(), "CRASH_REDIS_URL="+p.redisURL())
	if at != "" {
		cmd.Env = append(cmd.Env, fmt.Sprintf("MIGRATOR_FAILPOINT=%s:%d", at, max(visit, 1)), "MIGRATOR_FAILPOINT_LOG="+p.visits())
	}
	cmd.Dir = os.TempDir() // without the user's migration.yaml
	return cmd
}

// visits is the file that records which failpoints a process passed.
func (p *place) visits() string { return filepath.Join(p.t.TempDir(), "visits") }

// run runs an operator's command line and returns its exit code, -1 for a signal.
func (p *place) run(line string) int {
	p.t.Helper()
	return p.ended(p.command(p.w.programs.migrator, "", 0, strings.Fields(line)...), line)
}

func (p *place) ended(cmd *exec.Cmd, line string) int {
	p.t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	fmt.Fprintf(&p.transcript, "$ migrator %s\n%s(%v)\n", line, out.String(), cmd.ProcessState)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatalf("migrator %s: %v", line, err)
	}
	return cmd.ProcessState.ExitCode()
}

// kill runs a command line that must be killed at the failpoint.
func (p *place) kill(at string, visit int, line string) {
	p.t.Helper()
	fmt.Fprintf(&p.transcript, "MIGRATOR_FAILPOINT=%s:%d ", at, max(visit, 1))
	cmd := p.command(p.w.programs.migrator, at, visit, strings.Fields(line)...)
	p.ended(cmd, line)
	p.died(cmd, at)
}

// died checks that the process was killed by SIGKILL, and that the failpoint was the last one
// that it passed.
func (p *place) died(cmd *exec.Cmd, at string) {
	p.t.Helper()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || status.Signal() != syscall.SIGKILL {
		p.t.Fatalf("it was not killed at %s: %v\n%s", at, cmd.ProcessState, p.transcript.String())
	}
	var visited string
	for _, v := range cmd.Env {
		if path, ok := strings.CutPrefix(v, "MIGRATOR_FAILPOINT_LOG="); ok {
			visited = path
		}
	}
	log, err := os.ReadFile(visited)
	if err != nil {
		p.t.Fatal(err)
	}
	if came := strings.Fields(string(log)); len(came) == 0 || came[len(came)-1] != at {
		p.t.Fatalf("it was killed, but not at %s: it passed %v\n%s", at, came, p.transcript.String())
	}
}

// application is a process that embeds dual.
type application struct {
	p     *place
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Scanner
	log   *testenv.Buffer
}

// open starts one and waits until it has joined.
func (p *place) open(at string, visit int) *application {
	p.t.Helper()
	a := &application{p: p, cmd: p.command(p.w.programs.app, at, visit), log: &testenv.Buffer{}}
	if p.targetAway {
		a.cmd.Env = append(a.cmd.Env, "CRASH_REDIS_URL=redis://127.0.0.1:1") // nothing listens there
	}
	a.cmd.Stderr = a.log
	var err error
	if a.stdin, err = a.cmd.StdinPipe(); err != nil {
		p.t.Fatal(err)
	}
	out, err := a.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	a.lines = bufio.NewScanner(out)
	if err := a.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	if !a.lines.Scan() || a.lines.Text() != "ready" {
		_ = a.cmd.Wait()
		p.t.Fatalf("the application did not start: %s\n%s", a.log, p.transcript.String())
	}
	return a
}

// send sends one line; false: the process has ended before it answered.
func (a *application) send(line string) (answer string, alive bool) {
	_, _ = io.WriteString(a.stdin, line+"\n") // fails if the process has ended: then there is no answer
	if !a.lines.Scan() {
		fmt.Fprintf(&a.p.transcript, "application> %s\n(no answer)\n", line)
		return "", false
	}
	if !strings.HasPrefix(line, "get ") {
		fmt.Fprintf(&a.p.transcript, "application> %s\n%s\n", line, a.lines.Text())
	}
	return a.lines.Text(), true
}

// must sends a write that must succeed, or a read; writes are added to the ledger.
func (a *application) must(line string) string {
	a.p.t.Helper()
	answer, alive := a.send(line)
	for range 5 { // one read may time out
		if alive && strings.HasPrefix(line, "get ") && strings.HasPrefix(answer, "error") {
			answer, alive = a.send(line)
		}
	}
	if answer == "" || strings.HasPrefix(answer, "error") {
		a.p.t.Fatalf("the application: %s: %q\n%s\n%s", line, answer, a.p.transcript.String(), a.log)
	}
	a.p.ledger.addAcknowledged(line)
	return answer
}

// leave ends the application; it must leave the fleet cleanly.
func (a *application) leave() {
	a.p.t.Helper()
	_ = a.stdin.Close()
	if err := a.cmd.Wait(); err != nil {
		a.p.t.Fatalf("the application did not leave: %v\n%s\n%s", err, a.log, a.p.transcript.String())
	}
}

// addAcknowledged adds an acknowledged write.
func (l ledger) addAcknowledged(line string) {
	var id int64
	var points int
	if n, _ := fmt.Sscanf(line, "put %d %d", &id, &points); n == 2 {
		l.points[id] = points
	} else if n, _ := fmt.Sscanf(line, "remove %d", &id); n == 1 {
		delete(l.points, id)
	} else {
		return
	}
	delete(l.maybe, id)
}

// daemon runs migrator serve until cond is true, and stops it as systemd would.
func (p *place) daemon(cond func() bool) {
	p.t.Helper()
	cmd := p.command(p.w.programs.migrator, "", 0, "serve", "--listen", "127.0.0.1:0")
	var out testenv.Buffer
	cmd.Stderr = &out
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	ok := testenv.Reached(p.t.Context(), func() bool { return strings.Contains(out.String(), "leading") && cond() })
	_ = cmd.Process.Signal(syscall.SIGTERM)
	err := cmd.Wait()
	fmt.Fprintf(&p.transcript, "$ migrator serve\n%s(%v)\n", out.String(), cmd.ProcessState)
	if !ok || err != nil {
		p.t.Fatalf("the daemon did not recover: %v\n%s", err, p.transcript.String())
	}
}
