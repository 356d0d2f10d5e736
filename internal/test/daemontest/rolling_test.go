package daemontest

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/dual/kit"
	"github.com/stranglerfig/migrator/examples/sessions"
	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/migration"
)

const (
	rollingInstances = 200
	rollingWorkers   = 16
	rollingTokens    = 40 // of each worker, which alone writes them
)

// TestTortureRollingFleet: 200 instances, one after the other replaced, as a deployment does, while the migration goes
// to grace, and once back. No operation fails, no read is wrong, each step settles, and an
// instance has three sessions of the state database at most.
func TestTortureRollingFleet(t *testing.T) {
	if os.Getenv("MIGRATOR_TORTURE") == "" {
		t.Skip("MIGRATOR_TORTURE is not set")
	}
	ctx := t.Context()
	server := testenv.Postgres(t, testenv.PostgresOptions{Settings: map[string]string{"max_connections": "1500", "shared_buffers": "256MB"}})
	o := newOperator(t, "sessions", "  table: sessions\n", "  key: session:{token}\n", `environment: staging
phases: {shadow_write: {for: 0s}, dual_read: {steps: [50, 100], over: 0s}, cutover: {steps: [50, 100], over: 0s}, grace: {for: 0s}, approval: {for: []}}
gates: {off: a test}
fleet: {lease: 30s, renew: 10s}
`)
	for _, database := range []*string{&o.Legacy, &o.State} {
		url, drop, err := server.CreateDatabase(ctx)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(drop)
		*database = testenv.Patient(url)
	}
	o.Write("legacy.url", o.Legacy)
	o.Write("settings.yaml", "file: "+o.Path("migration.yaml")+"\nstate_url: "+o.State+"\n")
	o.SQL(o.Legacy, sessions.Schema)
	o.Does("init", "apply")
	m, err := migration.Load(o.Path("migration.yaml"), openstore.Kinds()...)
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("postgres", o.Legacy+"&application_name=shop")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	db.SetMaxOpenConns(2 * rollingWorkers)
	f := &rollingFleet{t: t, m: m, db: db, state: o.State}
	t.Cleanup(f.close)
	var starting sync.WaitGroup
	for i := range rollingInstances {
		starting.Go(func() { f.replace(ctx, i) })
	}
	starting.Wait()
	daemon := o.Start(t, "serve", "--listen", "127.0.0.1:0")

	working, stop := context.WithCancel(ctx)
	var work sync.WaitGroup
	for w := range rollingWorkers {
		work.Go(func() { f.work(working, w) })
	}
	var replaced atomic.Int64
	for r := range 4 { // four at a time, as a deployment's surge
		work.Go(func() {
			for i := r; working.Err() == nil; i = (i + 4) % rollingInstances {
				f.replace(ctx, i)
				replaced.Add(1)
			}
		})
	}
	steps := func(lines ...string) {
		t.Helper()
		for _, line := range lines {
			began := time.Now()
			o.Does(line)
			t.Logf("%-40s %5.1f s, %d instances replaced, %d operations", line, time.Since(began).Seconds(), replaced.Load(), f.operations.Load())
		}
	}
	steps("phase advance", "backfill run", "phase advance", "phase advance", "reconcile run --full", "phase advance", "phase advance",
		"rollback --to dual-read --yes --reason again", "reconcile run --full", "phase advance", "phase advance", "reconcile run --full", "phase advance")
	stop()
	work.Wait()

	testenv.Await(t, "all instances are settled", func() bool {
		_, out, _ := o.Try("status", "-o", "json")
		var status []struct {
			Settled bool `json:"settled"`
			Fleet   struct {
				Live int `json:"live"`
			} `json:"fleet"`
		}
		if err := json.Unmarshal([]byte(out), &status); err != nil {
			t.Fatal(err, out)
		}
		return len(status) == 1 && status[0].Settled && status[0].Fleet.Live == rollingInstances
	})
	if f.wrong.Load() > 0 || f.failed.Load() > 0 || f.operations.Load() < 1000 {
		t.Errorf("%d operations, %d failed, %d reads wrong", f.operations.Load(), f.failed.Load(), f.wrong.Load())
	}
	var n int
	name, _, _ := strings.Cut(o.State[strings.LastIndex(o.State, "/")+1:], "?")
	if err := db.QueryRowContext(ctx, `SELECT count(*) FROM pg_stat_activity WHERE datname = $1`, name).Scan(&n); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d sessions of the state database", n)
	if n > 3*rollingInstances+20 { // and the daemon's; one listens, and a pool keeps for a while what it opened
		t.Error("an instance has more than three sessions of the state database")
	}
	if log := daemon.Log.String(); strings.Contains(log, `"level":"ERROR"`) {
		t.Errorf("the daemon's log has errors:\n%s", log)
	}
}

