package cases

import (
	"errors"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/test/statetest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/store"
)

// leader looks at the target as the daemon does each second.
type leader struct {
	w         *world
	job       *app.Job
	mark      store.Mark
	restarted string
}

// leader claims the target, and confirms a first beat.
func (w *world) leader() *leader {
	w.t.Helper()
	l := &leader{w: w, job: &app.Job{Config: w.m, State: w.state, Legacy: w.legacy, Target: w.target, Schema: w.legacy.Schema()}}
	for range 3 {
		w.check(l.look())
	}
	return l
}

func (l *leader) look() (err error) {
	l.mark, l.restarted, err = l.job.WatchTarget(l.w.ctx, l.mark)
	return err
}

// finds requires that the target counts as lost.
func (l *leader) finds(why string) {
	l.w.t.Helper()
	var lost *app.TargetLostError
	err := l.look()
	if !errors.As(err, &lost) || !strings.Contains(err.Error(), why) {
		l.w.t.Fatalf("%v: want a lost target: %s", err, why)
	}
	if st := l.w.status(); !strings.Contains(st.TargetLost, why) || st.Dirty.IsZero() {
		l.w.t.Errorf("status: %q, unclean from %s", st.TargetLost, st.Dirty)
	}
}

// TestTargetWithoutMark: the target lacks the mark in each way that a target can lose data, while
// reads come from it. The leader returns reads to legacy, no command uses the target, and after a claim
// nothing moves to it again without a full reconcile.
func TestTargetWithoutMark(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lose func(w *world, server *testenv.RedisServer, earlier map[string]string)
		why  string
	}{
		"restarted empty": {func(w *world, server *testenv.RedisServer, _ map[string]string) { w.restartEmpty(server) }, "has no mark"},
		"flushed": {func(w *world, server *testenv.RedisServer, _ map[string]string) {
			redisDo(w.t, server, []any{"FLUSHALL"}, []any{"PING"})
		}, "has no mark"},
		"an older file": {func(w *world, server *testenv.RedisServer, earlier map[string]string) {
			commands := [][]any{{"FLUSHALL"}}
			for key, value := range earlier {
				commands = append(commands, []any{"RESTORE", key, "0", value})
			}
			redisDo(w.t, server, append(commands, []any{"PING"})...)
		}, "is at beat "},
		"another migration's": {func(w *world, _ *testenv.RedisServer, _ map[string]string) {
			other := w.m.Name + "@another-state"
			w.check(w.target.(store.Marker).Claim(w.ctx, store.Mark{Owner: other, Incarnation: "other"}, true))
		}, "belong to another migration"},
	} {
		for _, phase := range []phases.Phase{phases.Cutover, phases.Grace} {
			t.Run(name+" in "+string(phase), func(t *testing.T) {
				t.Parallel()
				w, server := newWorldOnRedis(t)
				l := w.leader()
				a := w.application(setup{marked: true})
				w.upto(phase)
				earlier := dumped(t, server)
				a.mustWrite(1, "acknowledged")
				for range 2 {
					w.check(l.look())
				}
				c.lose(w, server, earlier)
				l.finds(c.why)
				l.finds(c.why) // and no command changes that
				var lost *app.TargetLostError
				if err := l.job.CheckTarget(w.ctx); !errors.As(err, &lost) {
					t.Errorf("a command would use the target: %v", err)
				}
				if at := w.status().Route; at.Phase != phases.DualRead || at.Percent != phases.All {
					t.Errorf("reads come from the target, on %s", at)
				}
				testenv.Await(w.t, "the instance to find it", func() bool { return a.i.Stats().MarkLost })
				if wrong := a.wrongReads(20); len(wrong) > 0 {
					t.Errorf("%d wrong reads, the first: %s", len(wrong), wrong[0])
				}
				a.mustWrite(2, "while the target is not used")
				if n := w.status().JournalKeys; n == 0 {
					t.Error("a write that the target did not get is not journaled")
				}

				claimed, err := l.job.Claim(w.ctx)
				if name == "another migration's" {
					if !errors.Is(err, store.ErrOwned) {
						t.Errorf("claimed from another migration: %v, %v", claimed, err)
					}
					_, err = app.Apply(w.ctx, w.state, w.m, true, app.ColumnFlags{})
					claimed = err == nil
				}
				if err != nil || !claimed {
					t.Fatalf("claim: %v, %v", claimed, err)
				}
				w.check(l.look())
				testenv.Await(w.t, "the instance to use the target again", func() bool { return !a.i.Stats().MarkLost })
				if again, err := l.job.Claim(w.ctx); err != nil || again {
					t.Errorf("claimed twice: %v, %v", again, err)
				}
				_, err = w.controller().Advance(w.ctx, unreconciled())
				var closed *control.GatesClosedError
				if !errors.As(err, &closed) || !strings.Contains(err.Error(), "no-lost-queue") {
					t.Errorf("the advance to a target that lost data: %v", err)
				}
			})
		}
	}
}

