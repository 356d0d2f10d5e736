package cases

import (
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/phases"
)

// TestRollbackWaitsForAnInstanceCutOffBehindTheFence: an instance gets the route fenced
// with its last renewal, and is then cut off. On that route it reads the target alone,
// lapsed or not, and never falls back to legacy. The fence is lifted, legacy takes writes
// again, and a write that the target refuses requests dual-read: that instance would
// continue to answer from a target that is behind.
func TestRollbackWaitsForAnInstanceCutOffBehindTheFence(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	w.upto(phases.Grace)
	fleet, _ := w.joined("cut-off", time.Minute)
	ctl := w.controller()
	ctl.FenceBudget = 100 * time.Millisecond
	if _, err := ctl.Advance(w.ctx, unreconciled()); err == nil {
		t.Fatal("the fence was passed beside an instance that did not acknowledge it")
	}
	if at := w.status().Route; at.Phase != phases.Grace {
		t.Fatalf("after the fence was undone the route is %s", at)
	}
	w.run(w.stateURL, "UPDATE migrator.leases SET expires_at = clock_timestamp()")
	err := fleet.RollBack(w.ctx, w.status().Route.Epoch, "the target refused a write")
	if at := w.status().Route; err == nil || at.Phase != phases.Grace {
		t.Errorf("a write rolled back to %s (%v) beside an instance that may still read the target alone", at, err)
	}
	_, err = w.controller().Rollback(w.ctx, control.Rollback{To: phases.DualRead, Reason: "test", Settle: 100 * time.Millisecond})
	if at := w.status().Route; err == nil || at.Phase != phases.Grace {
		t.Errorf("a rollback went to %s (%v) beside it", at, err)
	}
}
