package cases

import (
	"strconv"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
)

// copied is a base backup, to be started in the place of the first.
func (c *cluster) copied() *cluster {
	c.t.Helper()
	n := &cluster{t: c.t, bin: c.bin, data: c.data + "-copy", port: c.port}
	c.postgres("pg_basebackup", "-D", n.data, "-h", "127.0.0.1", "-p", strconv.Itoa(c.port), "-U", "postgres", "-c", "fast", "--no-sync")
	return n
}

// TestAdvanceAfterTheStateLostAJournaledKey: a write is acknowledged in dual-read
// while the target is away, since the journal has its key. The state database fails
// over to a standby that lacks the journal's last transaction, at the same epoch: no
// instance finds its route missing, and the journal is empty. All gates to grace are
// open, and reads there are stale. A new timeline of the state must count as a state
// loss, until a full reconcile is clean.
func TestAdvanceAfterTheStateLostAJournaledKey(t *testing.T) {
	t.Parallel()
	primary := newCluster(t)
	url := primary.database("state")
	server := testenv.Redis(t, testenv.RedisOptions{AppendOnly: true})
	w := newWorld(t, options{stateURL: url, targetURL: server.URL()})
	a := w.application(setup{lease: 2 * time.Minute})
	w.upto(phases.DualRead)
	standby := primary.copied()
	w.check(server.Kill())
	a.mustWrite(1, "acknowledged")
	w.check(server.Restart(w.ctx))
	if n := w.status().JournalKeys; n != 1 {
		t.Fatalf("%d keys are journaled, want 1", n)
	}
	primary.stop("immediate")
	standby.promote()
	testenv.Await(w.t, "the state to answer", func() bool {
		w.state.Pool().Reset()
		return w.state.Pool().Ping(w.ctx) == nil
	})
	if n := w.status().JournalKeys; n != 0 {
		t.Fatalf("the standby has %d keys in the journal: this test shows nothing", n)
	}
	for w.status().Route.Phase != phases.Grace {
		w.check(w.controller().AwaitSettled(w.ctx, time.Minute))
		a := control.Advance{Reason: "test"}
		if to, err := w.m.Phases.Next(w.status().Route); err == nil && to.Phase != w.status().Route.Phase {
			a = unreconciled() // that gate stands before each phase from cutover on
		}
		if _, err := w.controller().Advance(w.ctx, a); err != nil {
			t.Logf("the advance is refused, as it should be: %v", err)
			return
		}
	}
	w.check(w.controller().AwaitSettled(w.ctx, time.Minute))
	if got := a.read(1); got != "acknowledged" {
		t.Errorf("in grace a read answers %q, %q was acknowledged", got, w.inLegacy(1))
	}
}