// TestTargetIsRestarted: the target comes back with its last beat, and may yet lack what it took after
// that. Reads return to legacy, and the evidence is void.
func TestTargetIsRestarted(t *testing.T) {
	t.Parallel()
	for _, phase := range []phases.Phase{phases.Cutover, phases.Grace, phases.Retain} {
		t.Run(string(phase), func(t *testing.T) {
			t.Parallel()
			server := testenv.Redis(t, testenv.RedisOptions{AppendOnly: true})
			w := newWorld(t, options{targetURL: server.URL()})
			l := w.leader()
			a := w.application(setup{marked: true})
			w.upto(phase)
			for range 3 {
				w.check(l.look())
			}
			if l.restarted != "" {
				t.Fatalf("before: %s", l.restarted)
			}
			w.check(server.Restart(w.ctx))
			testenv.Await(w.t, "a look at the target", func() bool { return l.look() == nil })
			if !strings.Contains(l.restarted, "run id") {
				t.Fatalf("restarted: %q", l.restarted)
			}
			w.check(l.look())
			if l.restarted != "" {
				t.Errorf("at the next look: %q", l.restarted)
			}
			st := w.status()
			want := phases.DualRead
			if phase == phases.Retain {
				want = phases.Retain
			}
			if st.Route.Phase != want || !strings.Contains(st.Unclean, "run id") || st.TargetLost != "" {
				t.Errorf("%s, unclean: %q, lost: %q", st.Route, st.Unclean, st.TargetLost)
			}
			testenv.Await(w.t, "the instance to be on the route", func() bool { return a.i.Route() == st.Route })
			a.mustWrite(3, "after the restart")
			if got := a.read(3); got != "after the restart" {
				t.Errorf("read %q", got)
			}
		})
	}
}

// TestRetainOnTargetWithoutMark: behind the fence there is no other store to read. Writes and reads fail
// rather than rest on what is left; a mark that is there again, whole, ends that.
func TestRetainOnTargetWithoutMark(t *testing.T) {
	t.Parallel()
	w, server := newWorldOnRedis(t)
	l := w.leader()
	a := w.application(setup{marked: true})
	w.upto(phases.Retain)
	a.mustWrite(1, "of retain")
	for range 2 {
		w.check(l.look())
	}
	whole := dumped(t, server)
	redisDo(t, server, []any{"FLUSHALL"}, []any{"PING"})
	l.finds("has no mark")
	if err := a.write(30, "on an emptied target"); !errors.Is(err, dual.ErrTargetLost) {
		t.Errorf("a write: %v", err)
	}
	testenv.Await(w.t, "the instance to find it", func() bool { return a.i.Stats().MarkLost })
	if _, _, err := a.reader.Get(w.ctx, 30); !errors.Is(err, dual.ErrTargetLost) {
		t.Errorf("a read of a record that legacy lacks: %v", err)
	}
	if at := w.status().Route; at.Phase != phases.Retain {
		t.Errorf("the route is %s", at)
	}
	commands := [][]any{}
	for key, value := range whole {
		commands = append(commands, []any{"RESTORE", key, "0", value})
	}
	redisDo(t, server, append(commands, []any{"PING"})...)
	w.check(l.look())
	testenv.Await(w.t, "the instance to find it again", func() bool { return !a.i.Stats().MarkLost })
	a.mustWrite(30, "on the restored target")
	if st := w.status(); st.TargetLost != "" || st.Dirty.IsZero() {
		t.Errorf("restored: lost %q, unclean from %s", st.TargetLost, st.Dirty)
	}
}

