package testenv

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

type spawnRequest struct {
	cmd  *exec.Cmd
	done chan error
}

var (
	spawnRequests = make(chan spawnRequest)
	spawnOnce     sync.Once
)

// spawn starts cmd from the one thread that lives as long as this process. The parent-death
// signal belongs to the starting thread: if any other thread started the server, Go would kill
// it by retiring that thread.
func spawn(cmd *exec.Cmd) error {
	spawnOnce.Do(func() { go spawnLoop() })
	r := spawnRequest{cmd: cmd, done: make(chan error, 1)}
	spawnRequests <- r
	return <-r.done
}

// Start starts a command that dies with this process (on Linux: see spawn).
func Start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	setDeathSignal(cmd.SysProcAttr, sigKill)
	return spawn(cmd)
}

func spawnLoop() {
	runtime.LockOSThread() // never unlocked
	for r := range spawnRequests {
		r.done <- r.cmd.Start()
	}
}
