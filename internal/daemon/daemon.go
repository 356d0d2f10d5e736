// Package daemon runs migrations between an operator's commands. Of all daemons that share
// a state database, the leader evaluates gates and triggers, rolls back, advances ramps,
// repairs, and starts scheduled reconcile runs. A worker takes jobs of reconcile runs.
package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/logs"
	"github.com/stranglerfig/migrator/internal/notify"
	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/internal/server"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/outbox"
	"github.com/stranglerfig/migrator/internal/state/reconciles"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// Daemon leads migrations of one state database, or is their standby, and answers health
// checks, status and metrics. See migrator serve for the leader's tasks.
type Daemon struct {
	State       *state.Store
	Migrations  []*Migration  // names are unique
	AlertsToken string        // that an Alertmanager must send; "": POST /alerts does not exist
	Flags       *FlagsOptions // nil: flags are not served
	API         *APIOptions   // nil: the HTTP API is not served
	Page        *PageOptions  // nil: the page is not served
	HTTP        server.Options
	Log         *slog.Logger // nil: discarded
}

// FlagsOptions are how flags are served.
type FlagsOptions struct {
	Origins []string // of pages that browsers may call from
	Rate    int      // requests of one token in a second; 0: the default
}

// mostInstances is how many connections instances of the HTTP API may hold: each one has two, one of them for events.
const mostInstances = 8192

// APIOptions are how the HTTP API is served.
type APIOptions struct {
	Rate int                    // requests of one token in a second; 0: the default
	Try  func(hint.Hint) string // a remedy as text
}

// PageOptions are how the page is served.
type PageOptions struct {
	Remedy func(migration string, h hint.Hint) string // the text of a hint
}

// Migration is one migration that a daemon leads, or is the standby of.
type Migration struct {
	File   string            // reread while the daemon runs
	Config *migration.Config // File's content at the start

	leads atomic.Bool
	unled atomic.Bool // for longer than unledFor, by any process
}

// Run runs until ctx ends, and then returns nil. It closes the listener.
func (d *Daemon) Run(ctx context.Context, listener net.Listener) error {
	d.Log = logs.OrDiscard(d.Log)
	directory := d.directory()
	shown := d.page()
	handler, closeAPI, err := d.handler(ctx, directory, shown)
	if err != nil {
		_ = listener.Close()
		return err
	}
	defer closeAPI()
	if d.API != nil {
		d.HTTP.Instances = mostInstances
	}
	d.Log.Info("listening", "address", listener.Addr().String())
	g, serving := errgroup.WithContext(ctx)
	g.Go(func() error { return server.Serve(serving, listener, handler, d.HTTP) })
	if directory != nil {
		g.Go(func() error { return directory.Run(serving) })
	}
	if shown != nil {
		g.Go(func() error { return shown.Run(serving) })
	}
	for _, m := range d.Migrations {
		g.Go(func() error { return d.lead(serving, m) })
		isLed := func(ctx context.Context) (bool, error) { return d.State.Led(ctx, state.LeaderName(m.Config.Name)) }
		g.Go(func() error { return m.watchLeader(serving, isLed, d.Log.With("migration", m.Config.Name)) })
	}
	err = g.Wait()
	d.Log.Info("stopped")
	return err
}

