// Package daemon keeps migrations well between an operator's commands: the leader of all
// that share a state database evaluates gates and triggers, rolls back, takes a ramp's
// steps, repairs, and makes scheduled reconcile runs. A worker takes jobs of such runs.
package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/logs"
	"github.com/stranglerfig/migrator/internal/notify"
	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/internal/server"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/outbox"
	"github.com/stranglerfig/migrator/internal/state/reconciles"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
)

// Daemon leads migrations, of those of one state database, or waits to, and answers
// health checks, status and metrics. See migrator serve for what it does as the leader.
type Daemon struct {
	State       *state.Store
	Migrations  []*Migration // each of another name
	AlertsToken string       // that an Alertmanager must send; "": no alerts are taken
	Log         *slog.Logger // nil: discarded
}

// Migration is one that a daemon leads, or waits to.
type Migration struct {
	File   string            // is read again while the daemon runs
	Config *migration.Config // as File was at the start

	leads atomic.Bool
}

// Run goes on until ctx ends, and returns nil then. It closes the listener.
func (d *Daemon) Run(ctx context.Context, listener net.Listener) error {
	d.Log = logs.OrDiscard(d.Log)
	handler, err := d.handler()
	if err != nil {
		_ = listener.Close()
		return err
	}
	d.Log.Info("listening", "address", listener.Addr().String())
	g, serving := errgroup.WithContext(ctx)
	g.Go(func() error { return server.Serve(serving, listener, handler) })
	for _, m := range d.Migrations {
		g.Go(func() error { return d.lead(serving, m) })
	}
	err = g.Wait()
	d.Log.Info("stopped")
	return err
}

// lead waits for its turn to lead the migration, and does what a leader does then.
func (d *Daemon) lead(ctx context.Context, m *Migration) error {
	name := m.Config.Name
	log := d.Log.With("migration", name)
	maintainer := &Maintainer{
		Migration: name, State: d.State,
		Budget: m.Config.Timing().MaintenanceBudget(), Log: d.Log,
		Open: func(ctx context.Context, hash string) (Stores, error) {
			return openStores(ctx, d.State, m, hash, log)
		},
		MaintainState: stateMaintenance(d.State, m),
	}
	engine := d.engine(m)
	schedule := d.schedule(m, log)
	sender := &notify.Sender{Outbox: outbox.New(d.State.Pool(), name), Webhooks: func() []migration.Webhook { return m.now().Webhooks }, Log: log}
	log.Info("standing by, unless nobody leads")
	err := d.State.Lead(ctx, "keep "+name, func(ctx context.Context) error {
		m.leads.Store(true)
		defer m.leads.Store(false)
		log.Info("leading")
		defer log.Info("no longer leading")
		g, leading := errgroup.WithContext(ctx)
		g.Go(func() error { return maintainer.Run(leading) })
		g.Go(func() error { return engine.Run(leading) })
		g.Go(func() error { return sender.Run(leading) })
		g.Go(func() error { return schedule.Loop(leading) })
		return g.Wait()
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// engine evaluates what is applied. Of the migration file at hand it takes no more than
// where a Prometheus is: a file that was edited, or is gone, turns no trigger off.
func (d *Daemon) engine(m *Migration) *Engine {
	name := m.Config.Name
	return &Engine{
		Migration: name, State: d.State, Alerts: evaluationStore{d.State}, Announce: announcer(d.State, name), Log: d.Log,
		Rules: func(ctx context.Context, _ string) (*Rules, error) {
			applied, err := app.Applied(ctx, d.State, name)
			if err != nil {
				return nil, err
			}
			if err := applied.Settings().Validate(); err != nil {
				return nil, fmt.Errorf("what was applied to %s can't be evaluated: %w; try: migrator apply", name, err)
			}
			return &Rules{Settings: applied.Settings(), Judge: app.NewJudge(d.State, name, applied.Settings(), m.now().Prometheus)}, nil
		},
	}
}

// now is the migration file as it is; as it was at the start, if it can't be read.
func (m *Migration) now() *migration.Config {
	if now, err := openstore.Load(m.File); err == nil && now.Name == m.Config.Name {
		return now
	}
	return m.Config
}

// looks finds evaluations again.
type evaluationStore struct{ *state.Store }

func (l evaluationStore) NewestEvaluations(ctx context.Context, migration, trigger string) ([]phases.Evaluation, error) {
	return l.Evaluations(ctx, migration, state.EvaluationFilter{Kind: phases.TriggerKind, Name: trigger, Limit: 1000})
}

// announces puts what no entry of the history tells of into the outbox.
func announcer(store *state.Store, migration string) func(context.Context, Event, string, any) error {
	pending := outbox.New(store.Pool(), migration)
	return func(ctx context.Context, event Event, topic string, detail any) error {
		return pending.Announce(ctx, outbox.Event(event), topic, detail)
	}
}

// pruneEvery is how often what is old is removed from the state.
const pruneEvery = time.Hour

// tend sums up what instances have counted, and removes what is old.
func stateMaintenance(store *state.Store, m *Migration) func(context.Context) error {
	name := m.Config.Name
	var pruned time.Time
	return func(ctx context.Context) error {
		if _, err := store.RollUp(ctx, name); err != nil {
			return err
		}
		if time.Since(pruned) < pruneEvery {
			return nil
		}
		pruned = time.Now()
		if err := reconciles.New(store.Pool(), name).Prune(ctx, time.Duration(m.now().Reconcile.Keep)); err != nil {
			return err
		}
		return store.Prune(ctx, name)
	}
}

func (d *Daemon) named(name string) *Migration {
	at := slices.IndexFunc(d.Migrations, func(m *Migration) bool { return m.Config.Name == name })
	if at < 0 {
		return nil
	}
	return d.Migrations[at]
}

// alerts takes an Alertmanager's webhooks.
func (d *Daemon) alerts() *server.Alerts {
	return &server.Alerts{
		Token: d.AlertsToken, Log: d.Log,
		Matchers: func(ctx context.Context, name string) ([]server.Matcher, bool, error) {
			if d.named(name) == nil {
				return nil, false, nil
			}
			applied, err := app.Applied(ctx, d.State, name)
			if err != nil {
				return nil, true, err
			}
			var matchers []server.Matcher
			for _, t := range applied.Triggers.Custom {
				if len(t.Alertmanager.Labels) > 0 {
					matchers = append(matchers, server.Matcher{Trigger: t.Name, Labels: t.Alertmanager.Labels})
				}
			}
			return matchers, true, nil
		},
		Fire: func(ctx context.Context, name string, alert server.Alert) error {
			body, err := json.Marshal(alert)
			if err != nil {
				return err
			}
			return d.engine(d.named(name)).Fire(ctx, Alert{Trigger: alert.Trigger, Key: alert.Key(), Detail: alert.Text(), Alert: body})
		},
	}
}
