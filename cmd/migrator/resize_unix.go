//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// notifyResize announces that the terminal's size has changed.
func notifyResize(to chan os.Signal) { signal.Notify(to, syscall.SIGWINCH) }
