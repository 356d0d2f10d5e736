package state_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/backfill"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/state/backfills"
	"github.com/stranglerfig/migrator/internal/state/reconciles"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

func TestABackfillWaitsUntilAllHaveLeftLegacy(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	refused := func(why string) {
		t.Helper()
		if _, _, err := backfills.New(s.Pool(), testMigration).Begin(t.Context()); !errors.Is(err, backfill.ErrNotReady) || !strings.Contains(err.Error(), why) {
			t.Errorf("want %q: %v", why, err)
		}
	}
	refused("it is at legacy")
	a := join(t, s, "a", pgfleet.Options{})
	b := join(t, s, "b", pgfleet.Options{})
	walk(t, s, nil, shadowWrite)
	refused("a, b may still be on legacy")
	a.ack(t, 2)
	lapse(t, s, "b")
	refused("b may still be on legacy")
	must(t, s.Evict(t.Context(), testMigration, "b", "gone", false))
	_ = b
	c := join(t, s, "c", pgfleet.Options{})
	p, release, err := backfills.New(s.Pool(), testMigration).Begin(t.Context())
	must(t, err)
	release()
	release()
	if p.Epoch != 2 || p.ID == 0 || p.Began.IsZero() || len(p.Chunks) != 0 {
		t.Errorf("%+v", p)
	}
	walk(t, s, []*instance{a, c}, dualRead, cutover)
	refused("it is at cutover 100 %")
	if _, _, err := backfills.New(s.Pool(), "nope").Begin(t.Context()); !errors.Is(err, statedb.ErrUnknownMigration) {
		t.Errorf("unknown: %v", err)
	}
}

func TestABackfillIsResumedAndBoundToItsStay(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	walk(t, s, nil, shadowWrite)
	first := backfills.New(s.Pool(), testMigration)
	if err := first.Save(t.Context(), backfill.Progress{}); err == nil {
		t.Error("saved without Begin")
	}
	if latest, err := first.Latest(t.Context()); err != nil || latest != nil {
		t.Errorf("latest of none: %+v, %v", latest, err)
	}
	p, release, err := first.Begin(t.Context())
	must(t, err)
	if _, _, err := backfills.New(s.Pool(), testMigration).Begin(t.Context()); !errors.Is(err, backfill.ErrRunning) || !strings.Contains(err.Error(), "since 20") {
		t.Errorf("a second one: %v", err)
	}
	p.Barrier, p.Opens = record.MakeVersion(1, 0, 77), time.Now().Truncate(0)
	p.Chunks = []store.Chunk{{Rows: 10}, {}}
	must(t, p.Chunks[0].UnmarshalJSON([]byte(`{"relation": "public.\"Order Items\"", "file": 4000000000, "from": 0, "to": 4294967294, "blocks": 0, "rows": 10}`)))
	must(t, first.Save(t.Context(), p))
	p.Done, p.Rows, p.Applied, p.Newer, p.Swept = 1, 10, 9, 1, 3
	must(t, first.Save(t.Context(), p))
	release()
	if err := first.Save(t.Context(), p); err == nil {
		t.Error("saved after release")
	}
	second := backfills.New(s.Pool(), testMigration)
	got, release, err := second.Begin(t.Context())
	must(t, err)
	if diff := cmp.Diff(p, got, cmpopts.EquateComparable(record.Version{}, store.Chunk{})); diff != "" {
		t.Errorf("resumed: %s", diff)
	}
	e, err := s.Snapshot(t.Context(), testMigration)
	if err != nil || e.Backfill == nil || e.Backfill.Epoch != 2 || !e.Backfill.Finished.IsZero() {
		t.Errorf("snapshot: %+v, %v", e.Backfill, err)
	}
	got.Finished = time.Unix(0, 0) // the database sets the time
	must(t, second.Save(t.Context(), got))
	release()
	latest, err := second.Latest(t.Context())
	if err != nil || latest == nil || latest.ID != p.ID || time.Since(latest.Finished).Abs() > time.Minute {
		t.Errorf("latest: %+v, %v", latest, err)
	}
	third := backfills.New(s.Pool(), testMigration)
	p3, release3, err := third.Begin(t.Context())
	must(t, err)
	defer release3()
	if p3.ID == p.ID {
		t.Error("a finished backfill was resumed")
	}
	walk(t, s, nil, legacy)
	if err := third.Save(t.Context(), p3); !errors.Is(err, backfill.ErrNotReady) {
		t.Errorf("saved across legacy: %v", err)
	}
	release3()
	walk(t, s, nil, shadowWrite)
	p4, release4, err := backfills.New(s.Pool(), testMigration).Begin(t.Context())
	must(t, err)
	release4()
	if p4.ID == p3.ID || p4.Epoch != 4 {
		t.Errorf("resumed one from before legacy: %+v", p4)
	}
}

