// Package procgroup runs commands in process groups of their own, and tells whether
// anything that a process left behind still runs.
package procgroup

import (
	"errors"
	"os"
)

// ErrAlive tells that a process which inherited the mark still runs.
var ErrAlive = errors.New("a process that it began still runs")

// Mark opens the file and takes its lock. Whoever inherits the file (exec.Cmd's
// ExtraFiles) holds the lock until he ends, also when this process has been killed:
// ErrAlive as long as one of them lives. The lock is this machine's alone; where the
// system has none, nothing is ever held.
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
