package state_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/dual/telemetry"
)

// TestAnInstanceAtRestHasOneSession: the one that listens serves its other calls too. What an instance
// opened beside it while it was busy closes soon.
func TestAnInstanceAtRestHasOneSession(t *testing.T) {
	t.Parallel()
	const instances = 20
	s, url := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	var work, busy sync.WaitGroup
	var heard [instances]chan int64
	defer work.Wait()
	defer cancel()
	for i := range instances {
		f, err := pgfleet.Open(ctx, url, testMigration, pgfleet.Options{Lease: time.Minute})
		must(t, err)
		t.Cleanup(f.Close)
		g, err := f.Join(ctx, dual.Identity{Instance: fmt.Sprint("instance ", i)})
		must(t, err)
		heard[i] = make(chan int64, 100)
		work.Go(func() { _ = f.Notifications(ctx, func(e int64) { heard[i] <- e }) })
		<-heard[i]
		for range 3 {
			busy.Go(func() {
				if err := f.RollBack(ctx, g.Route.Epoch, "none is needed"); err != nil {
					t.Error(err)
				}
			})
		}
		every := func(do func() error) {
			work.Go(func() {
				tick := time.NewTicker(2 * time.Second)
				defer tick.Stop()
				for {
					if err := do(); err != nil && ctx.Err() == nil {
						t.Error(err)
					}
					select {
					case <-tick.C:
					case <-ctx.Done():
						return
					}
				}
			})
		}
		every(func() error { _, err := f.Renew(ctx, g.Lease, g.Route.Epoch); return err })
		every(func() error { _, err := f.Fault(ctx, g.Lease, dual.FaultReport{}); return err })
		every(func() error { return f.Observe(ctx, g.Lease, []telemetry.Window{}) })
	}
	busy.Wait()
	var most, now int
	for now = instances + 1; now > instances; most = max(most, now) {
		select {
		case <-time.After(100 * time.Millisecond):
		case <-t.Context().Done():
		}
		must(t, s.Pool().QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
			AND backend_type = 'client backend' AND pid <> pg_backend_pid()`).Scan(&now))
	}
	t.Logf("%d sessions at most, %d at rest", most, now)
	walk(t, s, nil, shadowWrite)
	for i, h := range heard {
		if e := <-h; e != 2 {
			t.Errorf("instance %d heard of epoch %d", i, e)
		}
	}
}

// TestAnInstanceThatStartsHasOneSession: the one that it joined by goes on to listen. A fleet that starts at once needs no
// more sessions than later.
func TestAnInstanceThatStartsHasOneSession(t *testing.T) {
	t.Parallel()
	s, url := open(t)
	ctx := t.Context()
	f, err := pgfleet.Open(ctx, url, testMigration, pgfleet.Options{})
	must(t, err)
	t.Cleanup(f.Close)
	_, err = f.Join(ctx, dual.Identity{Instance: "a"})
	must(t, err)
	sessions := func() (pids string) {
		must(t, s.Pool().QueryRow(ctx, `SELECT coalesce(string_agg(pid::text, ' '), '') FROM pg_stat_activity WHERE datname = current_database()
			AND backend_type = 'client backend' AND pid <> pg_backend_pid()`).Scan(&pids))
		return pids
	}
	joined := sessions()
	heard := make(chan int64, 100)
	go func() { _ = f.Notifications(ctx, func(e int64) { heard <- e }) }()
	<-heard
	if now := sessions(); now != joined || joined == "" {
		t.Errorf("sessions %q, and %q when it had joined", now, joined)
	}
}