// TestARefusedBackfillLeavesNothing: one that was refused before its barrier is neither the newest backfill nor one to be
// resumed, whatever was done before it. Nor is one resumed that is void.
func TestARefusedBackfillLeavesNothing(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	ctx := t.Context()
	walk(t, s, nil, shadowWrite)
	runs := backfills.New(s.Pool(), testMigration)
	want := func(latest, unfinished, running bool) {
		t.Helper()
		l, err := runs.Latest(ctx)
		must(t, err)
		u, runs, err := runs.Unfinished(ctx, 2)
		must(t, err)
		e, err := s.Snapshot(ctx, testMigration)
		must(t, err)
		if (l != nil) != latest || (e.Backfill != nil) != latest || (u != nil) != unfinished || runs != running {
			t.Errorf("latest %+v, of the snapshot %+v, unfinished %+v, running %v", l, e.Backfill, u, runs)
		}
	}
	p, release, err := runs.Begin(ctx)
	must(t, err)
	want(false, true, true)
	release()
	want(false, false, false)

	again, release, err := runs.Begin(ctx)
	must(t, err)
	if again.ID != p.ID {
		t.Errorf("backfill %d after %d, which had done nothing", again.ID, p.ID)
	}
	again.Barrier = record.MakeVersion(1, 0, 77)
	must(t, runs.Save(ctx, again))
	release()
	want(true, true, false)
	if u, _, err := runs.Unfinished(ctx, 3); u != nil || err != nil {
		t.Errorf("it is of an epoch before: %+v, %v", u, err)
	}
	_, err = s.LoseCapture(ctx, testMigration, "the slot is gone")
	must(t, err)
	want(true, false, false)

	second, release, err := runs.Begin(ctx)
	must(t, err)
	second.Finished = time.Now()
	must(t, runs.Save(ctx, second))
	release()
	_, release, err = runs.Begin(ctx) // it is refused
	must(t, err)
	release()
	want(true, false, false)
	if l, err := runs.Latest(ctx); err != nil || l.ID != second.ID {
		t.Errorf("the newest is %+v, %v", l, err)
	}
}

