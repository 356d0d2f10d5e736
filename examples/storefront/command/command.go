// Package command is the storefront's command line, for its own program and for the
// demo.
package command

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/examples/storefront/load"
	"github.com/stranglerfig/migrator/examples/storefront/shop"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store/postgres"
	"github.com/stranglerfig/migrator/store/redis"
)

// Environment variables. URLs contain passwords, and a command line is visible to other users.
const (
	EnvDatabase = "STOREFRONT_DATABASE_URL" // the shop's PostgreSQL, the migration's legacy store
	EnvCache    = "STOREFRONT_CACHE_URL"    // the Redis that products move to
	EnvState    = "MIGRATOR_STATE_URL"
)

const help = `storefront is a shop whose products are being moved from PostgreSQL to Redis.

  storefront seed  --products 50000             make the table and fill it
  storefront serve --listen 127.0.0.1:8080 --migration products.yaml
  storefront load  --url http://127.0.0.1:8080 [--url ...] --duration 30s

The stores are named by ` + EnvDatabase + ` and ` + EnvCache + `,
migrator's state database by ` + EnvState + `.
`

// ErrUsage is wrapped by errors in a command line.
var ErrUsage = errors.New("try: storefront --help")

// ErrViolations reports that the load has found a broken promise.
var ErrViolations = errors.New("acknowledged writes were lost, or reads were wrong")

// IO is a command's output and its environment.
type IO struct {
	Out, Err io.Writer
	Getenv   func(string) string
}

// Run executes one command line, without the program's name, until it is done or ctx ends.
func Run(ctx context.Context, args []string, io IO) error {
	if len(args) == 0 || args[0] == "help" || args[0] == "--help" || args[0] == "-h" {
		fmt.Fprint(io.Out, help)
		return nil
	}
	run, ok := map[string]func(context.Context, []string, IO) error{"serve": serve, "seed": seed, "load": generate}[args[0]]
	if !ok {
		return fmt.Errorf("unknown command %q; %w", args[0], ErrUsage)
	}
	err := run(ctx, args[1:], io)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	return err
}

func flags(name string, io IO) *flag.FlagSet {
	f := flag.NewFlagSet("storefront "+name, flag.ContinueOnError)
	f.SetOutput(io.Err)
	return f
}

func parse(f *flag.FlagSet, args []string) error {
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return fmt.Errorf("%w; %w", err, ErrUsage)
	}
	if f.NArg() > 0 {
		return fmt.Errorf("%s takes no arguments, but got %q; %w", f.Name(), f.Arg(0), ErrUsage)
	}
	return nil
}

func required(io IO, name, what string) (string, error) {
	if v := io.Getenv(name); v != "" {
		return v, nil
	}
	return "", fmt.Errorf("%s is not set: export %s", what, name)
}

func serve(ctx context.Context, args []string, io IO) error {
	f := flags("serve", io)
	listen := f.String("listen", "127.0.0.1:8080", "host:port")
	file := f.String("migration", "products.yaml", "the migration file")
	name := f.String("instance", "", "this instance's name in the fleet; generated if empty")
	drain := f.Duration("drain", 10*time.Second, "how long requests may take to end")
	breaker := f.Duration("breaker-pause", time.Minute, "how long the circuit breaker of a failing Redis stays open")
	handIn := f.Duration("hand-in", 10*time.Second, "how often telemetry is reported")
	var shadow phases.Percent
	f.TextVar(&shadow, "shadow", phases.Percent(100), "percent of reads that are compared once Redis answers")
	faults := f.Bool("faults", false, "allow drills to inject Redis failures (staging only)")
	if err := parse(f, args); err != nil {
		return err
	}
	stateURL, err := required(io, EnvState, "migrator's state database")
	if err != nil {
		return err
	}
	text, err := os.ReadFile(*file)
	if err != nil {
		return fmt.Errorf("the migration file: %w", err)
	}
	m, err := migration.Parse(*file, text, func(name string) (string, bool) {
		v := io.Getenv(name)
		return v, v != ""
	}, postgres.Kind(), redis.Kind())
	if err != nil {
		return err
	}
	return shop.Serve(ctx, shop.Config{
		Listen: *listen, Migration: m, StateURL: stateURL, Instance: *name, Drain: *drain, Breaker: *breaker,
		HandIn: *handIn, Faults: *faults, Shadow: shadow,
		Logger: slog.New(slog.NewTextHandler(io.Err, nil)),
		Ready:  func(url string) { fmt.Fprintf(io.Out, "storefront: serving on %s\n", url) },
	})
}

func seed(ctx context.Context, args []string, io IO) error {
	f := flags("seed", io)
	n := f.Int("products", 50000, "how many")
	if err := parse(f, args); err != nil {
		return err
	}
	url, err := required(io, EnvDatabase, "the shop's database")
	if err != nil {
		return err
	}
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return errors.New("the URL in " + EnvDatabase + " can't be read")
	}
	defer pool.Close()
	if err := shop.Seed(ctx, pool, *n); err != nil {
		return err
	}
	fmt.Fprintf(io.Out, "made %s products\n", load.Count(int64(*n)))
	return nil
}

// list is a flag that may be given several times.
type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(s string) error { *l = append(*l, strings.TrimSuffix(s, "/")); return nil }

func generate(ctx context.Context, args []string, io IO) error {
	f := flags("load", io)
	var c load.Config
	f.Var((*list)(&c.URLs), "url", "an instance; may be given several times")
	f.Float64Var(&c.Rate, "rate", 500, "requests per second, a quarter of them writes; 0: no limit")
	f.IntVar(&c.Writers, "writers", 8, "writers at once")
	f.IntVar(&c.Readers, "readers", 8, "readers at once")
	f.IntVar(&c.Products, "products", 50000, "how many products storefront seed has made")
	duration := f.Duration("duration", 30*time.Second, "how long")
	asJSON := f.Bool("json", false, "print the report as JSON")
	ledger := f.String("ledger", "", "file to add each acknowledged write to, as migrator drill rollback --load reads it")
	if err := parse(f, args); err != nil {
		return err
	}
	if len(c.URLs) == 0 {
		return fmt.Errorf("--url is missing; %w", ErrUsage)
	}
	if *ledger != "" {
		file, err := os.OpenFile(*ledger, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644) //nolint:gosec // numbers of products
		if err != nil {
			return err
		}
		defer func() { _ = file.Close() }()
		c.Out = file
	}
	g := load.New(c)
	bounded, cancel := context.WithTimeout(ctx, *duration)
	defer cancel()
	if err := g.Run(bounded); err != nil {
		return err
	}
	if err := g.Verify(ctx); err != nil {
		return err
	}
	report := g.Report()
	if *asJSON {
		e := json.NewEncoder(io.Out)
		e.SetIndent("", "  ")
		if err := e.Encode(report); err != nil {
			return err
		}
	} else {
		report.Write(io.Out)
	}
	if !report.OK() {
		return ErrViolations
	}
	return nil
}
