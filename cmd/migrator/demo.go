package main

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/examples/demo"
	"github.com/stranglerfig/migrator/examples/storefront/command"
)

func newDemo(c *cli) *cobra.Command {
	var o demo.Options
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Watch a whole migration on private servers, in a minute or two",
		Long: `Starts a private PostgreSQL and Redis, a shop of two instances with messy products
and a load of reads and writes, and takes it from legacy to retain by this very
program's commands and daemon, with clocks that run fast. In mid-cutover Redis is
frozen, and a write takes reads back; later Redis refuses reads, and a trigger does.
Every read is checked against every acknowledged write: exits with 1 if one was
lost or stale. Everything is removed at the end.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := inRange(numbered{"products", o.Products, 100, 10_000_000}); err != nil {
				return err
			}
			if !(o.Rate > 0 && o.Rate <= 100_000) { // NaN, too
				return usagef("--rate %g: want a number above 0, 100000 at most", o.Rate)
			}
			o.Out, o.Log = c.out, c.err
			if c.settings.Output == outputJSON { // the story goes to stderr, the report to stdout
				o.Out = c.err
			}
			o.Colour = c.colour(o.Out)
			report, err := demo.Run(cmd.Context(), o)
			if c.settings.Output == outputJSON && report != nil {
				err = errors.Join(err, c.json(report))
			}
			return err
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.Products, "products", 10000, "how many products the shop has")
	f.Float64Var(&o.Rate, "rate", 300, "requests per second that the shop gets, a quarter of them writes")
	f.BoolVar(&o.Keep, "keep", false, "leave everything running at the end, until Ctrl-C")
	cmd.AddCommand(newDemoStorefront(c))
	return cmd
}

// newDemoStorefront is the shop's own program inside this one, so that the demo
// needs no compiler.
func newDemoStorefront(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:                "storefront",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := context.WithCancel(cmd.Context())
			defer stop()
			if len(args) > 0 && args[0] == "serve" {
				c.stopOrphan(stop)
			}
			err := command.Run(ctx, args, command.IO{Out: c.out, Err: c.err, Getenv: os.Getenv})
			if errors.Is(err, command.ErrUsage) {
				return coded{err, exitUsage}
			}
			return err
		},
	}
}

// stopOrphan ends what a demo has started that can't end it because it was killed:
// its end of the pipe closes.
func (c *cli) stopOrphan(stop context.CancelFunc) {
	go func() {
		_, _ = io.Copy(io.Discard, c.in)
		stop()
	}()
}
