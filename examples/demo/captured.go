package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/examples/storefront/load"
	"github.com/stranglerfig/migrator/internal/sleep"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// captureSection makes the migration file that of an application that knows nothing of the migration.
const captureSection = `capture:
  mode: only
  beat: 1s
`

// unaware is an application of plain SQL, with a ledger of what it has committed.
type unaware struct {
	mu      sync.Mutex
	names   map[int64]string // by product; "": it was deleted
	written int64            // transactions that were committed
	refused int64            // by legacy's fence
}

// capturedStory runs one scene after the other.
func (d *demo) capturedStory(ctx context.Context) error {
	for _, scene := range []func(context.Context) error{
		d.open, d.describe, d.write, d.startCapture, d.copyBehindBarrier, d.capturedToGrace, d.fenceUnaware,
	} {
		if err := scene(ctx); err != nil {
			return err
		}
	}
	return nil
}

// write starts the application: its statements are all that there is of it.
func (d *demo) write(ctx context.Context) (err error) {
	d.title("A shop of plain SQL, which knows nothing of the migration")
	if d.state, err = state.Open(ctx, d.stateURL); err != nil {
		return err
	}
	d.unaware = &unaware{names: map[int64]string{}}
	running, stop := context.WithCancel(ctx)
	var group errgroup.Group
	group.Go(func() error { return d.unaware.run(running, d.legacy, d.Products, d.Rate) })
	d.stopLoad = func() error {
		stop()
		return group.Wait()
	}
	return d.committed(ctx, 100)
}

// run writes until ctx ends: several changes of a product in a transaction, deletes and inserts again.
func (u *unaware) run(ctx context.Context, legacy string, products int, rate float64) error {
	db, err := pgx.Connect(ctx, legacy)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close(context.WithoutCancel(ctx)) }()
	for n := 0; sleep.For(ctx, time.Duration(float64(time.Second)/rate)) == nil; n++ {
		id, name := 1+rand.Int64N(int64(products)), fmt.Sprintf("written %d", n)
		if n%7 == 0 {
			name = ""
		}
		// Without ctx: what may be committed must be known.
		err := pgx.BeginFunc(context.WithoutCancel(ctx), db, func(tx pgx.Tx) error { return change(tx, id, name) })
		u.mu.Lock()
		switch {
		case err == nil:
			u.names[id], u.written = name, u.written+1
		case store.IsFenced(err):
			u.refused++
		default:
			u.mu.Unlock()
			return err
		}
		u.mu.Unlock()
	}
	return nil
}

// change gives a product a name; "": it deletes it.
func change(tx pgx.Tx, id int64, name string) error {
	ctx := context.Background()
	if name == "" {
		_, err := tx.Exec(ctx, "DELETE FROM products WHERE id = $1", id)
		return err
	}
	for _, sql := range []string{
		"INSERT INTO products (id, sku, name, price, currency) VALUES ($1, 'new', $2, 1, 'EUR') ON CONFLICT (id) DO UPDATE SET name = 'between, ' || excluded.name",
		"UPDATE products SET name = $2 WHERE id = $1",
	} {
		if _, err := tx.Exec(ctx, sql, id, name); err != nil {
			return err
		}
	}
	return nil
}

func (u *unaware) counts() (written, refused int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.written, u.refused
}

// committed waits for that many more transactions.
func (d *demo) committed(ctx context.Context, more int64) error {
	from, _ := d.unaware.counts()
	return d.await(ctx, fmt.Sprintf("%d transactions", more), func() (bool, error) {
		now, _ := d.unaware.counts()
		return now >= from+more, nil
	})
}

func (d *demo) startCapture(ctx context.Context) (err error) {
	d.title("shadow-write: the daemon captures the changes from PostgreSQL's log")
	if d.daemon, err = d.startDaemon(ctx); err != nil {
		return err
	}
	if err := d.migrator(ctx, exitDone, "phase", "advance"); err != nil {
		return err
	}
	return d.await(ctx, "a replication slot", func() (bool, error) {
		e, err := d.state.Snapshot(ctx, migrationName)
		return err == nil && e.Capture.Runs(e.Now) && e.Capture.Slot != "", err
	})
}

func (d *demo) copyBehindBarrier(ctx context.Context) error {
	d.title("The existing products are copied behind a barrier, beside live writes")
	if err := d.migrator(ctx, exitDone, "backfill", "run"); err != nil {
		return err
	}
	if err := d.committed(ctx, 100); err != nil {
		return err
	}
	return d.migrator(ctx, exitDone, "status")
}

