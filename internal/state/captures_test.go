package state_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/backfill"
	"github.com/stranglerfig/migrator/internal/capture"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/backfills"
	"github.com/stranglerfig/migrator/internal/state/captures"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

func TestCaptureKeepsItsProgress(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	ctx := t.Context()
	first := captures.New(s.Pool(), testMigration, s.MarkUnclean)
	if err := first.Save(ctx, capture.Progress{}); !errors.Is(err, statedb.ErrReleased) {
		t.Errorf("saved without Begin: %v", err)
	}
	p, release, err := first.Begin(ctx)
	must(t, err)
	if diff := cmp.Diff(capture.Progress{}, p, cmpopts.EquateComparable(record.Version{})); diff != "" {
		t.Errorf("none yet: %s", diff)
	}
	if _, _, err := captures.New(s.Pool(), testMigration, s.MarkUnclean).Begin(ctx); !errors.Is(err, capture.ErrRunning) || !strings.Contains(err.Error(), "since 20") {
		t.Errorf("a second one: %v", err)
	}
	p = capture.Progress{
		System: "7312345678901234567", Timeline: 2, Slot: "migrator_move_12345678", Publication: "1 2", Consistent: 0xFFFFFFFFFFFFFFFF, Resume: 1 << 60,
		Commit: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC), Era: 4294967295, Barrier: record.MakeVersion(1, 2, 3), Fence: "attempt",
		Sweeps: []capture.Sweep{{Version: record.MakeVersion(1, 2, 4), Opens: time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC), Partly: true}}, Changes: 9,
	}
	must(t, first.Save(ctx, p))
	must(t, first.Held(ctx))
	key, low, high := record.Key("a\xff"), record.MakeVersion(1, 1, 5), record.MakeVersion(1, 1, 6)
	must(t, first.Journal(ctx, []capture.Refused{{Key: key, Version: high, Err: errors.New("too\nlarge")}, {Key: "b", Version: low, Err: errors.New("x")}}))
	must(t, first.Journal(ctx, []capture.Refused{{Key: key, Version: low, Err: errors.New("still")}}))
	var version, reason string
	var changes int
	must(t, s.Pool().QueryRow(ctx, `SELECT version, reason, changes FROM migrator.journal WHERE key = $1`, []byte(key)).Scan(&version, &reason, &changes))
	if version != high.String() || reason != "still" || changes != 2 {
		t.Errorf("journalled: %s, %q, %d", version, reason, changes)
	}
	must(t, first.Unclean(ctx, "the table was truncated"))
	if st, err := s.Status(ctx, testMigration); err != nil || st.Unclean != "the table was truncated" {
		t.Errorf("unclean: %q, %v", st.Unclean, err)
	}
	release()
	if err := errors.Join(first.Save(ctx, p)); err == nil {
		t.Error("saved after release")
	}
	if err := first.Held(ctx); err == nil {
		t.Error("the lock is held after release")
	}
	got, release, err := captures.New(s.Pool(), testMigration, s.MarkUnclean).Begin(ctx)
	must(t, err)
	release()
	if diff := cmp.Diff(p, got, cmpopts.EquateComparable(record.Version{})); diff != "" {
		t.Errorf("resumed: %s", diff)
	}
	if _, _, err := captures.New(s.Pool(), "nope", s.MarkUnclean).Begin(ctx); !errors.Is(err, statedb.ErrUnknownMigration) {
		t.Errorf("unknown: %v", err)
	}
}

