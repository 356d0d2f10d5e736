//go:build unix

package torture

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// spawner starts children from one thread that lives as long as the spawner is used: the
// parent-death signal belongs to the thread that started them.
type spawner chan spawn

type spawn struct {
	cmd  *exec.Cmd
	done chan error
}

func newSpawner(ctx context.Context) spawner {
	s := make(spawner)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		for {
			select {
			case r := <-s:
				r.done <- r.cmd.Start()
			case <-ctx.Done():
				return
			}
		}
	}()
	return s
}

func (s spawner) start(ctx context.Context, cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true // Ctrl-C is for the test alone
	setParentDeathSignal(cmd.SysProcAttr)
	r := spawn{cmd, make(chan error, 1)}
	select {
	case s <- r:
		return <-r.done
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// pause waits; false: ctx has ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// await returns when cond succeeds; otherwise its last error is in the error.
func await(ctx context.Context, within time.Duration, what string, cond func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		err := cond(ctx)
		if err == nil {
			return nil
		}
		if !pause(ctx, 20*time.Millisecond) {
			return fmt.Errorf("%s: not within %s: %w", what, within, errors.Join(err, context.Cause(ctx)))
		}
	}
}
