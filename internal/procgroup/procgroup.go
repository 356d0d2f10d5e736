// Package procgroup runs commands in process groups of their own, and detects whether a
// process that an earlier command left behind still runs.
package procgroup

import (
	"errors"
	"os"
)

// ErrAlive is returned while a process that inherited the mark still runs.
var ErrAlive = errors.New("a process that it started still runs")

// Mark opens the file and takes its lock. A process that inherits the file (exec.Cmd's
// ExtraFiles) holds the lock until it ends, even if this process has been killed: Mark returns
// ErrAlive as long as one of them lives. The lock is local to this machine. Where the system
// has no locks, Mark never returns ErrAlive.
func Mark(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lock(f); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
