package daemon

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/stranglerfig/migrator/internal/api"
	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/page"
	"github.com/stranglerfig/migrator/internal/server"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/metrics"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
)

// handler serves HTTP for all migrations of the daemon, and with the directory for all of the state database.
func (d *Daemon) handler(ctx context.Context, directory *server.Directory, shown *page.Page) (_ http.Handler, closeAPI func(), err error) {
	var names []string
	for _, m := range d.Migrations {
		names = append(names, m.Config.Name)
	}
	scraped, err := metrics.Handler(&metrics.Collector{
		Migrations: names, Log: d.Log,
		Leads: func(name string) bool { return d.named(name).leads.Load() },
		Read: func(ctx context.Context, name string) (metrics.Reading, error) {
			return readMetrics(ctx, d.State, name)
		},
	})
	if err != nil {
		return nil, nil, err
	}
	served := &server.API{
		Ping: d.State.Pool().Ping, Metrics: scraped, Log: d.Log, Role: d.role, Unled: d.unled,
		Status: func(ctx context.Context) (any, error) { return d.status(ctx, names) },
	}
	if d.AlertsToken != "" {
		served.Alerts = d.alerts()
	}
	if d.Flags != nil {
		served.Flags = &server.Flags{Directory: directory, Origins: d.Flags.Origins, Rate: d.Flags.Rate}
	}
	closeAPI = func() {}
	if d.API != nil {
		calls, err := d.State.ForTokens(ctx)
		if err != nil {
			return nil, nil, err
		}
		operations := &api.API{State: calls, Try: d.API.Try, File: d.file}
		served.Endpoints = &server.Endpoints{
			Directory: directory, List: operations.List(), Rate: d.API.Rate, Most: int(calls.Pool().Config().MaxConns),
			WithToken: statedb.WithToken, Explain: operations.Explain, Log: d.Log,
		}
		closeAPI = func() {
			served.Endpoints.Wait() // a move that is ending needs its connections
			calls.Close()
		}
	}
	if shown != nil {
		served.Also = append(served.Also, shown)
	}
	return served.Handler(), closeAPI, nil
}

// page shows all migrations of the state database, whichever this daemon leads; nil: it serves none.
func (d *Daemon) page() *page.Page {
	if d.Page == nil {
		return nil
	}
	return &page.Page{State: d.State, Remedy: d.Page.Remedy, Log: d.Log, File: d.file}
}

// file is the migration's file, as it is now, and its path; nil: this daemon does not serve it.
func (d *Daemon) file(name string) (*migration.Config, string) {
	m := d.named(name)
	if m == nil {
		return nil, ""
	}
	return m.now(), m.File
}

// directory is of the routes of all migrations of the state database, whichever this daemon leads, and of its tokens;
// nil: the daemon serves no caller that has one.
func (d *Daemon) directory() *server.Directory {
	if d.Flags == nil && d.API == nil {
		return nil
	}
	return &server.Directory{
		Log: d.Log, Notified: d.State.Notified,
		Read: func(ctx context.Context) (server.Published, error) { return api.Published(ctx, d.State) },
	}
}

func (d *Daemon) role() string {
	if slices.ContainsFunc(d.Migrations, func(m *Migration) bool { return m.leads.Load() }) {
		return "leader"
	}
	return "standby"
}

// unled returns the migrations that no process has led for a minute.
func (d *Daemon) unled() (names []string) {
	for _, m := range d.Migrations {
		if m.unled.Load() {
			names = append(names, m.Config.Name)
		}
	}
	return names
}

// status leaves out migrations that are not applied yet.
func (d *Daemon) status(ctx context.Context, names []string) ([]app.Status, error) {
	found := []app.Status{}
	for _, name := range names {
		s, err := app.ReadStatus(ctx, d.State, name)
		switch {
		case errors.Is(err, statedb.ErrUnknownMigration):
		case err != nil:
			return nil, err
		default:
			found = append(found, s)
		}
	}
	return found, nil
}

// readMetrics reads one migration for a scrape.
func readMetrics(ctx context.Context, store *state.Store, name string) (r metrics.Reading, err error) {
	r.Snapshot, err = store.Snapshot(ctx, name)
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
	m, err := app.Applied(ctx, store, name)
	if err != nil {
		return r, err
	}
	r.Settings = m.Settings()
	covered, err := app.Coverage(ctx, store, m)
	if err != nil {
		return r, err
	}
	r.Coverage = covered.Clean
	if d := r.Snapshot.Drill; d != nil {
		r.LastDrill = d.Passed
	}
	if r.Led, err = store.Led(ctx, state.LeaderName(name)); err != nil {
		return r, err
	}
	checks, _, err := store.Checks(ctx, name)
	if err != nil {
		return r, err
	}
	for _, c := range checks {
		r.Checks = append(r.Checks, metrics.Check{Name: c.Name, Result: string(c.Result), Worse: c.Worse()})
		if c.Looked.After(r.Checked) {
			r.Checked = c.Looked
		}
	}
	waiting, err := store.WaitingMessages(ctx, name)
	if err != nil {
		return r, err
	}
	r.Waiting, r.WaitingFrom = waiting.Messages, waiting.Oldest
	jobs, err := app.LongJobs(ctx, store, r.Snapshot)
	if err != nil {
		return r, err
	}
	for _, job := range jobs {
		r.Jobs = append(r.Jobs, metrics.Job{Name: job.Job, State: job.State, Share: job.Share, Due: job.Due})
	}
	r.LastClean, err = store.LastClean(ctx, name)
	return r, err
}
