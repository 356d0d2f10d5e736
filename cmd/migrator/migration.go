package main

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/judge"
	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/migration"
)

// load reads the migration file.
func (c *cli) load() (*migration.Config, error) {
	path := c.settings.migrationFile()
	if path == "" {
		return nil, app.ErrNoFile
	}
	return loadFrom(path, "migrator --file products.yaml ..., where products.yaml is your migration file")
}

// loadFrom reads the migration file that a command was given. remedy is the hint if there
// is no such file.
func loadFrom(path, remedy string) (*migration.Config, error) {
	m, err := openstore.Load(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !errors.As(err, new(*migration.Error)):
		return nil, usage(err, remedy)
	case err != nil:
		return nil, codedError{err, exitUsage}
	}
	return m, nil
}

// openState connects to the state database.
func (c *cli) openState(ctx context.Context) (*state.Store, error) {
	return c.openStateBy(ctx, state.Open)
}

func (c *cli) openStateBy(ctx context.Context, open func(context.Context, string) (*state.Store, error)) (*state.Store, error) {
	url, err := c.settings.stateURL()
	if err != nil {
		return nil, err
	}
	store, err := open(ctx, url)
	if err == nil && store.HealthWarning() != "" && !c.warned {
		c.warned = true
		c.note("%s", store.HealthWarning())
	}
	return store, err
}

// name is the migration that a command is about: the argument, else the migration
// file's, else the only one that there is.
func (c *cli) name(ctx context.Context, store *state.Store, args []string) (string, error) {
	if len(args) > 0 {
		c.given.migration = args[0]
		return args[0], nil
	}
	if c.settings.migrationFile() != "" {
		m, err := c.load()
		if err != nil {
			return "", err
		}
		return m.Name, nil
	}
	all, err := store.List(ctx)
	if err != nil {
		return "", err
	}
	switch len(all) {
	case 0:
		return "", usageTry(hint.Hint{Do: hint.Apply}, "no migration has been applied")
	case 1:
		return all[0].Migration, nil
	}
	names := make([]string, len(all))
	for i, st := range all {
		names[i] = st.Migration
	}
	return "", usageTry(try("migrator status %s", names[0]), "name one migration: there are %s", strings.Join(names, ", "))
}

// withState runs f on the state and the migration that the command is about.
func (c *cli) withState(f func(ctx context.Context, store *state.Store, name string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		store, err := c.openState(ctx)
		if err != nil {
			return err
		}
		defer store.Close()
		name, err := c.name(ctx, store, args)
		if err != nil {
			return err
		}
		return f(ctx, store, name)
	}
}

// optionalName is cobra's validator for an optional migration name.
func optionalName(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usageTry(try("%s --help", cmd.CommandPath()), "%q takes one migration's name at most", cmd.CommandPath())
	}
	return nil
}

// checkApplied refuses a migration file that differs from the applied one: the operator
// would decide by other settings than those in force. Without a file it checks nothing.
func (c *cli) checkApplied(ctx context.Context, store *state.Store, name string) error {
	if c.settings.migrationFile() == "" {
		return nil
	}
	m, err := c.load()
	if err != nil || m.Name != name {
		return err
	}
	return app.CheckApplied(ctx, store, m, c.settings.migrationFile())
}

// openJob opens all that a command needs to move or compare records.
// asApplied: the migration file must be the one that is applied.
func (c *cli) openJob(ctx context.Context, asApplied bool) (*app.Job, error) {
	return c.openJobWith(ctx, asApplied, func(*migration.Config) {})
}

// openJobWith lets limit edit how the stores are reached. [mark-checked]: the target has the
// migration's mark.
func (c *cli) openJobWith(ctx context.Context, asApplied bool, limit func(*migration.Config)) (*app.Job, error) {
	j, err := c.openUncheckedWith(ctx, asApplied, limit)
	if err != nil {
		return nil, err
	}
	if err := j.CheckTarget(ctx); err != nil {
		j.Close()
		return nil, err
	}
	lost, err := j.WatchLegacy(ctx)
	if lost != "" {
		c.note("%s; the migration is unclean until a full reconcile is clean", lost)
	}
	if err == nil {
		// Without a daemon, commands alone compare legacy's counters.
		_, err = j.WatchBypass(ctx)
	}
	if err != nil {
		j.Close()
		return nil, err
	}
	return j, nil
}

// openUnchecked is openJob for a target that may lack the migration's mark.
func (c *cli) openUnchecked(ctx context.Context, asApplied bool) (*app.Job, error) {
	return c.openUncheckedWith(ctx, asApplied, func(*migration.Config) {})
}

func (c *cli) openUncheckedWith(ctx context.Context, asApplied bool, limit func(*migration.Config)) (*app.Job, error) {
	m, err := c.load()
	if err != nil {
		return nil, err
	}
	store, err := c.openState(ctx)
	if err != nil {
		return nil, err
	}
	var f app.InForce
	if _, err = store.Status(ctx, m.Name); err == nil && asApplied {
		if f, err = app.ReadInForce(ctx, store, m, c.settings.migrationFile()); err == nil {
			m = f.Config
		}
		if len(f.Unapplied) > 0 {
			c.note("%s has changes that are not applied, and have no effect before: %s", c.settings.migrationFile(), strings.Join(f.Unapplied, ", "))
		}
	}
	var j *app.Job
	if err == nil {
		limit(m)
		if j, err = app.OpenJob(ctx, store, m); err == nil {
			j.Stored = f.Stored
		}
	}
	if err != nil {
		store.Close()
		return nil, err
	}
	return j, nil
}

// controller moves the migration; j is nil where the stores are not open.
func (c *cli) controller(store *state.Store, m *migration.Config, j *app.Job) *control.Controller {
	report := func(s string) { c.note("%s", s) }
	ctl := app.NewController(store, m, report)
	if j != nil {
		ctl = j.Controller(m, report)
	}
	ctl.Judge = c.judge(store, m)
	return ctl
}

// judge evaluates by the applied configuration. The Prometheus is that of the migration
// file, since the state database does not keep it.
func (c *cli) judge(store *state.Store, applied *migration.Config) *judge.Judge {
	var reach migration.Prometheus
	if c.settings.migrationFile() != "" {
		if m, err := c.load(); err == nil && m.Name == applied.Name {
			reach = m.Prometheus
		}
	}
	return app.NewJudge(store, applied.Name, applied.Settings(), func() migration.Prometheus { return reach })
}
