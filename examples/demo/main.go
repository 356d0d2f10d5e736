// Command demo takes a shop with two instances through a whole migration, on private
// servers and with migrator's own commands, while a load generator checks every read
// against every acknowledged write.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"github.com/stranglerfig/migrator/examples/storefront/command"
	"github.com/stranglerfig/migrator/internal/hint"
)

const help = `Watch a whole migration on private servers, in a minute or two.

Starts a private PostgreSQL and Redis, a shop of two instances with messy products
and a load of reads and writes, and takes it from legacy to retain by migrator's
commands and daemon, with short waiting times. In mid-cutover Redis is frozen, and a
write that fails rolls reads back; later Redis refuses reads, and a trigger rolls back.
Every read is checked against every acknowledged write: exits with 1 if a write was lost
or a read was stale. Everything is removed at the end.

`

func main() { os.Exit(run(os.Args[1:])) }

// errUsage is wrapped by errors of the command line.
var errUsage = errors.New("try: --help")

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	act := demonstrate
	if len(args) > 0 && args[0] == "storefront" {
		act, args = storefront, args[1:]
	}
	switch err := act(ctx, args); {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage), errors.Is(err, command.ErrUsage):
		fmt.Fprintln(os.Stderr, "Error:", err)
		return 2
	default:
		fmt.Fprintln(os.Stderr, "Error:", err)
		if h, ok := hint.Of(err); ok {
			fmt.Fprintln(os.Stderr, "Try:", h)
		}
		return 1
	}
}

func demonstrate(ctx context.Context, args []string) error {
	o := options{Out: os.Stdout, Log: os.Stderr}
	var format string
	f := flag.NewFlagSet("demo", flag.ContinueOnError)
	f.Usage = func() {
		fmt.Fprint(f.Output(), help)
		f.PrintDefaults()
	}
	f.IntVar(&o.Products, "products", 10000, "number of products in the shop")
	f.Float64Var(&o.Rate, "rate", 300, "requests per second to the shop, a quarter of them writes")
	f.BoolVar(&o.Capture, "capture", false, "with a shop of plain SQL, whose changes are captured from PostgreSQL's log")
	f.BoolVar(&o.Keep, "keep", false, "leave everything running at the end, until Ctrl-C")
	f.StringVar(&o.Migrator, "migrator", "", "path of migrator (default: built from this source by go build)")
	f.StringVar(&format, "o", "text", "text, or json: the report goes to stdout, and progress to stderr")
	f.StringVar(&format, "output", "text", "same as -o")
	err := f.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return err
	case err != nil:
		return fmt.Errorf("%w; %w", err, errUsage)
	case f.NArg() > 0:
		return fmt.Errorf("demo takes no arguments, but got %q; %w", f.Arg(0), errUsage)
	case o.Products < 100 || o.Products > 10_000_000:
		return fmt.Errorf("--products %d: want a number from 100 to 10000000; %w", o.Products, errUsage)
	case !(o.Rate > 0 && o.Rate <= 100_000): // NaN, too
		return fmt.Errorf("--rate %g: want a number above 0, 100000 at most; %w", o.Rate, errUsage)
	case format != "text" && format != "json":
		return fmt.Errorf("-o %q: want text or json; %w", format, errUsage)
	}
	screen := os.Stdout
	if format == "json" {
		screen = os.Stderr
	}
	o.Out, o.Colour = screen, os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(screen.Fd()))
	report, err := runDemo(ctx, o)
	if format == "json" && report != nil {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		err = errors.Join(err, e.Encode(report))
	}
	return err
}

// storefront is the shop's own program inside this one, so that the demo starts it
// without another build. An instance ends at the end of its input: a killed demo cannot
// stop the processes that it started, but the kernel closes its end of the pipe.
func storefront(ctx context.Context, args []string) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if len(args) > 0 && args[0] == "serve" {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			stop()
		}()
	}
	return command.Run(ctx, args, command.IO{Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv})
}
