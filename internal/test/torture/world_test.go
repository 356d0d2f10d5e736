//go:build unix

package torture

import (
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/test/testenv"
)

const migrationName = "cells"

// world is the servers, processes and records of one run.
type world struct {
	t             *testing.T
	dir           string
	program       string // migrator
	shape         shape
	file          string // the migration file
	events        *eventLog
	history       *history
	spawner       spawner
	legacy        *machine
	fleet         *machine // the state database
	target        *machine
	state         *state.Store
	pool          *pgxpool.Pool // connected to the state database, without the wires
	readers       *pgfleet.Fleet
	instances     []*instance
	daemons       []*daemon // one leads, the other is a standby
	operatorWires []*wire   // the operator's: legacy, state, target
	times         times
	samples       []stateSample
	repairedAt    time.Duration // when the state showed everything repaired, at the end
	requestFor    time.Duration // how long one request of an application may take

	mu     sync.Mutex
	dead   map[string]time.Time // by instance: when it ended, so that the operator may confirm it
	traces map[string]string    // by instance: the file with its operations' routes
	codes  map[string]int       // commands by how they ended
}

// newWorld starts the servers, builds migrator, and applies the migration file.
func newWorld(t *testing.T, kind shape, instances int) *world {
	t.Helper()
	w := &world{
		t: t, dir: t.TempDir(), shape: kind, events: &eventLog{}, history: &history{}, spawner: newSpawner(t.Context()),
		dead: map[string]time.Time{}, traces: map[string]string{}, codes: map[string]int{}, times: times{missed: map[string]int{}}, requestFor: requestFor,
	}
	var err error
	if w.file, err = kind.writeMigrationFile(w.dir); err != nil {
		t.Fatal(err)
	}
	var group errgroup.Group
	group.Go(func() (err error) {
		w.program, err = program()
		return err
	})
	// A killed server keeps what it has acknowledged: Redis acknowledges after fsync.
	w.legacy = &machine{server: testenv.Postgres(t), name: "legacy"}
	w.fleet = &machine{server: testenv.Postgres(t), name: "the state database"}
	withTable := []*machine{w.legacy}
	if kind.target == "postgres" {
		w.target = &machine{server: testenv.Postgres(t), name: "the target"}
		withTable = append(withTable, w.target)
	} else {
		w.target = &machine{server: testenv.Redis(t, testenv.RedisOptions{AppendOnly: true, Config: []string{"appendfsync always"}}), name: "Redis"}
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, m := range withTable {
		conn, err := pgx.Connect(t.Context(), m.URL())
		if err != nil {
			t.Fatal(err)
		}
		_, err = conn.Exec(t.Context(), tableDDL)
		_ = conn.Close(t.Context())
		if err != nil {
			t.Fatal(err)
		}
	}
	if w.operatorWires, err = w.newWires("operator"); err != nil {
		t.Fatal(err)
	}
	w.events.began = time.Now()
	for _, line := range []string{"init", "apply"} {
		if r := w.migrator(t.Context(), 0, 0, line); r.code != 0 {
			t.Fatalf("migrator %s: %d\n%s", line, r.code, r.output)
		}
	}
	if w.state, err = state.Open(t.Context(), w.fleet.URL()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.state.Close)
	if w.pool, err = pgxpool.New(t.Context(), w.fleet.URL()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.pool.Close)
	w.readers = pgfleet.New(w.pool, migrationName, pgfleet.Options{})
	for i := range instances {
		s, err := w.newInstance(string(rune('a' + i)))
		if err != nil {
			t.Fatal(err)
		}
		w.instances = append(w.instances, s)
	}
	return w
}

// environment is a child's environment, without the user's own settings.
func environment(more ...string) []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "MIGRATOR_") && !strings.HasPrefix(v, "TORTURE_") && !strings.HasPrefix(v, "PG") {
			env = append(env, v)
		}
	}
	return append(env, more...)
}

// newWires returns the proxies of one process to legacy, the state and the target, in this
// order.
func (w *world) newWires(who string) (wires []*wire, err error) {
	for _, x := range []struct{ name, addr string }{{"legacy", w.legacy.Addr()}, {"state", w.fleet.Addr()}, {"target", w.target.Addr()}} {
		wire, err := newWire(who+" to "+x.name, x.addr)
		if err != nil {
			return nil, err
		}
		w.t.Cleanup(wire.Stop)
		wires = append(wires, wire)
	}
	return wires, nil
}

// urls returns the servers' URLs through the wires, in their order.
func (w *world) urls(wires []*wire) (urls [3]string, err error) {
	for i, m := range w.servers() {
		if urls[i], err = wires[i].through(m.URL()); err != nil {
			return urls, err
		}
	}
	return urls, nil
}

func (w *world) servers() []*machine { return []*machine{w.legacy, w.fleet, w.target} }

// recordDeath records when a process ended; the first call counts.
func (w *world) recordDeath(name string, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, known := w.dead[name]; !known {
		w.dead[name] = at
	}
}

func (w *world) confirmedDead(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, dead := w.dead[name]
	return dead
}

// stays returns all operations of all instances, which have ended.
func (w *world) stays() (all []*stay, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, path := range w.traces {
		stays, err := readTrace(path, name, w.events.began, w.dead[name])
		if err != nil && !os.IsNotExist(err) { // it ended before it opened the file
			return nil, err
		}
		all = append(all, stays...)
	}
	return all, nil
}