// TestInstanceOfAnotherServer: one instance's URL names another Redis. It reads legacy from its
// first operation on, and its writes don't count as the target's.
func TestInstanceOfAnotherServer(t *testing.T) {
	t.Parallel()
	w, _ := newWorldOnRedis(t)
	w.leader()
	a := w.application(setup{marked: true})
	w.upto(phases.Cutover)
	a.mustWrite(1, "acknowledged")
	m := *w.m
	m.Target.URL = testenv.Redis(t).URL()
	elsewhere, err := m.OpenTarget(w.ctx, w.legacy.Schema())
	w.check(err)
	t.Cleanup(func() { _ = elsewhere.Close() })
	b := w.application(setup{name: "astray", marked: true, target: elsewhere})
	if !b.i.Stats().MarkLost {
		t.Error("it has joined, and takes the other server for the target")
	}
	if wrong := b.wrongReads(20); len(wrong) > 0 {
		t.Errorf("%d wrong reads, the first: %s", len(wrong), wrong[0])
	}
	b.mustWrite(2, "by the astray instance")
	if entries, err := elsewhere.Get(w.ctx, keys(2)); err != nil || entries[0].Presence != store.Absent {
		t.Errorf("the other server has %v (%v)", entries, err)
	}
	for _, one := range []*application{a, b} {
		if got := one.read(2); got != "by the astray instance" {
			t.Errorf("read %q", got)
		}
	}
}

// TestStateWentBackOnItsServer: the state database is put back to a copy of its own data, with the
// same identifier, timeline and epoch. Its beats are behind those of the target.
func TestStateWentBackOnItsServer(t *testing.T) {
	t.Parallel()
	w, _ := newWorldOnRedis(t)
	l := w.leader()
	w.application(setup{marked: true})
	w.upto(phases.DualRead)
	for range 3 {
		w.check(l.look())
	}
	if st := w.status(); !st.Dirty.IsZero() {
		t.Fatalf("unclean before: %s", st.Unclean)
	}
	for _, back := range []string{"beat = 1, confirmed = 1", "beat = beat - 1, confirmed = least(confirmed, beat - 1)"} {
		w.run(w.stateURL, "UPDATE migrator.marks SET "+back)
		w.run(w.stateURL, "UPDATE migrator.migrations SET unclean_at = NULL, unclean_why = ''")
		another := &leader{w: w, job: l.job} // as a daemon that starts
		w.check(another.look())
		if st := w.status(); !strings.Contains(st.Unclean, "has lost transactions") {
			t.Errorf("%s: unclean: %q", back, st.Unclean)
		}
		w.check(another.look())
		w.check(l.look())
	}
}

// TestReturnAfterTheStateWentBack: no daemon runs, and the state is put back in retain, without its
// newest keys. The rollback of a command finds it by a beat of its own, and legacy gets every write.
func TestReturnAfterTheStateWentBack(t *testing.T) {
	t.Parallel()
	w, _ := newWorldOnRedis(t)
	w.leader()
	a := w.application(setup{marked: true})
	w.upto(phases.Retain)
	const changed = 5
	for id := range int64(changed) {
		a.mustWrite(id+1, "written in retain")
	}
	w.run(w.stateURL, "DELETE FROM migrator.return_journal WHERE key <> '1'; UPDATE migrator.marks SET beat = 1, confirmed = 1")
	moves, err := app.OpenMoves(w.ctx, w.state, "items", w.m, "test.yaml", false, nil)
	w.check(err)
	defer moves.Close()
	if made, err := moves.Rollback(w.ctx, control.Rollback{Reason: "test"}); err == nil || !strings.Contains(err.Error(), "state database has lost transactions") {
		t.Errorf("the first rollback: %v, %v", made, err)
	}
	if st := w.status(); st.Route.Phase != phases.Retain || !st.ReturnJournalLost {
		t.Errorf("%s, unclean: %q", st.Route, st.Unclean)
	}
	made, err := moves.Rollback(w.ctx, control.Rollback{Reason: "test"})
	w.check(err)
	if last := made[len(made)-1]; last.Phase != phases.DualRead {
		t.Errorf("it ended at %s", last)
	}
	for id := range int64(changed) {
		if got := w.inLegacy(id + 1); got != "written in retain" {
			t.Errorf("legacy has %q under key %d", got, id+1)
		}
	}
}

// TestTwoLeaders: two that look at once disturb neither each other nor the evidence.
func TestTwoLeaders(t *testing.T) {
	t.Parallel()
	w, _ := newWorldOnRedis(t)
	one := w.leader()
	two := &leader{w: w, job: one.job}
	for range 5 {
		w.check(one.look())
		w.check(two.look())
	}
	if st := w.status(); !st.Dirty.IsZero() || st.TargetLost != "" {
		t.Errorf("unclean: %q, lost: %q", st.Unclean, st.TargetLost)
	}
}