// rollingFleet is the instances, and what they have acknowledged.
type rollingFleet struct {
	t     *testing.T
	m     *migration.Config
	db    *sql.DB
	state string

	instances                 [rollingInstances]rollingInstance
	operations, failed, wrong atomic.Int64
}

// rollingInstance is one place of the fleet. Its lock is shared by operations, and a replacement has it
// alone for the moment in which it takes traffic away.
type rollingInstance struct {
	mu    sync.RWMutex
	store *sessions.Store
	stop  context.CancelFunc
	ended chan error
}

// replace starts an instance, gives it the traffic of the one before, and then ends that.
func (f *rollingFleet) replace(ctx context.Context, i int) {
	next, err := sessions.Open(ctx, f.db, f.m, kit.Options{StateURL: f.state, About: fmt.Sprintf("place %d", i)})
	if err != nil {
		f.t.Errorf("open: %v", err)
		return
	}
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() {
		ended <- next.Serve(serving, func(ctx context.Context) error {
			<-ctx.Done()
			return nil
		})
	}()
	place := &f.instances[i]
	place.mu.Lock()
	before, stopBefore, endedBefore := place.store, place.stop, place.ended
	place.store, place.stop, place.ended = next, stop, ended
	place.mu.Unlock()
	if before != nil {
		f.end(before, stopBefore, endedBefore)
	}
}

func (f *rollingFleet) end(s *sessions.Store, stop context.CancelFunc, ended chan error) {
	stop()
	if err := <-ended; err != nil {
		f.t.Errorf("serve: %v", err)
	}
	s.Close()
}

func (f *rollingFleet) close() {
	for i := range f.instances {
		if p := &f.instances[i]; p.store != nil {
			f.end(p.store, p.stop, p.ended)
		}
	}
}

// work writes and reads the worker's own tokens by any instance: what it reads must be what was last
// acknowledged, by whichever instance.
func (f *rollingFleet) work(ctx context.Context, worker int) {
	random := rand.New(rand.NewPCG(uint64(worker), 0))
	acknowledged := map[string]int64{}
	for n := int64(1); ctx.Err() == nil; n++ {
		token := fmt.Sprintf("w%d-%d", worker, random.IntN(rollingTokens))
		f.by(random.IntN(rollingInstances), func(s *sessions.Store) {
			f.operations.Add(1)
			if random.IntN(3) == 0 {
				if err := s.Save(context.WithoutCancel(ctx), sessions.Session{Token: token, UserID: n, Expires: time.Unix(2_000_000_000, 0).UTC()}); err != nil {
					f.failed.Add(1)
					f.t.Errorf("save: %v", err)
					return
				}
				acknowledged[token] = n
				return
			}
			got, found, err := s.Get(context.WithoutCancel(ctx), token)
			switch want, wrote := acknowledged[token]; {
			case err != nil:
				f.failed.Add(1)
				f.t.Errorf("get: %v", err)
			case found != wrote || got.UserID != want && wrote:
				f.wrong.Add(1)
				f.t.Errorf("read %d (found: %v) of %s, want %d (written: %v)", got.UserID, found, token, want, wrote)
			}
		})
	}
}

func (f *rollingFleet) by(i int, do func(*sessions.Store)) {
	place := &f.instances[i]
	place.mu.RLock()
	defer place.mu.RUnlock()
	do(place.store)
}
