package clitest

import (
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/test/testenv"
)

// Process is a migrator process beside the test, with its log in JSON.
type Process struct {
	Cmd      *exec.Cmd
	Out, Log testenv.Buffer

	t    testing.TB
	over chan struct{}
	code int
}

// Start starts a command line, and kills it at the test's end.
func (o *Operator) Start(t testing.TB, args ...string) *Process {
	t.Helper()
	p := &Process{t: t, over: make(chan struct{})}
	p.Cmd = o.Command(append([]string{"--log-format", "json"}, args...)...)
	p.Cmd.Stdout, p.Cmd.Stderr = &p.Out, &p.Log
	if err := testenv.Start(p.Cmd); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.Cmd.Wait()
		p.code = p.Cmd.ProcessState.ExitCode()
		close(p.over)
	}()
	t.Cleanup(func() {
		p.Signal(syscall.SIGKILL)
		<-p.over
	})
	return p
}

// Signal sends a signal; a process that has ended gets none.
func (p *Process) Signal(s syscall.Signal) { _ = p.Cmd.Process.Signal(s) }

// Exits waits for the process's end and returns its exit code.
func (p *Process) Exits() int {
	p.t.Helper()
	select {
	case <-p.over:
	case <-time.After(5 * time.Minute):
		p.t.Fatalf("%v does not exit: %s%s", p.Cmd.Args, p.Out.String(), p.Log.String())
	}
	return p.code
}
