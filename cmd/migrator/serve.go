package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/internal/daemon"
	"github.com/stranglerfig/migrator/internal/server"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/outbox"
	"github.com/stranglerfig/migrator/internal/state/reconciles"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/metrics"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
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
  sums up what instances have counted, and forgets what is old;
  evaluates gates and triggers, in every phase, paused or not;
  takes reads back to legacy, at once, when a trigger fires;
  takes a ramp's next step when it is due and its gates are open (phases.*.auto);
  makes reconcile runs at the times that reconcile.schedule and full_schedule set;
  tells the description's webhooks.

It never takes a migration into another phase. Every daemon answers GET /healthz,
/status (the document of migrator status -o json) and /metrics (for Prometheus); none
of them changes anything or asks for a password, so it listens on loopback unless
--listen-anywhere says otherwise. With a token (MIGRATOR_ALERTS_TOKEN, or the setting
alerts_token_file) it takes an Alertmanager's webhooks by POST /alerts/MIGRATION.`,
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
	m     *migration.Config
	leads atomic.Bool
}

func (c *cli) serve(ctx context.Context, paths []string) error {
	if err := c.mayListen(c.settings.Listen); err != nil {
		return err
	}
	token, err := c.settings.alertsToken()
	if err != nil {
		return err
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
	listener, err := c.listen(ctx, "serve", c.settings.Listen)
	if err != nil {
		return err
	}
	handler, err := c.handler(store, all, token)
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
		m, err := loadFrom(path, "migrator serve products.yaml, where products.yaml is the description that is applied")
		if err != nil {
			return nil, err
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
	keeper := &daemon.Keeper{
		Migration: k.m.Name, State: store,
		Budget: k.m.Timing().KeeperBudget(), Log: c.log,
		Open: func(ctx context.Context, hash string) (daemon.Tools, error) {
			return openTools(ctx, store, k, hash, log)
		},
		Tend: tend(store, k),
	}
	engine := c.engine(store, k)
	schedule := c.schedule(store, k, log)
	courier := &courier{outbox: outbox.New(store.Pool(), k.m.Name), hooks: k.webhooks, log: log}
	log.Info("standing by, unless nobody leads")
	err := store.Lead(ctx, "keep "+k.m.Name, func(ctx context.Context) error {
		k.leads.Store(true)
		defer k.leads.Store(false)
		log.Info("leading")
		defer log.Info("no longer leading")
		g, leading := errgroup.WithContext(ctx)
		g.Go(func() error { return keeper.Run(leading) })
		g.Go(func() error { return engine.Run(leading) })
		g.Go(func() error { return courier.run(leading) })
		g.Go(func() error { return schedule.Loop(leading) })
		return g.Wait()
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// engine evaluates what is applied. Of the description at hand it takes no more than
// where a Prometheus is: a file that was edited, or is gone, turns no trigger off.
func (c *cli) engine(store *state.Store, k *kept) *daemon.Engine {
	return &daemon.Engine{
		Migration: k.m.Name, State: store, Alerts: looks{store}, Announce: announces(store, k.m.Name), Log: c.log,
		Rules: func(ctx context.Context, _ string) (*daemon.Rules, error) {
			applied, err := appliedSettings(ctx, store, k.m.Name)
			if err != nil {
				return nil, err
			}
			reach := k.m.Prometheus
			if now, err := migration.Load(k.path); err == nil && now.Name == k.m.Name {
				reach = now.Prometheus
			}
			if err := applied.Settings().Validate(); err != nil {
				return nil, fmt.Errorf("what was applied to %s can't be evaluated: %w; try: migrator apply", k.m.Name, err)
			}
			return &daemon.Rules{Settings: applied.Settings(), Judge: newJudge(store, k.m.Name, applied.Settings(), reach)}, nil
		},
	}
}

// webhooks are those of the description as it is now; of the one at the start, if it
// can't be read.
func (k *kept) webhooks() []migration.Webhook {
	if now, err := migration.Load(k.path); err == nil && now.Name == k.m.Name {
		return now.Webhooks
	}
	return k.m.Webhooks
}

// looks finds evaluations again.
type looks struct{ *state.Store }

func (l looks) Looks(ctx context.Context, migration, trigger string) ([]phases.Evaluation, error) {
	return l.Evaluations(ctx, migration, state.EvaluationFilter{Kind: phases.TriggerKind, Name: trigger, Limit: 1000})
}

// tend sums up what instances have counted, and once an hour forgets what is old.
func tend(store *state.Store, k *kept) func(context.Context) error {
	migration := k.m.Name
	var pruned time.Time
	return func(ctx context.Context) error {
		if _, err := store.RollUp(ctx, migration); err != nil {
			return err
		}
		if time.Since(pruned) < time.Hour {
			return nil
		}
		pruned = time.Now()
		if err := reconciles.New(store.Pool(), migration).Prune(ctx, time.Duration(k.now().Reconcile.Keep)); err != nil {
			return err
		}
		return store.Prune(ctx, migration)
	}
}

func (c *cli) handler(store *state.Store, all []*kept, token string) (http.Handler, error) {
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
				case errors.Is(err, statedb.ErrUnknownMigration):
				case err != nil:
					return nil, err
				default:
					found = append(found, s)
				}
			}
			return found, nil
		},
	}
	if token != "" {
		api.Alerts = &alerts{c: c, store: store, kept: byName, token: token}
	}
	return api.Handler(), nil
}

// readMetrics reads one migration for a scrape.
func readMetrics(ctx context.Context, store *state.Store, name string) (r metrics.Reading, err error) {
	r.Snapshot, err = store.Evidence(ctx, name)
	if errors.Is(err, statedb.ErrUnknownMigration) {
		return metrics.Reading{}, nil
	}
	if err != nil {
		return r, err
	}
	if r.Triggers, err = store.Evaluations(ctx, name, state.EvaluationFilter{Kind: phases.TriggerKind, Newest: true}); err != nil {
		return r, err
	}
	changes, err := store.Changes(ctx, name)
	if err != nil {
		return r, err
	}
	for _, c := range changes {
		r.Transitions = append(r.Transitions, metrics.Transition(c))
	}
	m, err := appliedSettings(ctx, store, name)
	if err != nil {
		return r, err
	}
	covered, err := reconciles.New(store.Pool(), name).CoverageNow(ctx, window(m))
	if err != nil {
		return r, err
	}
	r.Coverage = covered.Clean
	if d := r.Snapshot.Drill; d != nil {
		r.LastDrill = d.Passed
	}
	r.LastClean, err = store.LastClean(ctx, name)
	return r, err
}