func (d *demo) capturedToGrace(ctx context.Context) error {
	d.title("dual-read, cutover and grace: the shop is switched to Redis when the gates say so")
	return d.capturedTo(ctx, phases.Grace)
}

// capturedTo takes steps until the phase is reached. A closed gate is opened by its command, or by time.
func (d *demo) capturedTo(ctx context.Context, to phases.Phase) error {
	applied, err := d.state.Config(ctx, migrationName)
	if err != nil {
		return err
	}
	file, err := migration.Stored(applied.Config)
	if err != nil {
		return err
	}
	for {
		var next phases.Route
		var closed []phases.GateResult
		err := d.await(ctx, "the soak time", func() (bool, error) {
			e, err := d.state.Snapshot(ctx, migrationName)
			if err != nil {
				return false, err
			}
			if e.Status.Route.Phase == to {
				next = e.Status.Route
				return true, nil
			}
			if next, err = file.Settings().Next(e.Status.Route); err != nil {
				return false, err
			}
			closed = phases.Closed(phases.Gates(next, file.Settings(), e))
			return !slices.ContainsFunc(closed, func(g phases.GateResult) bool {
				return capturedRemedy(g.Gate) == nil
			}), nil
		})
		if err != nil {
			for _, g := range closed {
				err = fmt.Errorf("%w; %s: %s", err, g.Gate, g.Detail)
			}
			return err
		}
		switch e, err := d.state.Snapshot(ctx, migrationName); {
		case err != nil:
			return err
		case e.Status.Route.Phase == to:
			return nil
		}
		args := []string{"phase", "advance"}
		if len(closed) > 0 {
			args = capturedRemedy(closed[0].Gate)
		}
		code, err := d.migratorCode(ctx, args...)
		if err == nil && code != exitDone && code != exitNotYet {
			err = fmt.Errorf("migrator %s exited with %d", quoted(args), code)
		}
		if err != nil {
			return err
		}
	}
}

// capturedRemedy is the command that opens a closed gate; nil: time does.
func capturedRemedy(gate string) []string {
	if gate == phases.GateConsistency || gate == phases.GateTargetReads { // judged by full reconciles, where there are no instances
		return []string{"reconcile", "run", "--full"}
	}
	return remedies[gate]
}

func (d *demo) fenceUnaware(ctx context.Context) error {
	d.title("Legacy is fenced: the shop's last writers get an error, and Redis has everything")
	if err := d.committed(ctx, 50); err != nil {
		return err
	}
	if err := d.capturedTo(ctx, phases.Retain); err != nil {
		return err
	}
	err := d.await(ctx, "a refused write", func() (bool, error) {
		_, refused := d.unaware.counts()
		return refused > 0, nil
	})
	if err != nil {
		return err
	}
	for _, args := range [][]string{{"status"}, {"phase", "history", "--verify"}} {
		if err := d.migrator(ctx, exitDone, args...); err != nil {
			return err
		}
	}
	return nil
}

// finishCaptured compares each product that the shop has written with what Redis has.
func (d *demo) finishCaptured(ctx context.Context) (*Report, error) {
	d.title("Every product that was written, read from Redis")
	if err := d.stopLoad(); err != nil {
		return nil, err
	}
	r := &Report{}
	r.Acknowledged = d.unaware.written
	options, err := redis.ParseURL(d.redis.URL())
	if err != nil {
		return nil, err
	}
	client := redis.NewClient(options)
	defer func() { _ = client.Close() }()
	for _, id := range slices.Sorted(maps.Keys(d.unaware.names)) {
		got, err := client.HGet(ctx, fmt.Sprintf("product:%d", id), "name").Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return nil, err
		}
		r.Verified++
		if want := d.unaware.names[id]; got != want {
			r.Lost++
			r.Violations = append(r.Violations, fmt.Sprintf("product %d is %q, and was committed as %q", id, got, want))
		}
	}
	d.say("%s transactions, %s products; %s refused by the fence", load.Count(d.unaware.written), load.Count(r.Verified), load.Count(d.unaware.refused))
	return r, nil
}

// migrationText is the migration file.
func (d *demo) migrationText() []byte {
	if !d.Capture {
		return migrationFile
	}
	return []byte(strings.Replace(string(migrationFile), "phases:\n", captureSection+"phases:\n", 1))
}
