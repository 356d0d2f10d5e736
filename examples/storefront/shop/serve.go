package shop

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/kit"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// Config configures one instance of the shop.
type Config struct {
	Listen    string            // host:port
	Migration *migration.Config // what moves, and the stores
	StateURL  string            // of migrator's state database
	Instance  string            // unique in the fleet; "": generated
	Drain     time.Duration     // how long requests in flight may take after the end; 0: 10 s
	Breaker   time.Duration     // how long the circuit breaker of a failing Redis stays open; 0: a minute
	HandIn    time.Duration     // how often telemetry is reported; 0: 10 s
	Shadow    phases.Percent    // share of reads that are compared in cutover and grace; 0: 1 %
	Faults    bool              // allow drills to inject Redis failures: for staging only
	Logger    *slog.Logger      // nil: silent
	Ready     func(url string)  // called once the shop serves; may be nil
}

// Serve runs the shop until ctx ends, then lets requests finish and leaves the fleet. If the
// process is killed instead, its lease expires and the other instances continue.
func Serve(ctx context.Context, c Config) error {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Drain <= 0 {
		c.Drain = 10 * time.Second
	}
	m := c.Migration
	pool, err := openPool(ctx, m.Legacy.URL)
	if err != nil {
		return err
	}
	defer pool.Close()
	fleet, err := pgfleet.Open(ctx, c.StateURL, m.Name, pgfleet.Options{})
	if err != nil {
		return err
	}
	defer fleet.Close()
	// The columns that are applied, whatever the table has by now.
	if m, err = kit.Described(ctx, m, fleet); err != nil {
		return err
	}
	target, err := m.OpenTarget(ctx, m.Schema)
	if err != nil {
		return err
	}
	defer func() { _ = target.Close() }()

	marks, _ := target.(store.Marker)
	// From here on this process is an instance of the fleet. It must join before it serves:
	// without a route it may not read or write.
	instance, err := dual.Join(ctx, dual.Config{
		Fleet: fleet, Marks: marks, Logger: c.Logger, LeaveWithin: c.Drain, BreakerPause: c.Breaker, ReportEvery: c.HandIn, Faults: c.Faults,
		Moves:    m.Moves(),
		Applied:  kit.Applied(fleet, target, nil), // on_target_failure and the rest of writing, also after a later apply
		Identity: dual.Identity{Instance: c.Instance, About: fmt.Sprintf("storefront, pid %d", os.Getpid())},
	})
	if err != nil {
		return err
	}
	catalogue, err := newCatalogue(instance, newLegacyStore(pool, m.Name), target, m.Schema, m.Compare, time.Duration(m.Writing.Deadline), c.Shadow)
	if err != nil {
		return errors.Join(err, leave(instance))
	}
	catalogue.log = c.Logger
	return run(ctx, c, instance, catalogue)
}

// run serves. The order of the end matters: first the server, which waits for requests; only
// then the instance, which reports that nothing is in flight.
func run(ctx context.Context, c Config, instance *dual.Instance, catalogue *Catalogue) error {
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return errors.Join(err, leave(instance))
	}
	server := &http.Server{Handler: catalogue.handler(c.Migration.Name), ReadHeaderTimeout: 10 * time.Second}
	served, stopInstance := context.WithCancel(context.WithoutCancel(ctx))
	defer stopInstance()
	group, failed := errgroup.WithContext(ctx)
	group.Go(func() error { return instance.Run(served) })
	group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		<-failed.Done() // ctx has ended, or the server failed
		defer stopInstance()
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.Drain)
		defer cancel()
		if err := server.Shutdown(drain); err != nil {
			_ = server.Close()
			return fmt.Errorf("requests did not end within %s: %w", c.Drain, err)
		}
		return nil
	})
	if c.Ready != nil {
		c.Ready("http://" + listener.Addr().String())
	}
	return group.Wait()
}

// leave ends the lease of an instance that never ran.
func leave(instance *dual.Instance) error {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	return instance.Run(ended)
}

func openPool(ctx context.Context, url string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errors.New("the legacy database's URL can't be read") // not repeated: it may contain a password
	}
	config.MaxConns = max(config.MaxConns, 16)
	return pgxpool.NewWithConfig(ctx, config)
}