// TestWhatIsLostToCapture voids the backfills that began before, and marks the migration; in retain legacy takes
// nothing that could be missing. Progress is saved once it begins again.
func TestWhatIsLostToCapture(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	ctx := t.Context()
	ledger := captures.New(s.Pool(), testMigration, s.MarkUnclean)
	p, release, err := ledger.Begin(ctx)
	must(t, err)
	p.Slot, p.Era, p.Fence, p.Sweeps = "slot", 7, "a", make([]capture.Sweep, 2)
	must(t, ledger.Save(ctx, p))
	must(t, ledger.Report(ctx, phases.Capture{Running: true, Fence: "stale"}))
	e, err := s.Snapshot(ctx, testMigration)
	must(t, err)
	if c := e.Capture; c == nil || !c.Runs(e.Now) || c.Slot != "slot" || c.Era != 7 || c.Fence != "a" || c.Sweeps != 2 || c.Lost != "" {
		t.Errorf("%+v", e.Capture)
	}

	walk(t, s, nil, phases.Route{Phase: phases.ShadowWrite})
	runs := backfills.New(s.Pool(), testMigration)
	began, finish, err := runs.Begin(ctx)
	must(t, err)
	began.Barrier = record.MakeVersion(1, 0, 77)
	must(t, runs.Save(ctx, began))
	news, err := s.LoseCapture(ctx, testMigration, "the slot is gone")
	must(t, err)
	if again, err := s.LoseCapture(ctx, testMigration, "another reason"); !news || again || err != nil {
		t.Errorf("news: %v, then %v, %v", news, again, err)
	}
	if err := runs.Save(ctx, began); !errors.Is(err, backfill.ErrNotReady) {
		t.Errorf("a backfill from before is saved: %v", err)
	}
	finish()
	if err := ledger.Save(ctx, p); err == nil || !strings.Contains(err.Error(), "are lost to capture") {
		t.Errorf("progress is saved: %v", err)
	}
	release()
	e, err = s.Snapshot(ctx, testMigration)
	must(t, err)
	lost := e.Capture
	if lost.Lost != "the slot is gone" || e.Status.Unclean != lost.Lost || !lost.LostSince(e.Backfill.Began) || lost.Runs(e.Now) {
		t.Errorf("%+v, %q", lost, e.Status.Unclean)
	}
	p, release, err = ledger.Begin(ctx)
	must(t, err)
	if p.Lost != lost.Lost {
		t.Errorf("the next process does not know of it: %+v", p)
	}
	must(t, ledger.Save(ctx, capture.Progress{}))
	must(t, ledger.Save(ctx, capture.Progress{Slot: "slot"}))
	release()
	again, finish, err := runs.Begin(ctx)
	must(t, err)
	again.Barrier = record.MakeVersion(1, 0, 78)
	must(t, runs.Save(ctx, again))
	finish()
	e, err = s.Snapshot(ctx, testMigration)
	must(t, err)
	if again.ID == began.ID || e.Capture.Lost != "" || !e.Capture.LostAt.Equal(lost.LostAt) || e.Capture.LostSince(e.Backfill.Began) {
		t.Errorf("begun again: %+v, backfill %d after %d", e.Capture, again.ID, began.ID)
	}

	walk(t, s, nil, phases.Route{Phase: phases.DualRead, Percent: phases.All}, phases.Route{Phase: phases.Cutover, Percent: phases.All}, phases.Route{Phase: phases.Grace})
	// What is copied again while in-process writers keep reads with the target.
	_, finish, err = runs.Begin(ctx)
	must(t, err)
	finish()
	exec(t, s, `UPDATE migrator.captures SET lost_at = NULL`)
	if _, _, err := runs.Begin(ctx); !errors.Is(err, backfill.ErrNotReady) {
		t.Errorf("a backfill in grace: %v", err)
	}
	walk(t, s, nil, phases.Route{Phase: phases.Fenced}, phases.Route{Phase: phases.Retain})
	exec(t, s, `UPDATE migrator.migrations SET unclean_at = NULL, unclean_why = ''`)
	news, err = s.LoseCapture(ctx, testMigration, "gone in retain")
	must(t, err)
	e, err = s.Snapshot(ctx, testMigration)
	must(t, err)
	if !news || e.Capture.Lost != "gone in retain" || !e.Capture.LostAt.IsZero() || e.Status.Unclean != "" {
		t.Errorf("in retain: %v, %+v, %q", news, e.Capture, e.Status.Unclean)
	}
}

// TestInstancesReadHowFarCaptureIs: whether it writes alone, by the applied file, and when the target had all; not after
// changes were lost.
func TestInstancesReadHowFarCaptureIs(t *testing.T) {
	overEach(t, testHowFarCaptureIs)
}

func testHowFarCaptureIs(t *testing.T, s *state.Store, v over) {
	ctx := t.Context()
	fleet := v.join(t, "a", pgfleet.Options{}).fleet
	read := func(alone bool, caughtUp time.Time) {
		t.Helper()
		got, err := fleet.Captured(ctx)
		if err != nil || got.Alone != alone || !got.CaughtUp.Equal(caughtUp) || time.Since(got.At).Abs() > time.Minute {
			t.Errorf("%+v, %v", got, err)
		}
	}
	read(false, time.Time{})
	at := time.Date(2026, 7, 1, 12, 0, 0, 123456000, time.UTC)
	ledger := captures.New(s.Pool(), testMigration, s.MarkUnclean)
	must(t, ledger.Report(ctx, phases.Capture{Running: true, CaughtUp: at}))
	exec(t, s, `UPDATE migrator.migrations SET config = (config::jsonb || '{"capture": {"mode": "only"}}')::json, config_hash = 'h2'`)
	read(true, at)
	walk(t, s, nil, shadowWrite)
	_, err := s.LoseCapture(ctx, testMigration, "the slot is gone")
	must(t, err)
	read(true, time.Time{})
}
