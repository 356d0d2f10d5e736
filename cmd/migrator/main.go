// Command migrator moves live data from one store to another without downtime.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // zones of compare rules and schedules, where the machine has none

	"github.com/stranglerfig/migrator/internal/openstore"
)

func main() {
	openstore.SilenceDrivers() // their lines would corrupt a log in JSON
	// A reader that closes the pipe (| head) must not kill a command between two steps:
	// writing to it then fails, and run reports that at the end.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ends := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as under nohup
		ends = append(ends, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	code := run(ctx, os.Args[1:], streams{in: os.Stdin, out: os.Stdout, err: os.Stderr})
	stop()
	os.Exit(code)
}