// lead waits for the migration's leadership, then runs the leader's loops until it is lost.
func (d *Daemon) lead(ctx context.Context, m *Migration) error {
	name := m.Config.Name
	log := d.Log.With("migration", name)
	maintainer := d.maintainer(m, log)
	engine := d.engine(m)
	capturer := d.capturer(m)
	reentry := &Reentry{Migration: name, State: d.State, Mode: capturer.Mode, Open: capturer.Open, Log: d.Log}
	schedule := d.schedule(m, log)
	sender := &notify.Sender{Outbox: outbox.New(d.State.Pool(), name), Webhooks: func() []migration.Webhook { return m.now().Webhooks }, Log: log}
	log.Info("waiting for leadership")
	ctx = hint.OnWait(ctx, func(what string, remedy hint.Hint) {
		log.Warn("waiting", "for", what, "hint", remedy)
	})
	err := d.State.Lead(ctx, state.LeaderName(name), func(ctx context.Context) error {
		m.leads.Store(true)
		defer m.leads.Store(false)
		log.Info("leading")
		defer log.Info("no longer leading")
		g, leading := errgroup.WithContext(ctx)
		g.Go(func() error { return maintainer.Run(leading) })
		g.Go(func() error { return engine.Run(leading) })
		g.Go(func() error { return capturer.Run(leading) })
		g.Go(func() error { return reentry.Run(leading) })
		g.Go(func() error { return sender.Run(leading) })
		g.Go(func() error { return schedule.Loop(leading) })
		return g.Wait()
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// maintainer works by the applied migration file.
func (d *Daemon) maintainer(m *Migration, log *slog.Logger) *Maintainer {
	name := m.Config.Name
	return &Maintainer{
		Migration: name, State: d.State,
		Log: d.Log,
		Budget: func(ctx context.Context) (time.Duration, error) {
			applied, err := app.Applied(ctx, d.State, name)
			if err != nil {
				return 0, err
			}
			return applied.Timing().MaintenanceBudget(), nil
		},
		Open:          func(ctx context.Context) (Stores, error) { return openStores(ctx, d.State, m, log) },
		MaintainState: stateMaintenance(d.State, name, d.Log),
		NoteChecks: func(ctx context.Context, checks []store.Check) ([]store.Check, error) {
			return app.NoteChecks(ctx, d.State, name, checks)
		},
	}
}

// capturer works by the applied migration file.
func (d *Daemon) capturer(m *Migration) *Capturer {
	return &Capturer{
		Migration: m.Config.Name, State: d.State, Log: d.Log,
		Mode: func(ctx context.Context) (phases.CaptureMode, error) {
			applied, err := app.Applied(ctx, d.State, m.Config.Name)
			if err != nil {
				return "", err
			}
			return applied.Capture.Mode, nil
		},
		Open: func(ctx context.Context) (*app.Job, error) {
			now, err := app.LoadInForce(ctx, d.State, m.File, m.Config.Name)
			if err != nil {
				return nil, err
			}
			return app.OpenJob(ctx, d.State, now)
		},
	}
}

// engine evaluates the applied migration file. From the file on this machine it takes the
// address of Prometheus alone: an edited or missing file turns no trigger off.
func (d *Daemon) engine(m *Migration) *Engine {
	name := m.Config.Name
	return &Engine{
		Migration: name, State: d.State, Alerts: d.State, Announce: announcer(d.State, name), Log: d.Log,
		Rules: func(ctx context.Context) (*Rules, error) {
			applied, err := app.Applied(ctx, d.State, name)
			if err != nil {
				return nil, err
			}
			if err := applied.Settings().Validate(); err != nil {
				return nil, hint.Errorf(hint.Hint{Do: hint.Apply}, "the applied migration file of %s is not valid: %w", name, err)
			}
			return &Rules{Settings: applied.Settings(), Judge: app.NewJudge(d.State, name, applied.Settings(), func() migration.Prometheus { return m.now().Prometheus })}, nil
		},
	}
}

// now returns the migration file's present content, or that at the start if it can't be read. Only
// what the state does not store is taken from it: an edited file changes nothing else before it is
// applied.
func (m *Migration) now() *migration.Config {
	if now, err := openstore.Load(m.File); err == nil && now.Name == m.Config.Name {
		return now
	}
	return m.Config
}

// announcer puts events that have no entry in the history into the outbox.
func announcer(store *state.Store, migration string) func(context.Context, Event, string, any) error {
	pending := outbox.New(store.Pool(), migration)
	return func(ctx context.Context, event Event, topic string, detail any) error {
		return pending.Announce(ctx, outbox.Event(event), topic, detail)
	}
}

// pruneEvery is how often old rows are removed from the state.
const pruneEvery = time.Hour

// stateMaintenance rolls up telemetry, and removes old rows.
func stateMaintenance(store *state.Store, name string, log *slog.Logger) func(context.Context) error {
	var pruned time.Time
	return func(ctx context.Context) error {
		// [state-server]: by whichever leader looks first; it marks the other migrations too.
		changed, err := store.NoteServer(ctx)
		if err != nil {
			return err
		}
		if changed != "" {
			log.Error("the state database is on another server, and may have lost journalled keys", "server", changed)
		}
		if _, err := store.RollUp(ctx, name); err != nil {
			return err
		}
		if time.Since(pruned) < pruneEvery {
			return nil
		}
		pruned = time.Now()
		applied, err := app.Applied(ctx, store, name)
		if err != nil {
			return err
		}
		if err := reconciles.New(store.Pool(), name).Prune(ctx, time.Duration(applied.Reconcile.Keep)); err != nil {
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

// alerts receives Alertmanager webhooks.
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
		Fire: func(ctx context.Context, name string, r server.Received) (server.Fired, error) {
			alerts := make([]Alert, len(r.Firing))
			for i, a := range r.Firing {
				body, err := json.Marshal(a)
				if err != nil {
					return server.Fired{}, err
				}
				alerts[i] = Alert{Trigger: a.Trigger, StartsAt: a.StartsAt, Key: a.Key(), Detail: a.Text(), Alert: body}
			}
			var fired AlertsFired
			var err error
			if len(alerts) > 0 {
				fired, err = d.engine(d.named(name)).Fire(ctx, alerts)
			}
			// Last: what was noted is what was acted on.
			return server.Fired(fired), errors.Join(err, d.State.NoteAlerts(ctx, name, noted(r.Firing), noted(r.Resolved), r.Watchdog))
		},
	}
}

func noted(alerts []server.Alert) []state.ReceivedAlert {
	all := make([]state.ReceivedAlert, len(alerts))
	for i, a := range alerts {
		all[i] = state.ReceivedAlert{Trigger: a.Trigger, Fingerprint: a.Fingerprint, StartsAt: a.StartsAt, Detail: a.Text()}
	}
	return all
}
