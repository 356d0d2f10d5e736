package daemontest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/pgfail"
	"github.com/stranglerfig/migrator/internal/test/clitest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
)

// capturedRest is the rest of a migration file whose only writer is capture. Its gates are not off.
const capturedRest = `
phases:
  shadow_write: {for: 0s}
  dual_read: {steps: [50, 100], over: 0s, auto: false}
  cutover: {steps: [50, 100], over: 0s, auto: false}
  grace: {for: 0s}
  retain: {for: 0s}
  approval: {for: []}
writing: {not_after: 2s, deadline: 2s, fence_budget: 30s}
fleet: {lease: 3s, renew: 1s}
capture: {mode: only, beat: 500ms}
gates: {capture: {lag: 1m, bytes: 1GiB}}
`

// unaware is a migration of an application that knows nothing of it, and writes legacy all the time.
type unaware struct {
	*operator
	t       *testing.T
	daemon  *daemonProcess
	writing sync.WaitGroup
	stop    context.CancelFunc
}

func newUnaware(t *testing.T, rest string) *unaware {
	t.Helper()
	o := newOperator(t, "items", "  table: items\n", "  key: item:{id}\n", rest)
	o.Target = testenv.Redis(t).URL()
	o.Write("target.url", o.Target)
	o.SQL(o.Legacy, `CREATE TABLE items (id bigint PRIMARY KEY, name text NOT NULL);
		INSERT INTO items SELECT i, 'item ' || i FROM generate_series(1, 2000) i`)
	o.Does("init", "apply", "phase advance")
	u := &unaware{operator: o, t: t}
	u.daemon = o.serve(t)
	ctx, stop := context.WithCancel(t.Context())
	u.stop = stop
	u.writing.Go(func() { u.writes(ctx) })
	t.Cleanup(u.rest)
	return u
}

// rest ends the application.
func (u *unaware) rest() {
	u.stop()
	u.writing.Wait()
}

// writes changes legacy until ctx ends. Behind a fence legacy refuses.
func (u *unaware) writes(ctx context.Context) {
	db, err := pgx.Connect(ctx, u.Legacy)
	if err != nil {
		u.t.Error(err)
		return
	}
	defer func() { _ = db.Close(context.WithoutCancel(ctx)) }()
	for n := 0; ctx.Err() == nil; n++ {
		id := 1 + rand.Int64N(2500)
		sql := `INSERT INTO items VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET name = excluded.name`
		args := []any{id, fmt.Sprintf("written %d", n)}
		if n%5 == 0 {
			sql, args = `DELETE FROM items WHERE id = $1`, args[:1]
		}
		if _, err := db.Exec(ctx, sql, args...); err != nil && ctx.Err() == nil && pgfail.SQLState(err) != "MG001" {
			u.t.Error(err)
			return
		}
		_ = underway(ctx, 5*time.Millisecond)
	}
}

// phase is where the migration is.
func (u *unaware) phase() phases.Phase { return u.daemon.status().Status.Route.Phase }

// advances takes the next step once its gates are open.
func (u *unaware) advances(to phases.Phase) {
	u.t.Helper()
	last := ""
	end := time.Now().Add(4 * time.Minute)
	for {
		code, out, errs := u.Try("phase", "advance", "--to", string(to))
		if code == clitest.Done {
			return
		}
		if last = out + errs; time.Now().After(end) {
			u.t.Fatalf("it does not advance to %s: %d %s\n%s", to, code, last, u.daemon.logText())
		}
		_ = underway(u.t.Context(), 200*time.Millisecond)
	}
}

// compares makes a full run that must be clean.
func (u *unaware) compares() {
	u.t.Helper()
	if code, out, errs := u.Try("reconcile", "run", "--full"); code != clitest.Done {
		u.t.Fatalf("reconcile: %d %s%s\n%s", code, out, errs, u.daemon.logText())
	}
}

// captures waits until capture runs.
func (u *unaware) captures() {
	u.t.Helper()
	u.daemon.awaits("capture to run", func() bool {
		c := u.daemon.status().Snapshot.Capture
		return c != nil && c.Slot != "" && c.Running
	})
}

// TestCaptureAlonePassesEveryPhase without an instance: what instances would show is judged by full reconciles.
// Retain is rolled back once.
func TestCaptureAlonePassesEveryPhase(t *testing.T) {
	t.Parallel()
	captureAlone(t, false)
}

// TestTortureCaptureAlone rolls every phase back.
func TestTortureCaptureAlone(t *testing.T) {
	t.Parallel()
	if os.Getenv("MIGRATOR_TORTURE") == "" {
		t.Skip("only in make torture")
	}
	captureAlone(t, true)
}

