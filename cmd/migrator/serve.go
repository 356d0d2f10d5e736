package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/metrics"
	"github.com/stranglerfig/migrator/server"
	"github.com/stranglerfig/migrator/spec"
	"github.com/stranglerfig/migrator/state"
)

const defaultListen = "127.0.0.1:7070"

// addServeFlags declares the settings that serve alone has flags for.
func addServeFlags(f *pflag.FlagSet) {
	f.String("listen", defaultListen, "where serve answers health checks, status and metrics, on loopback")
	f.Bool("listen-anywhere", false, "let other machines reach it too: whoever does reads the migrations' status")
}

func newServe(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve [DESCRIPTION]...",
		Short: "Run the daemon, which repairs, ends what was interrupted, and answers monitoring",
		Long: `Runs until it is told to stop. For each migration described, one daemon of all
that share the state database leads; the others stand by and take over. The leader

  repairs the keys whose copy in the target is known to be behind, as soon as the
  target takes writes again;
  ends a move of authority whose command died: lifts an interrupted fence, finishes
  a way back from retain;
  removes old tombstones from a target that does not let them expire by itself;
  sums up what instances have counted, and forgets what is old.

It never moves a migration forward. Every daemon answers GET /healthz, /status (the
document of migrator status -o json) and /metrics (for Prometheus); none of them
changes anything or asks for a password, so it listens on loopback unless
--listen-anywhere says otherwise.`,
		Annotations: map[string]string{logLevelOf: "info"},
		Args:        cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, paths []string) error {
			return c.serve(cmd.Context(), paths)
		},
	}
	addServeFlags(cmd.Flags())
	return cmd
}

// kept is one migration that the daemon keeps.
type kept struct {
	path  string
	m     *spec.Migration
	leads atomic.Bool
}

func (c *cli) serve(ctx context.Context, paths []string) error {
	if !c.settings.ListenAnywhere {
		if err := server.CheckLoopback(c.settings.Listen); err != nil {
			return coded{err, exitUsage}
		}
	}
	all, err := c.described(paths)
	if err != nil {
		return err
	}
	store, err := c.openState(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.settings.Listen)
	if err != nil {
		return fmt.Errorf("%w; try: migrator serve --listen 127.0.0.1:0", err)
	}
	if bound, ok := listener.Addr().(*net.TCPAddr); !c.settings.ListenAnywhere && (!ok || !bound.IP.IsLoopback()) {
		_ = listener.Close()
		return usagef("%s is %s, which is not on loopback; try: --listen %s", c.settings.Listen, listener.Addr(), defaultListen)
	}
	handler, err := c.handler(store, all)
	if err != nil {
		_ = listener.Close()
		return err
	}
	c.log.Info("listening", "address", listener.Addr().String())
	g, serving := errgroup.WithContext(ctx)
	g.Go(func() error { return server.Serve(serving, listener, handler) })
	for _, k := range all {
		g.Go(func() error { return c.keep(serving, store, k) })
	}
	err = g.Wait()
	c.log.Info("stopped")
	return err
}

// described reads the descriptions, each of another migration.
func (c *cli) described(paths []string) ([]*kept, error) {
	if len(paths) == 0 {
		path := c.settings.descriptionFile()
		if path == "" {
			return nil, coded{errNoDescription, exitUsage}
		}
		paths = []string{path}
	}
	var all []*kept
	by := map[string]string{}
	for _, path := range paths {
		m, err := spec.Load(path)
		if err != nil {
			return nil, coded{err, exitUsage}
		}
		if other, taken := by[m.Name]; taken {
			return nil, usagef("%s and %s both describe %s: name one of them", other, path, m.Name)
		}
		by[m.Name] = path
		all = append(all, &kept{path: path, m: m})
	}
	return all, nil
}

// keep waits for its turn to lead the migration, and keeps it then.
func (c *cli) keep(ctx context.Context, store *state.Store, k *kept) error {
	log := c.log.With("migration", k.m.Name)
	keeper := &server.Keeper{
		Migration: k.m.Name, State: store,
		Budget: k.m.Timing().KeeperBudget(), Log: c.log,
		Open: func(ctx context.Context, hash string) (server.Tools, error) {
			return openTools(ctx, store, k, hash, log)
		},
		Tend: tend(store, k.m.Name),
	}
	log.Info("standing by, unless nobody leads")
	err := store.Lead(ctx, "keep "+k.m.Name, func(ctx context.Context) error {
		k.leads.Store(true)
		defer k.leads.Store(false)
		log.Info("leading")
		defer log.Info("no longer leading")
		return keeper.Run(ctx)
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// tend sums up what instances have counted, and once an hour forgets what is old.
func tend(store *state.Store, migration string) func(context.Context) error {
	var pruned time.Time
	return func(ctx context.Context) error {
		if _, err := store.RollUp(ctx, migration); err != nil {
			return err
		}
		if time.Since(pruned) < time.Hour {
			return nil
		}
		pruned = time.Now()
		return store.Prune(ctx, migration)
	}
}

func (c *cli) handler(store *state.Store, all []*kept) (http.Handler, error) {
	var names []string
	byName := map[string]*kept{}
	for _, k := range all {
		names = append(names, k.m.Name)
		byName[k.m.Name] = k
	}
	scraped, err := metrics.Handler(&metrics.Collector{
		Migrations: names, Log: c.log,
		Leads: func(name string) bool { return byName[name].leads.Load() },
		Read:  func(ctx context.Context, name string) (metrics.Reading, error) { return readMetrics(ctx, store, name) },
	})
	if err != nil {
		return nil, err
	}
	api := &server.API{
		Ping: store.Pool().Ping, Metrics: scraped, Log: c.log,
		Role: func() string {
			for _, k := range all {
				if k.leads.Load() {
					return "leader"
				}
			}
			return "standby"
		},
		Status: func(ctx context.Context) (any, error) {
			found := []status{}
			for _, name := range names {
				s, err := statusOf(ctx, store, name)
				switch {
				case errors.Is(err, state.ErrUnknownMigration):
				case err != nil:
					return nil, err
				default:
					found = append(found, s)
				}
			}
			return found, nil
		},
	}
	return api.Handler(), nil
}

// readMetrics reads one migration for a scrape.
func readMetrics(ctx context.Context, store *state.Store, name string) (r metrics.Reading, err error) {
	r.Evidence, err = store.Evidence(ctx, name)
	if errors.Is(err, state.ErrUnknownMigration) {
		return metrics.Reading{}, nil
	}
	if err != nil {
		return r, err
	}
	changes, err := store.Changes(ctx, name)
	if err != nil {
		return r, err
	}
	for _, c := range changes {
		r.Transitions = append(r.Transitions, metrics.Transition(c))
	}
	if r.Coverage, err = store.Coverage(ctx, name); err != nil {
		return r, err
	}
	r.LastClean, err = store.LastClean(ctx, name)
	return r, err
}
