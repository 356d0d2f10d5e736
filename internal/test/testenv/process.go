package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

const (
	pidFile = "server.pid"
	logFile = "server.log"
)

// process is one running server with all its children.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the server has ended and is reaped
}

// launchSpec describes how a server is started.
type launchSpec struct {
	dir     *serverDir
	workDir string // below dir: a sweep finds the server by it
	program program
	args    []string
	account account
	onDeath syscall.Signal // sent when this process dies
}

func launch(s launchSpec) (*process, error) {
	log, err := os.OpenFile(s.dir.file(logFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(s.program.path, s.args...) //nolint:gosec // a server program that was searched for
	cmd.Dir, cmd.Env = s.workDir, s.program.env()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = asAccount(s.account)
	setDeathSignal(cmd.SysProcAttr, s.onDeath)
	if err := spawn(cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", s.program.path, err)
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go p.reap()
	// For a sweep where processes cannot be found by their working directory.
	_ = os.WriteFile(filepath.Join(s.dir.path, pidFile), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600)
	return p, nil
}

func (p *process) reap() {
	_ = p.cmd.Wait()
	close(p.done)
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// freeze stops the server and then its children, and returns those. They are not one process
// group (each PostgreSQL child starts a session), so freeze lists them once the parent has
// stopped and can start no more.
func (p *process) freeze() ([]int, error) {
	if err := p.cmd.Process.Signal(sigStop); err != nil {
		return nil, fmt.Errorf("pause server %d: %w", p.pid(), err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := await(ctx, time.Millisecond, "the server to stop", func() (bool, error) {
		return stopped(p.pid()) || p.ended(), nil
	})
	if err != nil {
		return nil, err
	}
	children := childrenOf(p.pid())
	for _, c := range children {
		_ = sendSignal(c, sigStop)
	}
	return children, nil
}

func (p *process) thaw() error {
	// A stopped parent reaps no children, so no pid here can belong to another process.
	for _, c := range childrenOf(p.pid()) {
		_ = sendSignal(c, sigCont)
	}
	if err := p.cmd.Process.Signal(sigCont); err != nil {
		return fmt.Errorf("resume server %d: %w", p.pid(), err)
	}
	return nil
}

// kill kills the server and its children, and returns when all have ended.
func (p *process) kill() error {
	if p.ended() {
		return nil
	}
	children, err := p.freeze()
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	for _, c := range children {
		_ = sendSignal(c, sigKill)
	}
	_ = p.cmd.Process.Kill()
	<-p.done
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return await(ctx, time.Millisecond, "killed server processes to end", func() (bool, error) {
		for _, c := range children {
			if running(c) {
				return false, nil
			}
		}
		return true, nil
	})
}

// stop sends sig, and kills when ctx ends first or after a minute.
func (p *process) stop(ctx context.Context, sig syscall.Signal) error {
	if p.ended() {
		return nil
	}
	_ = p.thaw() // a paused server receives no signal
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop server %d: %w", p.pid(), err)
	}
	timer := time.NewTimer(time.Minute)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
	case <-timer.C:
	}
	return p.kill()
}
