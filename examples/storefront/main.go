// Command storefront is an example of an application that embeds package dual (see package
// shop), with a load generator that checks migrator's promises as a client (see package load).
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/stranglerfig/migrator/examples/storefront/command"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := command.Run(ctx, os.Args[1:], command.IO{Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv})
	switch {
	case err == nil:
		return 0
	case errors.Is(err, command.ErrUsage):
		fmt.Fprintln(os.Stderr, "Error:", err)
		return 2
	default:
		fmt.Fprintln(os.Stderr, "Error:", err)
		return 1
	}
}
