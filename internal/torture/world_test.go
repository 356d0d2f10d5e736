//go:build unix

package torture

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/internal/testenv"
	"github.com/stranglerfig/migrator/state"
)

const migration = "cells"

// world is everything that a run needs.
type world struct {
	t         *testing.T
	dir       string
	program   string // migrator
	file      string // the description
	story     *story
	history   *history
	spawner   spawner
	legacy    *testenv.PostgresServer
	fleet     *testenv.PostgresServer // the state database
	redis     *testenv.RedisServer
	state     *state.Store
	instances []*instance
	daemons   []*daemon // one leads, the other stands by

	mu   sync.Mutex
	dead map[string]bool // killed, so that an operator may give his word for it
}

// newWorld starts the servers, builds migrator, and applies the description.
func newWorld(t *testing.T, instances int) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), story: &story{}, history: &history{}, spawner: newSpawner(t.Context()), dead: map[string]bool{}}
	w.program = filepath.Join(w.dir, "migrator")
	var err error
	if w.file, err = filepath.Abs("testdata/cells.yaml"); err != nil {
		t.Fatal(err)
	}
	var group errgroup.Group
	group.Go(func() error {
		out, err := exec.CommandContext(t.Context(), "go", "build", "-o", w.program, "../../cmd/migrator").CombinedOutput()
		if err != nil {
			return fmt.Errorf("build migrator: %w\n%s", err, out)
		}
		return nil
	})
	// What a killed server has acknowledged it still has: Redis says so after fsync.
	w.legacy, w.fleet = testenv.Postgres(t), testenv.Postgres(t)
	w.redis = testenv.Redis(t, testenv.RedisOptions{AppendOnly: true, Config: []string{"appendfsync always"}})
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), w.legacy.URL())
	if err != nil {
		t.Fatal(err)
	}
	_, err = conn.Exec(t.Context(), tableDDL)
	_ = conn.Close(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.story.began = time.Now()
	for _, line := range []string{"init", "apply"} {
		if r := w.migrator(t.Context(), 0, 0, line); r.code != 0 {
			t.Fatalf("migrator %s: %d\n%s", line, r.code, r.output)
		}
	}
	if w.state, err = state.Open(t.Context(), w.fleet.URL()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.state.Close)
	for i := range instances {
		s, err := w.newInstance(string(rune('a' + i)))
		if err != nil {
			t.Fatal(err)
		}
		w.instances = append(w.instances, s)
	}
	return w
}

// environment is a child's: nothing of the user's own settings.
func environment(more ...string) []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "MIGRATOR_") && !strings.HasPrefix(v, "TORTURE_") && !strings.HasPrefix(v, "PG") {
			env = append(env, v)
		}
	}
	return append(env, more...)
}

func (w *world) died(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dead[name] = true
}

func (w *world) surelyDead(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dead[name]
}
