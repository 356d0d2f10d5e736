//go:build unix

package torture

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/phases"
)

const few = 8 // keys, for a fault by hand

// TestTortureFrozenReader makes one fault by hand. An instance that reads the target is frozen
// for longer than its lease; the fleet rolls back without it; a write misses the target; and
// the instance resumes with reads waiting for it. A correct instance answers from legacy. One
// with a stopped clock must be detected.
func TestTortureFrozenReader(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shape{policy: dual.RollBack, target: "redis"}, 2)
	moves := &operator{w: w}
	for i, broken := range []breakage{sound, stoppedClock} {
		t.Run(fmt.Sprintf("broken=%q", broken), func(t *testing.T) {
			w.instances[0].stop()
			w.instances[0].broken = broken
			w.deploy()
			moves.random = newRandom(0, uint64(i))
			if err := w.seeded(t.Context(), moves); err != nil {
				t.Fatal(err)
			}
			stale, err := w.frozenReader(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if (stale > 0) != (broken != sound) {
				t.Errorf("%d reads were wrong", stale)
			}
		})
	}
}

// seeded writes every key in grace. On a slow machine a write to the target may be late and
// roll the migration back: then try once more.
func (w *world) seeded(ctx context.Context, moves *operator) error {
	return await(ctx, 5*time.Minute, "all keys to be written in grace", func(ctx context.Context) error {
		moves.advanceTo(ctx, phases.Grace)
		w.history = &history{}
		c := newClient(w, 0, 0, few)
		for key := range few {
			if o := c.do(w.instances[1], put, key); o == nil || o.Outcome != done {
				return fmt.Errorf("%+v", o)
			}
		}
		st, err := w.state.Status(ctx, migrationName)
		if err == nil && st.Route.Phase != phases.Grace {
			err = fmt.Errorf("it is %s", st.Route)
		}
		return err
	})
}

// frozenReader returns how many of the sleeper's first reads were wrong.
func (w *world) frozenReader(ctx context.Context) (stale int, err error) {
	sleeper, awake := w.instances[0], w.instances[1]
	c := newClient(w, 0, 0, few)
	c.counter = 1000 // the first values are taken
	sleeper.mu.Lock()
	process := sleeper.cmd.Process
	sleeper.mu.Unlock()
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		return 0, err
	}
	w.events.add(sleeper.name, "frozen")
	// From before the rollback until it has answered, the sleeper can't reach the state: only its
	// clock can stop it from reading the target.
	sleeper.state.mu.Lock()
	defer sleeper.state.mu.Unlock()
	sleeper.state.Stop()
	defer func() { err = errors.Join(err, sleeper.state.listen(ctx)) }()
	if r := w.migrator(ctx, 0, 0, "phase rollback --yes --reason frozen"); r.code != 0 {
		return 0, fmt.Errorf("the rollback: %s", brief(r.output))
	}
	var group errgroup.Group
	away, heal := context.WithCancel(ctx)
	defer heal()
	group.Go(func() error {
		return awake.target.inject(away, toxic{"is cut off", "timeout", "", map[string]int{"timeout": 0}}, 10*time.Minute)
	})
	for key := range few {
		err := await(ctx, time.Minute, "a write that misses the target", func(context.Context) error {
			if o := c.do(awake, put, key); o == nil || o.Outcome != done || awake.stats().Journaled == 0 {
				return fmt.Errorf("%+v", o)
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	// The kernel accepts these connections; the sleeper handles them when it resumes.
	var reads errgroup.Group
	sent := make(chan struct{}, 2*few) // a client may send again
	for key := range few {
		reads.Go(func() error {
			reader := newClient(w, 0, 1+key, few)
			reader.sent = func() { sent <- struct{}{} }
			reader.do(sleeper, get, key)
			return nil
		})
	}
	for range few {
		select {
		case <-sent:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	w.events.add(sleeper.name, "resumes")
	if err := process.Signal(syscall.SIGCONT); err != nil {
		return 0, err
	}
	_ = reads.Wait()
	heal()
	if err := group.Wait(); err != nil {
		return 0, err
	}
	answers := 0
	for _, ops := range w.history.byKey() {
		stale += len(ledgerViolations(ops))
		for _, o := range ops {
			if o.Kind == get && o.Outcome == done {
				answers++
			}
		}
	}
	if answers == 0 {
		err = fmt.Errorf("the sleeper answered nothing")
	}
	return stale, err
}