func captureAlone(t *testing.T, all bool) {
	t.Helper()
	u := newUnaware(t, capturedRest)
	u.captures()
	if code, out, errs := u.Try("phase", "advance"); code != clitest.NotYet || !strings.Contains(out+errs, "backfill-done") || !strings.Contains(out, "it has passed no barrier yet") {
		t.Errorf("before the backfill: %d %s%s", code, out, errs)
	}
	u.Does("backfill run")
	u.advances(phases.DualRead)
	if all {
		u.Does("rollback --to shadow-write --yes")
		u.advances(phases.DualRead)
	}
	u.advances(phases.DualRead)
	code, out, _ := u.Try("phase", "advance")
	if code != clitest.NotYet {
		t.Errorf("without a reconcile: %d %s", code, out)
	}
	for _, says := range []string{
		"no instance reads or writes, so a full reconcile is judged in their place", "off          shadow-writes", "off          added-latency",
		"pass         bypass", "pass         capture ", "pass         capture-lag",
	} {
		if !strings.Contains(out, says) {
			t.Errorf("no %q in\n%s", says, out)
		}
	}
	u.compares()
	u.advances(phases.Cutover)
	if all {
		u.Does("rollback --yes")
		u.compares()
		u.advances(phases.Cutover)
		u.compares()
		u.advances(phases.Cutover)
		u.compares()
		u.advances(phases.Grace)
		u.Does("rollback --to dual-read --yes")
		u.compares()
		u.advances(phases.Cutover)
	}
	u.compares()
	u.advances(phases.Cutover)
	u.compares()
	u.advances(phases.Grace)
	u.compares()
	u.advances(phases.Retain)
	u.compares()
	u.Does("rollback --to grace --yes")
	u.daemon.awaits("changes from after the fence", func() bool { return u.daemon.status().Snapshot.Capture.Fence == "" })
	u.compares()
	u.advances(phases.Retain)
	u.rest()
	u.compares()
	u.advances(phases.Complete)
	u.daemon.awaits("the slot to be removed", func() bool {
		return u.number(t, u.Legacy, `SELECT count(*) FROM pg_replication_slots WHERE database = current_database()`) == 0
	})
	if code := u.daemon.end(syscall.SIGTERM); code != clitest.Done {
		t.Errorf("on SIGTERM it exited with %d", code)
	}
}

// TestALostSlotIsAnIncident: reads return to legacy, and capture, backfill and reconcile begin again by themselves.
func TestALostSlotIsAnIncident(t *testing.T) {
	t.Parallel()
	u := newUnaware(t, capturedRest)
	u.captures()
	u.Does("backfill run")
	u.advances(phases.DualRead)
	u.advances(phases.DualRead)
	u.compares()
	u.advances(phases.Cutover)
	drops := func() {
		t.Helper()
		u.daemon.awaits("the slot to be dropped", func() bool {
			db, err := pgx.Connect(t.Context(), u.Legacy)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = db.Close(t.Context()) }()
			_, err = db.Exec(t.Context(), `SELECT pg_terminate_backend(active_pid, 60000) FROM pg_replication_slots WHERE database = current_database() AND active_pid IS NOT NULL`)
			if err != nil {
				t.Fatal(err)
			}
			_, err = db.Exec(t.Context(), `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()`)
			return err == nil
		})
	}
	drops()
	u.daemon.awaits("reads to return", func() bool { return u.phase() == phases.DualRead })
	u.daemon.awaits("another slot", func() bool {
		s := u.daemon.status().Snapshot
		return s.Capture.Slot != "" && s.Capture.Lost == "" && !s.Capture.LostAt.IsZero()
	})
	if _, out, _ := u.Try("phase", "history"); !strings.Contains(out, "changes of legacy are lost to capture: the replication slot") {
		t.Errorf("the history does not say why:\n%s", out)
	}
	if code, out, _ := u.Try("phase", "advance"); code != clitest.NotYet {
		t.Errorf("it advances: %d %s", code, out)
	}
	// A leader that is killed meanwhile leaves the rest to the next.
	u.daemon.end(syscall.SIGKILL)
	u.daemon = u.serve(t)
	lost := time.Now()
	u.daemon.awaits("a clean target", func() bool {
		s := u.daemon.status().Snapshot
		return s.Backfill != nil && s.Capture != nil && !s.Capture.LostSince(s.Backfill.Began) && !s.Backfill.Finished.IsZero() &&
			s.FullReconcile.Clean() && s.FullReconcile.Began.After(s.Capture.LostAt)
	})
	t.Logf("made up for in %s", time.Since(lost))
	u.advances(phases.Cutover)
	u.rest()
	u.compares()
	if code := u.daemon.end(syscall.SIGTERM); code != clitest.Done {
		t.Errorf("on SIGTERM it exited with %d", code)
	}
}
