package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/internal/daemon"
	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/reconciles"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/store"
)

// tools are the daemon's, for one migration: a job without its state, which stays
// open.
type tools struct {
	job
	log *slog.Logger
}

// openTools reads the description anew, which may have been changed and applied
// since the daemon began, and opens its stores. It must be the applied one.
func openTools(ctx context.Context, store *state.Store, k *kept, hash string, log *slog.Logger) (daemon.Tools, error) {
	m, err := openstore.Load(k.path)
	switch {
	case err != nil:
		return nil, err
	case m.Name != k.m.Name:
		return nil, fmt.Errorf("%s now describes %s, not %s", k.path, m.Name, k.m.Name)
	case m.Hash() != hash:
		return nil, fmt.Errorf("%s differs from what was applied (%s, applied %s); try: migrator apply", k.path, m.Hash()[:12], hash[:min(12, len(hash))])
	}
	t := &tools{job: job{m: m, state: store}, log: log}
	if err := t.openStores(ctx); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// RepairJournal asks the target first whether it is there: of one that is not, a
// repair would try every key.
func (t *tools) RepairJournal(ctx context.Context) (int64, error) {
	if err := t.reach(ctx); err != nil {
		return 0, fmt.Errorf("reach the target: %w", err)
	}
	r := reconcile.Reconciler{
		Legacy: t.legacy, Locker: t.legacy, Target: t.target, Ledger: reconciles.New(t.state.Pool(), t.m.Name),
		Options: reconcile.Options{NotAfter: time.Duration(t.m.Writing.NotAfter), Expires: t.m.ExpiryColumn()},
	}
	return r.RepairJournal(ctx)
}

func (t *tools) reach(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err := t.target.Now(limited)
	return err
}

func (t *tools) Resume(ctx context.Context) error {
	ctl := &control.Controller{
		State: t.state, Migration: t.m.Name, Settings: t.m.Settings(), Fence: t.legacy, Target: t.target,
		FenceBudget: fenceBudget(t.m), LockTimeout: lockTimeout(t.m),
		Report: func(s string) { t.log.Info(s) },
	}
	return ctl.Resume(ctx)
}

func (t *tools) Purge(ctx context.Context) (int64, error) {
	if p, ok := t.target.(store.Purger); ok {
		return p.Purge(ctx)
	}
	return 0, errors.ErrUnsupported
}

// Close leaves the state open.
func (t *tools) Close() {
	t.state = nil
	t.close()
}
