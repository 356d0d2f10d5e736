package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/examples/storefront/load"
	"github.com/stranglerfig/migrator/examples/storefront/shop"
	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/internal/test/clitest"
	"github.com/stranglerfig/migrator/runbook"
)

const bookRest = `
phases:
  shadow_write: {for: 0s}
  dual_read: {steps: [100], over: 0s}
  cutover: {steps: [50, 100], over: 0s, auto: false}
  grace: {for: 0s}
  approval: {for: []}
writing: {not_after: 2s, deadline: 2s}
fleet: {lease: 3s, renew: 1s}
gates: {off: a test of runbooks}
triggers: {off: a test of runbooks}
runbook:
  contact: "#shop-oncall"
  regions: [eu, us]
  services:
    - {name: checkout, region: eu, drain: "echo checkout >> $$STORY"}
    - {name: search, region: us, drain: "echo search >> $$STORY"}
  caches:
    - {name: cdn, purge: "echo cdn >> $$STORY"}
`

const bookProducts = 200

// openShop is a migration of the storefront's products in mid-cutover, with two
// instances of the shop under load.
func openShop(t *testing.T) (*clitest.Operator, *load.Generator, func()) {
	t.Helper()
	o := clitest.New(t, "products", "  table: products\n", "  key: product:{id}\n", bookRest)
	pool, err := pgxpool.New(t.Context(), o.Legacy)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if err := shop.Seed(t.Context(), pool, bookProducts); err != nil {
		t.Fatal(err)
	}
	o.Does("init", "apply", "phase advance", "backfill run", "phase advance", "reconcile run --full", "phase advance")
	m, err := openstore.Load(o.Path("migration.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 3)
	ready := make(chan string, 2)
	for i := range 2 {
		go func() {
			ended <- shop.Serve(ctx, shop.Config{
				Listen: "127.0.0.1:0", Migration: m, StateURL: o.State, Instance: fmt.Sprintf("shop-%d", i),
				Drain: 5 * time.Second, Ready: func(url string) { ready <- url },
			})
		}()
	}
	var urls []string
	for range 2 {
		select {
		case url := <-ready:
			urls = append(urls, url)
		case err := <-ended:
			t.Fatal(err)
		}
	}
	g := load.New(load.Config{URLs: urls, Products: bookProducts, Rate: 150, Writers: 4, Readers: 4})
	loading, endLoad := context.WithCancel(context.Background())
	loaded := make(chan error, 1)
	go func() { loaded <- g.Run(loading) }()
	once := false
	finish := func() {
		if once {
			return
		}
		once = true
		endLoad()
		if err := <-loaded; err != nil {
			t.Error(err)
		}
		if err := g.Verify(ctx); err != nil {
			t.Error(err)
		}
		stop()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(finish)
	return o, g, finish
}

// process is a separate migrator process, which can be killed.
func process(o *clitest.Operator, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(o.T.Context(), "migrator", append([]string{"--settings", o.Path("settings.yaml")}, args...)...)
	cmd.Env = append(os.Environ(), "STORY="+o.Path("story"))
	cmd.Dir = o.Dir
	return cmd
}

// TestTheRenderedRollbackSurvivesEveryKill runs the rendered rollback under load. Its
// process is killed at every step between the act and its outcome, and between the
// outcome and the next step, and each time another process resumes. No acknowledged write
// is lost, and no step runs twice that must not.
func TestTheRenderedRollbackSurvivesEveryKill(t *testing.T) {
	t.Parallel()
	o, g, finish := openShop(t)
	ctx := t.Context()
	gate, err := pgx.Connect(ctx, o.State)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = gate.Close(context.WithoutCancel(ctx)) }()
	// A process that records an intent or an outcome takes this lock first; the test holds it.
	o.SQL(o.State, `CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN PERFORM pg_advisory_xact_lock_shared(42); RETURN NEW; END $$;
		CREATE TRIGGER hold BEFORE INSERT OR UPDATE ON migrator.runbook_steps FOR EACH ROW EXECUTE FUNCTION hold();`)
	sql := func(query string) {
		if _, err := gate.Exec(ctx, query); err != nil {
			t.Fatal(err)
		}
	}
	text := func(query string) (s string) {
		if err := gate.QueryRow(ctx, query).Scan(&s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	sql(`SELECT pg_advisory_lock(42)`)
	killed := map[string]bool{}
	line := []string{"runbook", "run", "rollback"}
	for going := true; going; {
		p := process(o, line...)
		var out strings.Builder
		p.Stdout, p.Stderr = &out, &out
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- p.Wait() }()
		line = []string{"runbook", "resume", "1"}
		for {
			if !comesToTheGate(ctx, o, gate, ended) {
				if going = false; p.ProcessState.ExitCode() != 0 {
					t.Fatalf("after %d kills it ends with %d: %s", len(killed), p.ProcessState.ExitCode(), out.String())
				}
				break
			}
			// The record that it is about to write: an outcome, or the intent after the last outcome.
			at := text(`SELECT coalesce((SELECT 'outcome of ' || step FROM migrator.runbook_steps WHERE outcome IS NULL),
				(SELECT 'intent behind ' || step FROM migrator.runbook_steps ORDER BY seq DESC LIMIT 1), 'first intent')`)
			if !killed[at] {
				killed[at] = true
				_ = p.Process.Signal(syscall.SIGKILL)
				<-ended
				break
			}
			// In one statement: this record passes, and none after it.
			sql(`SELECT pg_advisory_unlock(42), pg_advisory_lock(42)`)
		}
		// A session that waits for a lock does not see that its client is gone.
		sql(`SELECT pg_terminate_backend(pid, 60000) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = 42
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
	}
	kills := len(killed)
	sql(`SELECT pg_advisory_unlock(42)`)
	finish()
	r := g.Report()
	t.Logf("%d kills; %d writes acknowledged, lost %d, stale %d", kills, r.Acknowledged, r.Lost, r.Stale)
	if !r.OK() || r.Acknowledged == 0 {
		t.Errorf("%+v", r)
	}
	if phase := text(`SELECT phase FROM migrator.migrations`); phase != "dual-read" {
		t.Errorf("it is on %s", phase)
	}
	if n := text(`SELECT count(*)::text FROM migrator.history WHERE cause = 'rollback'`); n != "1" {
		t.Errorf("%s rollbacks", n)
	}
	code, stdout, stderr := o.Try("runbook", "show", "1", "-o", "json")
	var v app.RunbookView
	if err := json.Unmarshal([]byte(stdout), &v); code != 0 || err != nil {
		t.Fatalf("%d %s%s", code, stdout, stderr)
	}
	done := map[string]int{}
	for _, s := range v.Steps {
		if s.Outcome == runbook.Done {
			done[s.Step]++
		}
	}
	for step, n := range done {
		if n != 1 {
			t.Errorf("%s was done %d times", step, n)
		}
	}
	if len(done) < 6 || v.Run.Status != runbook.RunDone || kills != 2*len(done) {
		t.Errorf("%d kills at %d steps, status %s", kills, len(done), v.Run.Status)
	}
}

// comesToTheGate waits until the process waits at the gate; false: it has ended.
func comesToTheGate(ctx context.Context, o *clitest.Operator, gate *pgx.Conn, ended chan error) bool {
	o.T.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			ended <- err
			return false
		case <-tick.C:
		}
		n := 0
		if err := gate.QueryRow(ctx, `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 42 AND NOT granted
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`).Scan(&n); err != nil {
			o.T.Fatal(err)
		}
		if n > 0 {
			return true
		}
	}
}
