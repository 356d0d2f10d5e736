//go:build unix

package torture

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// quiesce ends a run: everything runs again, the migration is in a phase that writes both
// stores (or in legacy), and the fleet has acknowledged its route.
func (w *world) quiesce(ctx context.Context) (phases.Phase, error) {
	for _, m := range w.servers() {
		_ = m.Resume()
	}
	for _, s := range w.instances {
		if err := await(ctx, 3*time.Minute, "instance "+s.place+" to run", s.run); err != nil {
			return "", err
		}
	}
	var at phases.Phase
	err := await(ctx, 3*time.Minute, "the migration to be stable", func(ctx context.Context) error {
		e, err := w.state.Snapshot(ctx, migrationName)
		if err != nil {
			return err
		}
		for _, name := range e.Fleet.Lapsed {
			if w.confirmedDead(name) {
				w.migrator(ctx, 0, 0, "fleet evict "+name+" --reason killed")
			}
		}
		switch at = e.Status.Route.Phase; {
		case at.Passing() || at == phases.Retain || e.Status.Attempt != "":
			r := w.migrator(ctx, 0, 0, "phase rollback --yes --reason rest")
			return fmt.Errorf("it was %s, and the rollback: %s", at, brief(r.output))
		case !e.Fleet.Settled():
			return fmt.Errorf("%d instances behind, lapsed: %v", e.Fleet.Behind, e.Fleet.Lapsed)
		}
		return nil
	})
	return at, err
}

// verifyFinalState checks the final state, when there are no more writes: both stores are
// repaired and equal, and every instance reads every key. Those reads are part of the history.
func (w *world) verifyFinalState(ctx context.Context, at phases.Phase, target store.Target, readers *client) error {
	if at != phases.Legacy {
		repaired := func(ctx context.Context) error {
			for _, line := range []string{"reconcile run --full --repair", "reconcile run --full"} {
				if r := w.migrator(ctx, 0, 0, line); r.code != 0 && line == "reconcile run --full" {
					return fmt.Errorf("migrator %s: exit %d: %s", line, r.code, brief(r.output))
				}
			}
			return nil
		}
		if err := await(ctx, 2*time.Minute, "a clean reconcile", repaired); err != nil {
			return err
		}
		differ, err := w.compare(ctx, target, allKeys(readers.keys))
		if err != nil || len(differ) > 0 {
			return errors.Join(err, fmt.Errorf("after a clean reconcile in %s %d keys differ: %v", at, len(differ), differ))
		}
	}
	w.repairedAt = w.events.now()
	for _, s := range w.instances {
		for key := range readers.keys {
			err := await(ctx, time.Minute, "a last read", func(context.Context) error {
				o := readers.do(s, get, key)
				if o == nil || o.Outcome != done {
					return fmt.Errorf("k%d from %s: %+v", key, s.place, o)
				}
				o.Final = true
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	_, err := w.state.VerifyHistory(ctx, migrationName)
	return err
}

// addHistory adds the migration's own history to the event log, and returns it.
func (w *world) addHistory(ctx context.Context) ([]state.Entry, error) {
	entries, err := w.state.History(ctx, migrationName, 100000)
	for _, e := range entries {
		w.events.addAt(e.At.Sub(w.events.began), "epoch", "%s: %s@%d to %s@%d: %s", e.Cause, e.From, e.From.Epoch, e.To, e.To.Epoch, e.Reason)
	}
	return entries, err
}
