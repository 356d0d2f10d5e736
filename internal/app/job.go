// Package app assembles a migration: its open stores and state, and the controller, judge,
// reconciler and runbook executor over them. The command line and the daemon share it.
// Nothing here prints or parses a flag.
package app

import (
	"context"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// Job is a migration with its state and both stores open.
type Job struct {
	Config *migration.Config
	State  *state.Store
	Legacy store.Legacy
	Target store.Target
	Schema *record.Schema
	Stored string // InForce.Stored, where Config is that

	beaten store.Mark // with the last beat of whole
}

// OpenJob opens both stores of a migration. The caller closes the job. If OpenJob fails, the
// state stays open.
func OpenJob(ctx context.Context, st *state.Store, m *migration.Config) (*Job, error) {
	// [state-server]: before what the job finds counts as evidence.
	if _, err := st.NoteServer(ctx); err != nil {
		return nil, err
	}
	// [columns-applied]: whatever the table has by now.
	m, err := appliedColumns(ctx, st, m)
	if err != nil {
		return nil, err
	}
	j := &Job{Config: m, State: st}
	err = j.open(ctx)
	if err != nil {
		j.CloseStores()
		return nil, err
	}
	return j, nil
}

func (j *Job) open(ctx context.Context) (err error) {
	if j.Legacy, err = j.Config.OpenLegacy(ctx); err != nil {
		return err
	}
	j.Schema = j.Legacy.Schema()
	j.Target, err = j.Config.OpenTarget(ctx, j.Schema)
	return err
}

// ReachTarget checks that the target answers, before a run begins that would otherwise be
// recorded as stopped.
func (j *Job) ReachTarget(ctx context.Context) error {
	if _, err := j.Target.Now(ctx); err != nil {
		return hint.Errorf(hint.Hint{Do: hint.Doctor}, "the target does not answer: %w", err)
	}
	return nil
}

// CloseStores closes both stores and leaves the state open.
func (j *Job) CloseStores() {
	if j.Target != nil {
		_ = j.Target.Close()
	}
	if j.Legacy != nil {
		j.Legacy.Close()
	}
}

// Close closes both stores and the state.
func (j *Job) Close() {
	j.CloseStores()
	j.State.Close()
}

// Controller returns one that moves the migration by the applied settings.
func (j *Job) Controller(applied *migration.Config, report func(string)) *control.Controller {
	c := NewController(j.State, applied, report)
	c.Legacy, c.Target, c.Whole = j.Legacy, j.Target, j.whole
	if at := j.Schema.Index(applied.ExpiryColumn()); at >= 0 {
		c.Expired = func(r record.Record) bool {
			then, ok := reconcile.ExpiryOf(r[at])
			return ok && !then.After(time.Now())
		}
	}
	return c
}

// NewController moves a migration as far as that needs neither store: see OpenMoves.
// It looks at no gates unless it is given a Judge.
func NewController(st *state.Store, applied *migration.Config, report func(string)) *control.Controller {
	return &control.Controller{
		State: st, Migration: applied.Name, Settings: applied.Settings(),
		FenceBudget: time.Duration(applied.Writing.FenceBudget), LockTimeout: LockTimeout(applied),
		NotAfter: time.Duration(applied.Writing.NotAfter),
		Report:   report, Away: state.Away,
	}
}

// LockTimeout returns how long to wait for a lock on legacy's table.
func LockTimeout(m *migration.Config) time.Duration { return time.Duration(m.Backfill.LockTimeout) }

// Applied is the migration file as it was applied, without URLs; the file may have been
// edited since, and evidence is bound to what was applied.
func Applied(ctx context.Context, st *state.Store, name string) (*migration.Config, error) {
	applied, err := st.Config(ctx, name)
	if err != nil {
		return nil, err
	}
	m, err := openstore.Stored(applied.Config)
	if err != nil {
		return nil, fmt.Errorf("the applied migration file of %s can't be read: %w", name, err)
	}
	return withColumns(m, applied)
}

// InForce is the applied migration file, with what the state does not store from the file at hand:
// URLs, legacy.standbys, prometheus, webhooks, runbook.
type InForce struct {
	Config    *migration.Config
	Stored    string   // phases.Status.StoredHash of the applied file
	Unapplied []string // keys in which the file at hand differs: they have no effect
}

// ReadInForce reads the applied migration file. A DriftError if m, read from file, has another
// config hash.
func ReadInForce(ctx context.Context, st *state.Store, m *migration.Config, file string) (f InForce, err error) {
	stored, err := st.Config(ctx, m.Name)
	if err != nil {
		return f, err
	}
	if m, err = withColumns(m, stored); err != nil {
		return f, err
	}
	if err := checkHash(m, file, stored.ConfigHash); err != nil {
		return f, err
	}
	f.Stored = stored.StoredHash()
	if f.Config, err = openstore.Stored(stored.Config); err != nil {
		return f, fmt.Errorf("the applied migration file of %s can't be read: %w", m.Name, err)
	}
	public, err := m.Public()
	if err != nil {
		return f, err
	}
	changes, err := state.ChangesOf(stored.Config, public)
	for _, c := range changes {
		f.Unapplied = append(f.Unapplied, c.Key)
	}
	// Sides of one config hash differ in what is not stored alone.
	f.Config.Legacy, f.Config.Target, f.Config.Schema = m.Legacy, m.Target, m.Schema
	f.Config.Prometheus, f.Config.Webhooks, f.Config.Runbook = m.Prometheus, m.Webhooks, m.Runbook
	return f, err
}

// CheckApplied returns a DriftError if the migration file m, read from file, is not the
// applied one.
func CheckApplied(ctx context.Context, st *state.Store, m *migration.Config, file string) error {
	applied, err := st.Config(ctx, m.Name)
	if err != nil {
		return err
	}
	if m, err = withColumns(m, applied); err != nil {
		return err
	}
	return checkHash(m, file, applied.ConfigHash)
}

func checkHash(m *migration.Config, file, applied string) error {
	if m.Hash() != applied {
		return &DriftError{File: file, Hash: m.Hash(), Applied: applied}
	}
	return nil
}

// LoadInForce rereads the file of the migration name, and is ReadInForce of it.
func LoadInForce(ctx context.Context, st *state.Store, file, name string) (*migration.Config, error) {
	m, err := openstore.Load(file)
	switch {
	case err != nil:
		return nil, err
	case m.Name != name:
		return nil, fmt.Errorf("%s is now the file of %s, not of %s", file, m.Name, name)
	}
	f, err := ReadInForce(ctx, st, m, file)
	return f.Config, err
}
