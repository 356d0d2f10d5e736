//go:build unix

package torture

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/phases"
)

// TestTortureFindsEarlyAcknowledgements: while a write of one instance waits in legacy for a
// lock, the migration is rolled back as far as possible. If that instance acknowledges epochs
// before its operations have drained, the other instance runs operations under legacy beside a
// write under dual-read. The check of the routes must detect that, and report nothing for a
// correct instance.
func TestTortureFindsEarlyAcknowledgements(t *testing.T) {
	t.Parallel()
	onlyLong(t)
	w := newWorld(t, shape{policy: dual.RollBack, target: "redis"}, 2)
	w.requestFor = 2 * time.Minute // the write waits for as long as the rollback takes
	for _, broken := range []breakage{sound, earlyAck} {
		t.Run(fmt.Sprintf("broken=%q", broken), func(t *testing.T) {
			for _, s := range w.instances {
				s.stop()
			}
			w.traces = map[string]string{}
			w.instances[0].broken = broken
			w.deploy()
			(&operator{w: w, random: newRandom(0, 0)}).advanceTo(t.Context(), phases.DualRead)
			if err := w.overtake(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, s := range w.instances {
				s.stop()
			}
			entries, err := w.addHistory(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			moves, err := movesOf(entries)
			if err != nil {
				t.Fatal(err)
			}
			stays, err := w.stays()
			if err != nil {
				t.Fatal(err)
			}
			met := together(stays, moves)
			if (len(met.Violations) > 0) != (broken == earlyAck) || met.Operations < 20 {
				t.Errorf("of %d operations: %q", met.Operations, met.Violations)
			}
		})
	}
}

// overtake rolls back to legacy while a write of the first instance is in flight.
func (w *world) overtake(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	c := newClient(w, 0, 0, 1)
	conn, err := pgx.Connect(ctx, w.legacy.URL())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `LOCK TABLE cells IN EXCLUSIVE MODE`); err != nil { // reads continue
		return err
	}
	written := make(chan *operation, 1)
	go func() { written <- newClient(w, 0, 1, 1).do(w.instances[0], put, 0) }()
	err = await(ctx, time.Minute, "the write to wait for the table", func(ctx context.Context) error {
		waits := false
		err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'cells'::regclass AND NOT granted)`).Scan(&waits)
		if err == nil && !waits {
			err = errors.New("it has not come")
		}
		return err
	})
	if err != nil {
		return err
	}
	ended := make(chan ran, 1)
	go func() {
		ended <- w.migrator(ctx, 0, 0, "phase rollback --yes --to legacy --settle 1500ms --reason early")
	}()
	for running := true; running; {
		select {
		case <-ended: // the migration has reached legacy, or the rollback was blocked, as it should be
			running = false
		default:
			c.do(w.instances[1], get, 0)
			pause(ctx, 5*time.Millisecond)
		}
	}
	for range 20 {
		c.do(w.instances[1], get, 0)
	}
	if err := tx.Rollback(ctx); err != nil {
		return err
	}
	if o := <-written; o == nil {
		return fmt.Errorf("the first instance does not serve")
	}
	return nil
}