// TestCopiedMigrationFile: a second migration would write the first one's keys, of this state
// database or of another. Apply refuses it, and the first one's records stay.
func TestCopiedMigrationFile(t *testing.T) {
	t.Parallel()
	w, _ := newWorldOnRedis(t)
	w.leader()
	w.upto(phases.DualRead)
	w.run(w.legacyURL, "CREATE TABLE others (id bigint PRIMARY KEY, name text)")
	for _, c := range []struct{ name, table, stateURL string }{{"others", "others", w.stateURL}, {"items", "items", statetest.URL(t)}} {
		st, err := state.Open(w.ctx, c.stateURL)
		w.check(err)
		t.Cleanup(st.Close)
		if c.stateURL != w.stateURL { // databases of tests are copies of one
			w.run(c.stateURL, "UPDATE migrator.identity SET id = gen_random_uuid()")
		}
		m := w.fileOf(c.name, c.table)
		_, err = app.Apply(w.ctx, st, m, false, app.ColumnFlags{})
		if !errors.Is(err, store.ErrOwned) || !strings.Contains(err.Error(), "items@") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if err := w.leader().look(); err != nil {
		t.Errorf("the first migration's mark: %v", err)
	}
}

// TestApplyPlacesNoLostMark: once a beat is confirmed, a target without the mark has lost data,
// and apply must not claim it as a new one. Before that it completes a claim that was interrupted.
func TestApplyPlacesNoLostMark(t *testing.T) {
	t.Parallel()
	w, server := newWorldOnRedis(t)
	m := w.fileOf("items", "items")
	_, err := app.Apply(w.ctx, w.state, m, false, app.ColumnFlags{})
	w.check(err)
	w.run(w.stateURL, "UPDATE migrator.marks SET confirmed = 0")
	w.restartEmpty(server)
	_, err = app.Apply(w.ctx, w.state, m, false, app.ColumnFlags{})
	w.check(err)
	w.restartEmpty(server)
	var lost *app.TargetLostError
	if _, err = app.Apply(w.ctx, w.state, m, false, app.ColumnFlags{}); !errors.As(err, &lost) {
		t.Errorf("the target was emptied: %v", err)
	}
}

// dumped is all that a Redis has, as DUMP gives it.
func dumped(t *testing.T, server *testenv.RedisServer) map[string]string {
	t.Helper()
	o, err := goredis.ParseURL(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	client := goredis.NewClient(o)
	defer func() { _ = client.Close() }()
	found, err := client.Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, key := range found {
		if all[key], err = client.Dump(t.Context(), key).Result(); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// TestReturnAfterTheTargetLostNewRecords: a record that was born in retain is in no store once the target
// was emptied. No store shows that it was lost, so each listed key that neither has is counted.
func TestReturnAfterTheTargetLostNewRecords(t *testing.T) {
	t.Parallel()
	w, server := newWorldOnRedis(t)
	l := w.leader()
	a := w.application(setup{marked: true})
	w.upto(phases.Retain)
	a.mustWrite(1, "changed in retain")
	a.mustWrite(100, "born in retain")
	for range 2 {
		w.check(l.look())
	}
	redisDo(t, server, []any{"FLUSHALL"}, []any{"PING"})
	l.finds("has no mark")
	claimed, err := l.job.Claim(w.ctx)
	if err != nil || !claimed {
		t.Fatalf("claim: %v, %v", claimed, err)
	}
	var missing *control.MissingError
	moves, err := w.controller().Rollback(w.ctx, control.Rollback{Reason: "test"})
	if !errors.As(err, &missing) || missing.Missing != 1 || missing.Unproven != 1 || len(moves) != 0 {
		t.Fatalf("%v, %v", moves, err)
	}
	if h, _ := hint.Of(err); len(h.Of) != 1 || h.Of[0] != "2" {
		t.Errorf("hint %+v", h)
	}
	_, err = w.controller().Rollback(w.ctx, control.Rollback{Reason: "test", AcceptMissing: 2})
	w.check(err)
	if st := w.status(); st.Route.Phase != phases.DualRead || st.AcceptedMissing != 0 || st.Unclean == "" {
		t.Errorf("after it: %s, accepted %d, unclean %q", st.Route, st.AcceptedMissing, st.Unclean)
	}
	if got := w.inLegacy(1); got != "item 1" {
		t.Errorf("legacy has %q", got)
	}
}

// TestARunBehindTheFenceDisprovesNoLoss: the target goes back to before the first write of retain. Both stores
// agree then, and legacy has nothing of what was lost: a clean run behind the fence must not make the migration clean, nor
// the return lossless, nor open complete. Only a decider's override with a reason passes into complete.
func TestARunBehindTheFenceDisprovesNoLoss(t *testing.T) {
	t.Parallel()
	w, server := newWorldOnRedis(t)
	l := w.leader()
	a := w.application(setup{marked: true})
	w.upto(phases.Retain)
	earlier := dumped(t, server)
	const changed = 3
	for id := range int64(changed) {
		a.mustWrite(id+1, "written in retain")
	}
	for range 2 {
		w.check(l.look())
	}
	commands := [][]any{{"FLUSHALL"}}
	for key, value := range earlier {
		commands = append(commands, []any{"RESTORE", key, "0", value})
	}
	redisDo(t, server, append(commands, []any{"PING"})...)
	l.finds("is at beat")
	claimed, err := l.job.Claim(w.ctx)
	if err != nil || !claimed {
		t.Fatalf("claim: %v, %v", claimed, err)
	}
	w.pass(time.Duration(w.m.Writing.NotAfter))
	run, _, err := l.job.Reconcile(w.ctx, app.Reconcile{RunOptions: reconcile.RunOptions{Full: true, TwoWay: true}})
	w.check(err)
	if run.Differences+run.Unsettled != 0 {
		t.Fatalf("%+v: this test shows nothing", run)
	}
	st := w.status()
	if r := phases.ClassOf(st); r.Class != phases.Unknown || st.Unclean == "" || !st.TargetDoubted {
		t.Errorf("a rollback is %s, unclean: %q, doubted: %v", r, st.Unclean, st.TargetDoubted)
	}
	forward := control.Advance{Reason: "test", DryRun: true}
	var closed *control.GatesClosedError
	if _, err := w.controller().Advance(w.ctx, forward); !errors.As(err, &closed) || !strings.Contains(err.Error(), "no-lost-queue") {
		t.Errorf("the advance: %v", err)
	}
	forward.Overrides = map[string]string{"no-lost-queue": "the three orders were entered again"}
	if step, err := w.controller().Advance(w.ctx, forward); err != nil || step.To.Phase != phases.Complete {
		t.Errorf("overridden: %s, %v", step.To, err)
	}
	var missing *control.MissingError
	if _, err := w.controller().Rollback(w.ctx, control.Rollback{Reason: "test"}); !errors.As(err, &missing) || missing.Unproven != changed {
		t.Fatal(err)
	}
	_, err = w.controller().Rollback(w.ctx, control.Rollback{Reason: "test", AcceptMissing: changed})
	w.check(err)
	w.pass(time.Duration(w.m.Writing.NotAfter))
	_, _, err = l.job.Reconcile(w.ctx, app.Reconcile{RunOptions: reconcile.RunOptions{Full: true, TwoWay: true}})
	w.check(err)
	if st := w.status(); st.Route.Phase != phases.DualRead || st.Unclean != "" || st.TargetDoubted {
		t.Errorf("after the return and a clean run: %s, unclean: %q, doubted: %v", st.Route, st.Unclean, st.TargetDoubted)
	}
}

// TestClaimBesideAStateLoss: the state went back to grace, an instance has been in retain, and the target
// has lost its mark. No rollback may pass the reported route; the claim is what lets a reclaim begin.
func TestClaimBesideAStateLoss(t *testing.T) {
	t.Parallel()
	w, server := newWorldOnRedis(t)
	l := w.leader()
	w.upto(phases.Grace)
	for range 2 {
		w.check(l.look())
	}
	w.check(w.state.ReportStateLoss(w.ctx, "items", "an instance", phases.Route{Phase: phases.Retain, Epoch: 100}))
	redisDo(t, server, []any{"FLUSHALL"}, []any{"PING"})
	if err := l.look(); !errors.Is(err, store.ErrMarkLost) {
		t.Fatal(err)
	}
	if at := w.status().Route; at.Phase != phases.Grace {
		t.Fatalf("it is on %s: this test shows nothing", at)
	}
	claimed, err := l.job.Claim(w.ctx)
	if err != nil || !claimed {
		t.Fatalf("claim: %v, %v", claimed, err)
	}
	w.check(l.look())
	if st := w.status(); st.Unclean == "" || st.TargetLost != "" {
		t.Errorf("unclean %q, lost %q", st.Unclean, st.TargetLost)
	}
}
