package cases

import (
	"context"
	"fmt"
	"testing"

	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
)

// restartEmpty restarts Redis without its data, as a server without persistence restarts
// after a crash.
func (w *world) restartEmpty(server *testenv.RedisServer) {
	w.t.Helper()
	w.check(server.Kill())
	w.check(server.Restart(w.ctx))
	testenv.Await(w.t, "a connection to the new Redis", func() bool {
		_, err := w.target.Now(w.ctx)
		return err == nil
	})
}

// TestRollbackKeepsLegacyRowsWhenTheTargetIsEmpty: Redis restarts empty in retain. The replay
// treats a key that the target does not have as deleted, and deletes legacy's row: the
// last state before the fence is then gone too. A deleted record has a tombstone, so
// absence without a version means that data is missing. The rollback must stop before
// writes wait for it, leave every row of legacy, and report how many keys are missing.
func TestRollbackKeepsLegacyRowsWhenTheTargetIsEmpty(t *testing.T) {
	t.Parallel()
	w, server := newWorldOnRedis(t)
	a := w.application(setup{})
	w.upto(phases.Retain)
	const changed = 10
	for id := range int64(changed) {
		a.mustWrite(id+1, "written in retain")
	}
	w.restartEmpty(server)
	_, err := w.controller().Rollback(w.ctx, control.Rollback{To: phases.Grace, Reason: "Redis restarted empty"})
	if err == nil {
		t.Error("the rollback went through, though nothing is left to replay")
	}
	if at := w.status().Route; at.Phase != phases.Retain {
		t.Errorf("the route is %s: a rollback that can't be finished must stop in retain", at)
	}
	var deleted int
	for id := range int64(changed) {
		if w.inLegacy(id+1) == none {
			deleted++
		}
	}
	if deleted > 0 {
		t.Errorf("the rollback deleted %d of %d rows of legacy", deleted, changed)
	}
}

// TestReadsOfAnEmptiedTargetFallBackToLegacy: Redis restarts empty while legacy is still
// the authority. The instances continue to read it and answer "not found" for records
// that legacy has, until a trigger fires; without a daemon, for good. After a miss without
// a version the instance must read legacy, and a hit there is the answer.
func TestReadsOfAnEmptiedTargetFallBackToLegacy(t *testing.T) {
	t.Parallel()
	for _, phase := range []phases.Phase{phases.Cutover, phases.Grace} {
		t.Run(string(phase), func(t *testing.T) {
			t.Parallel()
			w, server := newWorldOnRedis(t)
			a := w.application(setup{})
			w.upto(phase)
			a.mustWrite(1, "acknowledged")
			w.restartEmpty(server)
			wrong := a.wrongReads(20)
			if len(wrong) > 0 {
				t.Errorf("%d of 20 records that legacy has are answered wrongly, the first: %s", len(wrong), wrong[0])
			}
		})
	}
}

// TestReadsInRetainReportAMissingTargetRecord: the same once legacy is fenced. Legacy's
// state is old by then, so it can't be the answer. But a row there without a tombstone in
// the target means that the target's record is missing, and "not found" hides that from
// the application.
func TestReadsInRetainReportAMissingTargetRecord(t *testing.T) {
	t.Parallel()
	w, server := newWorldOnRedis(t)
	a := w.application(setup{})
	w.upto(phases.Retain)
	w.restartEmpty(server)
	if _, found, err := a.reader.Get(w.ctx, 1); err == nil {
		t.Errorf("a read of a missing record answers without an error (found: %v)", found)
	}
}

// wrongReads reads the records from 1 to last and returns those that differ from legacy's.
func (a *application) wrongReads(last int64) (wrong []string) {
	for id := int64(1); id <= last; id++ {
		want, _, err := a.fromLegacy(context.WithoutCancel(a.w.ctx), id)
		a.w.check(err)
		if got := a.read(id); got != want.Name {
			wrong = append(wrong, fmt.Sprintf("key %d reads %q, legacy has %q", id, got, want.Name))
		}
	}
	return wrong
}
