package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// load reads the migration's description.
func (c *cli) load() (*migration.Config, error) {
	path := c.settings.descriptionFile()
	if path == "" {
		return nil, coded{errNoDescription, exitUsage}
	}
	return loadFrom(path, "migrator --file products.yaml ..., where products.yaml is the description that you wrote")
}

// loadFrom reads a description that a command was given, and says what to try where
// there is no such file.
func loadFrom(path, try string) (*migration.Config, error) {
	m, err := openstore.Load(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !errors.As(err, new(*migration.Error)):
		return nil, usage(err, try)
	case err != nil:
		return nil, coded{err, exitUsage}
	}
	return m, nil
}

// openState connects to the state database.
func (c *cli) openState(ctx context.Context) (*state.Store, error) {
	url, err := c.settings.stateURL()
	if err != nil {
		return nil, err
	}
	store, err := state.Open(ctx, url)
	if err == nil && store.Trouble() != "" && !c.warned {
		c.warned = true
		c.note("%s", store.Trouble())
	}
	return store, err
}

// name finds which migration a command is about: the argument, else the
// description's, else the only one that there is.
func (c *cli) name(ctx context.Context, store *state.Store, args []string) (string, error) {
	if len(args) > 0 {
		c.given.migration = args[0]
		return args[0], nil
	}
	if c.settings.descriptionFile() != "" {
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
		return "", usagef("no migration has been applied; try: migrator apply --file migration.yaml")
	case 1:
		return all[0].Migration, nil
	}
	names := make([]string, len(all))
	for i, st := range all {
		names[i] = st.Migration
	}
	return "", usagef("which migration? There are %s; try: migrator status %s", strings.Join(names, ", "), names[0])
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

// maybeName is cobra's validator for an optional migration name.
func maybeName(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usagef("%q takes one migration's name at most; try: %s --help", cmd.CommandPath(), cmd.CommandPath())
	}
	return nil
}

// appliedSettings are the phases' settings as they were applied; the file may
// have been edited since, and evidence is bound to what was applied.
func appliedSettings(ctx context.Context, store *state.Store, name string) (*migration.Config, error) {
	applied, err := store.Config(ctx, name)
	if err != nil {
		return nil, err
	}
	m, err := openstore.Stored(applied.Config)
	if err != nil {
		return nil, fmt.Errorf("the applied description of %s can't be read: %w", name, err)
	}
	return m, nil
}

// job is a migration with its state and both stores open.
type job struct {
	m      *migration.Config
	state  *state.Store
	legacy store.Legacy
	target store.Target
	schema *record.Schema
}

// asApplied refuses to go on where the description that is given is not the one
// that is applied: a decision would rest on another than the one at hand.
func (c *cli) asApplied(ctx context.Context, store *state.Store, name string) error {
	if c.settings.descriptionFile() == "" {
		return nil
	}
	m, err := c.load()
	if err != nil || m.Name != name {
		return err
	}
	standing, err := store.Standing(ctx, name)
	if err == nil && standing.ConfigHash != m.Hash() {
		err = usagef("%s differs from what was applied (%s, applied %s); try: migrator apply", c.settings.descriptionFile(), m.Hash()[:12], standing.ConfigHash[:min(12, len(standing.ConfigHash))])
	}
	return err
}

// openJob opens all that a command needs that moves or compares records.
// asApplied: the description must be the one that is applied.
func (c *cli) openJob(ctx context.Context, asApplied bool) (*job, error) {
	return c.openJobWith(ctx, asApplied, func(*migration.Config) {})
}

// openJobWith lets limit edit how the stores are reached.
func (c *cli) openJobWith(ctx context.Context, asApplied bool, limit func(*migration.Config)) (*job, error) {
	m, err := c.load()
	if err != nil {
		return nil, err
	}
	limit(m)
	j := &job{m: m}
	if j.state, err = c.openState(ctx); err != nil {
		return nil, err
	}
	if _, err = j.state.Standing(ctx, m.Name); err == nil && asApplied {
		err = c.asApplied(ctx, j.state, m.Name)
	}
	if err == nil {
		err = j.openStores(ctx)
	}
	if err != nil {
		j.close()
		return nil, err
	}
	return j, nil
}

func (j *job) openStores(ctx context.Context) (err error) {
	if j.legacy, err = j.m.OpenLegacy(ctx); err != nil {
		return err
	}
	j.schema = j.legacy.Schema()
	j.target, err = j.m.OpenTarget(ctx, j.schema)
	return err
}

// reachTarget asks the target for its time, before a job begins that would be kept as stopped.
func (j *job) reachTarget(ctx context.Context) error {
	if _, err := j.target.Now(ctx); err != nil {
		return fmt.Errorf("the target does not answer: %w; try: migrator doctor", err)
	}
	return nil
}

func (j *job) close() {
	if j.target != nil {
		_ = j.target.Close()
	}
	if j.legacy != nil {
		j.legacy.Close()
	}
	if j.state != nil {
		j.state.Close()
	}
}

// controller moves the migration; fence and target only where they are open.
func (c *cli) controller(store *state.Store, m *migration.Config, j *job) *control.Controller {
	ctl := &control.Controller{
		State: store, Migration: m.Name, Settings: m.Settings(),
		Judge:       c.judge(store, m),
		FenceBudget: fenceBudget(m), LockTimeout: lockTimeout(m),
		Report: func(s string) { c.note("%s", s) },
	}
	if j != nil {
		ctl.Fence, ctl.Target = j.legacy, j.target
	}
	return ctl
}

// needsStores tells whether a move from this route touches the stores: the fence
// and the way back from it do.
func needsStores(st phases.Standing, forward bool) bool {
	return st.Attempt != "" || st.Route.Phase.Passing() || forward && st.Route.Phase == phases.Grace
}