func TestARunnerThatLostItsLockCanNotSave(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	walk(t, s, nil, shadowWrite)
	b, r := backfills.New(s.Pool(), testMigration), reconciles.New(s.Pool(), testMigration)
	p, release, err := b.Begin(t.Context())
	must(t, err)
	defer release()
	run, release2, err := r.Begin(t.Context(), reconcile.Run{Full: true})
	must(t, err)
	defer release2()
	exec(t, s, `SELECT pg_terminate_backend(pid, 60000) FROM pg_locks WHERE locktype = 'advisory'
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
	others, othersRuns := backfills.New(s.Pool(), testMigration), reconciles.New(s.Pool(), testMigration)
	p2, release3, err := others.Begin(t.Context())
	must(t, err)
	defer release3()
	_, release4, err := othersRuns.Begin(t.Context(), reconcile.Run{Full: true})
	must(t, err)
	defer release4()
	// It tries again, and shows why: then that is enough.
	var enough context.CancelFunc
	trying := hint.OnWait(t.Context(), func(string, hint.Hint) { enough() })
	trying, enough = context.WithCancel(trying)
	defer enough()
	if err := b.Save(trying, p); err == nil || !strings.Contains(err.Error(), "another session has the lock") {
		t.Errorf("the backfill saved: %v", err)
	}
	p2.Finished = time.Now()
	must(t, others.Save(t.Context(), p2))
	release3()
	release4()
	// They take the lock again, and find that their work went to another process.
	if err := b.Save(t.Context(), p); !errors.Is(err, backfill.ErrNotReady) {
		t.Errorf("the backfill undid another's: %v", err)
	}
	if err := r.Save(t.Context(), run, nil); err == nil || !strings.Contains(err.Error(), "taken its place") {
		t.Errorf("the run saved: %v", err)
	}
}

func TestReconcileRuns(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	walk(t, s, nil, shadowWrite)
	begin := func(run reconcile.Run) (*reconciles.Runs, reconcile.Run, func()) {
		t.Helper()
		r := reconciles.New(s.Pool(), testMigration)
		run, release, err := r.Begin(t.Context(), run)
		must(t, err)
		return r, run, release
	}
	sampled := func(want int, status reconcile.Status) {
		t.Helper()
		r, run, release := begin(reconcile.Run{Slices: 3})
		defer release()
		if run.Slice != want {
			t.Errorf("slice %d, want %d", run.Slice, want)
		}
		run.Status = status
		must(t, r.Save(t.Context(), run, nil))
	}
	sampled(0, reconcile.Done)
	sampled(1, reconcile.Stopped) // it proves nothing: its slice is due again
	sampled(1, reconcile.Done)

	r, run, release := begin(reconcile.Run{Full: true, TwoWay: true, Repair: true, Slices: 9, Slice: 5})
	if run.ID == 0 || run.Epoch != 2 || run.ConfigHash != "h1" || run.Slices != 1 || run.Slice != 0 || run.Status != reconcile.Running {
		t.Errorf("%+v", run)
	}
	if _, _, err := reconciles.New(s.Pool(), testMigration).Begin(t.Context(), reconcile.Run{}); !errors.Is(err, reconcile.ErrRunning) {
		t.Errorf("a second one: %v", err)
	}
	found := []reconcile.Finding{
		{Key: "eu,42", Class: reconcile.FieldDiff, Path: "/price", Paths: []string{"/price", "/a\x00b"}, Detail: "x\xff", Version: record.MakeVersion(2, 0, 0), Repaired: true, Repair: "applied", At: time.Unix(1700000000, 0)},
		{RawKey: "\x00\xffodd", Class: reconcile.ForeignClass},
	}
	run.Checked, run.Differences, run.Classes = 100, 2, map[reconcile.Class]int64{reconcile.FieldDiff: 1, reconcile.ForeignClass: 1}
	must(t, r.Save(t.Context(), run, found[:1]))
	e, err := s.Snapshot(t.Context(), testMigration)
	must(t, err)
	if e.FullReconcile != nil || e.Reconcile == nil || e.Reconcile.Full {
		t.Errorf("a running run counts: %+v", e)
	}
	run.Status = reconcile.Done
	must(t, r.Save(t.Context(), run, found[1:]))
	release()
	e, err = s.Snapshot(t.Context(), testMigration)
	must(t, err)
	if f := e.FullReconcile; f == nil || f.Run != run.ID || f.Clean() || f.Checked != 100 || f.Epoch != 2 || f.ConfigHash != "h1" || f.Finished.Before(f.Began) {
		t.Errorf("snapshot: %+v", f)
	}
	got, err := r.Findings(t.Context(), run.ID, 10)
	if err != nil || len(got) != 2 || got[0].Key != "eu,42" || got[0].Paths[1] != "/ab" || got[0].Detail != "x\uFFFD" ||
		got[0].Version.Era() != 2 || !got[0].At.Equal(time.Unix(1700000000, 0)) || got[1].RawKey != "\x00\xffodd" || got[1].At.IsZero() {
		t.Errorf("findings: %+v, %v", got, err)
	}
	again, err := r.Run(t.Context(), run.ID)
	if err != nil || again.Differences != 2 || !again.Repair || again.Classes[reconcile.FieldDiff] != 1 || again.Status != reconcile.Done {
		t.Errorf("run: %+v, %v", again, err)
	}
	if _, err := reconciles.New(s.Pool(), "nope").Run(t.Context(), run.ID); err == nil {
		t.Error("a run of another migration was shown")
	}

	// A killed process leaves its run as running; the next one marks it as stopped.
	_, orphan, release := begin(reconcile.Run{Full: true, TwoWay: true})
	release()
	r, clean, release := begin(reconcile.Run{Full: true, TwoWay: true})
	defer release()
	if got, err := r.Run(t.Context(), orphan.ID); err != nil || got.Status != reconcile.Stopped || got.Error == "" || got.Finished.IsZero() {
		t.Errorf("orphan: %+v, %v", got, err)
	}
	clean.Status = reconcile.Done
	must(t, r.Save(t.Context(), clean, nil))
	if e, err = s.Snapshot(t.Context(), testMigration); err != nil || !e.FullReconcile.Clean() || e.FullReconcile.Run != clean.ID {
		t.Errorf("%+v, %v", e.FullReconcile, err)
	}
	list, err := r.List(t.Context(), 2)
	if err != nil || len(list) != 2 || list[0].ID != clean.ID {
		t.Errorf("list: %+v, %v", list, err)
	}
}

func TestADirtyMigrationNeedsALaterFullReconcile(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	walk(t, s, nil, shadowWrite)
	a := join(t, s, "a", pgfleet.Options{})
	walk(t, s, []*instance{a}, dualRead)
	run := func(found ...reconcile.Finding) {
		t.Helper()
		r := reconciles.New(s.Pool(), testMigration)
		run, release, err := r.Begin(t.Context(), reconcile.Run{Full: true, TwoWay: true})
		must(t, err)
		defer release()
		run.Status, run.Differences = reconcile.Done, int64(len(found))
		must(t, r.Save(t.Context(), run, found))
	}
	gone := []reconcile.Finding{{Key: "1", Class: reconcile.Missing, Lost: true}, {Key: "2", Class: reconcile.FieldDiff}}
	lost := func(want int64, why string) {
		t.Helper()
		run(gone...)
		e, err := s.Snapshot(t.Context(), testMigration)
		must(t, err)
		for _, r := range []*phases.ReconcileResult{e.Reconcile, e.FullReconcile, e.FailedReconcile} {
			if r.LostWrites != want {
				t.Errorf("%s: %d lost writes, want %d", why, r.LostWrites, want)
			}
		}
	}
	gate := func() phases.Verdict {
		t.Helper()
		e, err := s.Snapshot(t.Context(), testMigration)
		must(t, err)
		for _, g := range phases.Gates(cutover5, phases.DefaultSettings(), e) {
			if g.Gate == "no-lost-queue" {
				return g.Verdict
			}
		}
		t.Fatal("no such gate")
		return ""
	}
	lost(1, "no instance has ended uncleanly")
	run()
	if v := gate(); v != phases.Pass {
		t.Errorf("clean: %s", v)
	}
	lapse(t, s, "a")
	_, err := a.Join(t.Context(), dual.Identity{Instance: "a"})
	must(t, err)
	if v := gate(); v != phases.NoData {
		t.Errorf("dirty: %s", v)
	}
	lost(0, "an unacknowledged write of an instance that ended has the same effect")
	run()
	if v := gate(); v != phases.NoData {
		t.Errorf("after a full reconcile that began while the dead instance's writes may still land: %s", v)
	}
	_, err = s.Pool().Exec(t.Context(), `UPDATE migrator.leases SET lost_at = lost_at - interval '10 seconds' WHERE lost_at IS NOT NULL`)
	must(t, err)
	run()
	if v := gate(); v != phases.Pass {
		t.Errorf("after a full reconcile that began later: %s", v)
	}
	lost(1, "a clean run lies between")
}

func TestTheRouteOfALapsedLeaseThatReadsTheTargetAloneIsLive(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	for _, c := range []struct {
		phase phases.Phase
		held  bool
	}{{phases.DualRead, false}, {phases.Cutover, false}, {phases.Grace, false}, {phases.Fenced, true}, {phases.Retain, true}} {
		_, err := s.Pool().Exec(t.Context(), `DELETE FROM migrator.leases`)
		must(t, err)
		percent := 0
		if c.phase.Ramped() {
			percent = 10000
		}
		_, err = s.Pool().Exec(t.Context(), `WITH m AS (UPDATE migrator.migrations SET epoch = epoch + 1, phase = $1, percent = $2 RETURNING name, epoch)
			INSERT INTO migrator.epochs SELECT name, epoch, $1, $2, clock_timestamp() FROM m`, string(c.phase), percent)
		must(t, err)
		join(t, s, "a", pgfleet.Options{})
		lapse(t, s, "a")
		e, err := s.Snapshot(t.Context(), testMigration)
		must(t, err)
		if live := len(e.Fleet.LiveRoutes) > 0; live != c.held || len(e.Fleet.Lapsed) != 1 {
			t.Errorf("%s: live routes %v, lapsed %v; want live: %v", c.phase, e.Fleet.LiveRoutes, e.Fleet.Lapsed, c.held)
		}
	}
}
