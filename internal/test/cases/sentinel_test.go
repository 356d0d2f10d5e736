package cases

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/store"
)

// sentinelWriter writes its own records, and reads each one back.
type sentinelWriter struct {
	acknowledged map[int64]string // the last name
	unknown      map[int64]string // of a write that failed after it: legacy may have it
	wrong        []wrongRead
	done         atomic.Int64
}

// wrongRead is a read that does not return what was acknowledged before it.
type wrongRead struct {
	began time.Time
	what  string
}

const sentinelKeys = 5 // of each writer

// run writes until ctx ends, and each time under held.
func (s *sentinelWriter) run(ctx context.Context, a *application, first int64, held sync.Locker) {
	s.acknowledged, s.unknown = map[int64]string{}, map[int64]string{}
	for n := 0; ctx.Err() == nil; n++ {
		pauseBriefly(ctx)
		held.Lock()
		s.once(a, first+int64(n%sentinelKeys), fmt.Sprintf("%d of %d", n, first))
		held.Unlock()
	}
}

func (s *sentinelWriter) once(a *application, id int64, name string) {
	if err := a.write(id, name); err != nil {
		s.unknown[id] = name
		return
	}
	s.done.Add(1)
	s.acknowledged[id] = name
	delete(s.unknown, id)
	began := time.Now()
	if v, found, err := a.reader.Get(a.w.ctx, id); err == nil && (!found || v.Name != name) {
		s.wrong = append(s.wrong, wrongRead{began, fmt.Sprintf("key %d reads %q (found: %v), %q was acknowledged", id, v.Name, found, name)})
	}
}

// Records that are written once, from 21 on; those of a replica that lags the master alone has.
const (
	firstOnce = 21
	once      = 5
)

// onceRead returns what is wrong with them.
func (a *application) onceRead() (wrong []string) {
	for id := range int64(once) {
		if got := a.read(firstOnce + id); got != "written once" {
			wrong = append(wrong, fmt.Sprintf("key %d reads %q", firstOnce+id, got))
		}
	}
	return wrong
}

// twice is written in retain before the replica lags, and once more.
const twice = 30

// sentinelFailover is a failover of the target under load.
type sentinelFailover struct {
	*world
	lags    bool
	l       *leader
	a       *application
	writers [4]sentinelWriter
	stop    func() // the writers
	found   time.Time
}

// failOver lets the master end in a phase, and returns when the daemon has found it.
func failOver(t *testing.T, phase phases.Phase, lags bool) *sentinelFailover {
	t.Helper()
	sentinel, err := testenv.StartRedisSentinel(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sentinel.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	w := newWorld(t, options{targetURL: "redis+sentinel://" + sentinel.Addr() + "/" + sentinel.MasterName})
	f := &sentinelFailover{world: w, lags: lags, l: w.leader(), a: w.application(setup{marked: true})}
	if phase == phases.Retain {
		w.upto(phases.Grace)
		f.a.mustWrite(firstOnce, "of grace")
		_, err := w.controller().Advance(w.ctx, unreconciled())
		w.check(err)
		f.a.mustWrite(twice, "first")
	} else {
		w.upto(phase)
	}
	for range 3 {
		w.check(f.l.look())
	}
	if st := w.status(); st.Unclean != "" || f.l.restarted != "" {
		t.Fatalf("before: %q, %q", st.Unclean, f.l.restarted)
	}
	if lags {
		w.check(sentinel.StopReplication(w.ctx))
	}
	ctx, stop := context.WithCancel(w.ctx)
	var running sync.WaitGroup
	f.stop = func() {
		stop()
		running.Wait()
	}
	t.Cleanup(f.stop)
	var held sync.RWMutex
	for i := range f.writers {
		running.Go(func() { f.writers[i].run(ctx, f.a, int64(sentinelKeys*i+1), held.RLocker()) })
	}
	// Beats that the replica that lags does not have.
	for range 3 {
		w.check(f.l.look())
	}
	for id := range int64(once) {
		f.a.mustWrite(firstOnce+id, "written once")
	}
	f.written()
	if phase == phases.Retain {
		f.a.mustWrite(twice, "second")
	}
	if !lags && phase == phases.Retain {
		held.Lock() // replication is asynchronous, and behind the fence no other store has what it lacks
	}
	if !lags {
		w.check(sentinel.Replicated(w.ctx))
	}
	w.check(sentinel.FailOver(w.ctx))
	if !lags && phase == phases.Retain {
		held.Unlock()
	}
	testenv.Await(t, "the daemon to find it", func() bool {
		_ = f.l.look() // a target that does not answer proves nothing
		return w.status().Unclean != ""
	})
	st := w.status()
	if lags != strings.Contains(st.TargetLost, "is at beat") || !lags && !strings.Contains(st.Unclean, "run id") {
		t.Errorf("unclean: %q, lost: %q", st.Unclean, st.TargetLost)
	}
	if lags && phase == phases.Retain {
		testenv.Await(t, "the instance to find it", func() bool { return f.a.i.Stats().MarkLost })
	}
	f.found = time.Now()
	return f
}

// written waits until each writer has written each of its records.
func (f *sentinelFailover) written() {
	f.t.Helper()
	for i := range f.writers {
		s := &f.writers[i]
		enough := s.done.Load() + 2*sentinelKeys
		testenv.Await(f.t, "the writers", func() bool { return s.done.Load() >= enough })
	}
}

// claims lets the target that lost writes be used again: no command does so before.
func (f *sentinelFailover) claims() {
	f.t.Helper()
	if !f.lags {
		return
	}
	var lost *app.TargetLostError
	if err := f.l.job.CheckTarget(f.ctx); !errors.As(err, &lost) {
		f.t.Errorf("a command would use the target: %v", err)
	}
	if claimed, err := f.l.job.Claim(f.ctx); err != nil || !claimed {
		f.t.Fatalf("claim: %v, %v", claimed, err)
	}
}

// legacyHasAcknowledged: legacy has each writer's last writes.
func (f *sentinelFailover) legacyHasAcknowledged() {
	f.t.Helper()
	for i := range f.writers {
		for id, name := range f.writers[i].acknowledged {
			got := f.inLegacy(id)
			if got != name && got != f.writers[i].unknown[id] {
				f.t.Errorf("key %d: legacy has %q, %q was acknowledged", id, got, name)
			}
		}
	}
}

// repaired compares the stores after a full reconcile with repair.
func (f *sentinelFailover) repaired() reconcile.Run {
	f.t.Helper()
	f.pass(time.Duration(f.m.Writing.NotAfter))
	run, _, err := f.l.job.Reconcile(f.ctx, app.Reconcile{RunOptions: reconcile.RunOptions{Full: true, TwoWay: true, Repair: true, Force: "a test"}})
	f.check(err)
	for id := range int64(twice) {
		if a, b := f.inLegacy(id+1), f.inTarget(id+1); a != b {
			f.t.Errorf("key %d: repaired, legacy has %q and the target %q", id+1, a, b)
		}
	}
	return run
}

func (f *sentinelFailover) noStepForward() {
	f.t.Helper()
	forward := unreconciled()
	if f.status().Route.Phase == phases.Retain {
		forward.Overrides = nil // complete does not have that gate
	}
	var closed *control.GatesClosedError
	if _, err := f.controller().Advance(f.ctx, forward); !errors.As(err, &closed) || !strings.Contains(err.Error(), "no-lost-queue") {
		f.t.Fatalf("the advance to a target that was failed over: %v", err)
	}
}

// whileLegacyHasAll: no read goes back in time; the daemon's look marks the migration unclean with the cause, reads come
// from legacy, and no step forward is taken until a full reconcile; that finds and repairs what is missing.
func whileLegacyHasAll(t *testing.T, phase phases.Phase, lags bool) {
	f := failOver(t, phase, lags)
	if st := f.status(); st.Route.Phase != phases.DualRead || st.Route.Percent != phases.All {
		t.Errorf("reads come from the target, on %s", st.Route)
	}
	if wrong := f.a.onceRead(); len(wrong) > 0 {
		t.Errorf("%d wrong reads, the first: %s", len(wrong), wrong[0])
	}
	f.claims()
	testenv.Await(t, "writes to reach the promoted server", func() bool {
		f.a.mustWrite(26, "after the failover")
		entries, err := f.target.Get(f.ctx, keys(26))
		return err == nil && entries[0].Presence == store.Live && entries[0].Record[1].Text == "after the failover"
	})
	f.stop()
	f.noStepForward()
	if run := f.repaired(); lags && run.Differences < once {
		t.Errorf("%d differences: the replica lacked %d records", run.Differences, once)
	}
	for i := range f.writers {
		for _, wrong := range f.writers[i].wrong {
			t.Error(wrong.what)
		}
	}
	f.legacyHasAcknowledged()
}

// behindTheFence: legacy can't answer. From a replica that lacks writes nothing is read, and nothing is written to it, from
// when that is found until an operator claims it. The return counts the records of which no write since the fence is left. Nothing
// that is compared behind the fence makes the migration clean or the return lossless: legacy does not have what was lost.
// A replica in sync loses nothing.
func behindTheFence(t *testing.T, lags bool) {
	f := failOver(t, phases.Retain, lags)
	if at := f.status().Route; at.Phase != phases.Retain {
		t.Fatalf("the route is %s", at)
	}
	if lags {
		for id := range int64(once) {
			if v, found, err := f.a.reader.Get(f.ctx, firstOnce+id); !errors.Is(err, dual.ErrTargetLost) {
				t.Errorf("key %d reads %q (found: %v), %v", firstOnce+id, v.Name, found, err)
			}
		}
		if err := f.a.write(firstOnce, "on a replica that lags"); !errors.Is(err, dual.ErrTargetLost) {
			t.Errorf("a write: %v", err)
		}
		if _, err := app.OpenMoves(f.ctx, f.state, "items", f.m, "test.yaml", false, nil); !errors.As(err, new(*app.TargetLostError)) {
			t.Errorf("a rollback would use the target: %v", err)
		}
	} else if wrong := f.a.onceRead(); len(wrong) > 0 {
		t.Errorf("%d wrong reads, the first: %s", len(wrong), wrong[0])
	}
	f.claims()
	f.written() // on the promoted server
	f.stop()

	f.pass(time.Duration(f.m.Writing.NotAfter))
	run, _, err := f.l.job.Reconcile(f.ctx, app.Reconcile{RunOptions: reconcile.RunOptions{Full: true, TwoWay: true}})
	f.check(err)
	st := f.status()
	if r := phases.ClassOf(st); r.Class != phases.Unknown || st.Unclean == "" {
		t.Errorf("after a run with %d differences behind the fence: a rollback is %s, unclean: %q", run.Differences, r, st.Unclean)
	}
	f.noStepForward()
	accepted := int64(0)
	if lags {
		accepted = once
		var missing *control.MissingError
		moves, err := f.controller().Rollback(f.ctx, control.Rollback{Reason: "test"})
		if !errors.As(err, &missing) || missing.Missing+missing.Unproven != once || len(moves) != 0 {
			t.Fatalf("%v, %v", moves, err)
		}
	}
	moves, err := f.controller().Rollback(f.ctx, control.Rollback{Reason: "test", AcceptMissing: accepted})
	f.check(err)
	if st := f.status(); st.Route.Phase != phases.DualRead || st.Unclean == "" {
		t.Errorf("after %v: %s, unclean: %q", moves, st.Route, st.Unclean)
	}
	for i := range f.writers {
		for _, wrong := range f.writers[i].wrong {
			if !lags || wrong.began.After(f.found) {
				t.Error(wrong.what)
			}
		}
	}
	f.legacyHasAcknowledged()
	want := map[int64]string{twice: "second"}
	for id := range int64(once) {
		want[firstOnce+id] = "written once"
		if lags {
			want[firstOnce+id] = none
		}
	}
	if lags {
		want[firstOnce], want[twice] = "of grace", "first"
	}
	for id, name := range want {
		if got := f.inLegacy(id); got != name {
			t.Errorf("key %d: legacy has %q, want %q", id, got, name)
		}
	}
	f.noStepForward()
	f.repaired()
}

// TestSentinelPromotesAReplica while instances read and write the target: the master ends, and the replica that takes its
// place has all that was acknowledged, or lacks the last writes.
func TestSentinelPromotesAReplica(t *testing.T) {
	t.Parallel()
	t.Run("that lags, in cutover", func(t *testing.T) {
		t.Parallel()
		whileLegacyHasAll(t, phases.Cutover, true)
	})
	t.Run("that lags, in retain", func(t *testing.T) {
		t.Parallel()
		behindTheFence(t, true)
	})
}

// TestTortureSentinelPromotesAReplica has the other phases.
func TestTortureSentinelPromotesAReplica(t *testing.T) {
	t.Parallel()
	onlyLong(t)
	for name, run := range map[string]func(t *testing.T){
		"in sync, in cutover": func(t *testing.T) { whileLegacyHasAll(t, phases.Cutover, false) },
		"in sync, in grace":   func(t *testing.T) { whileLegacyHasAll(t, phases.Grace, false) },
		"that lags, in grace": func(t *testing.T) { whileLegacyHasAll(t, phases.Grace, true) },
		"in sync, in retain":  func(t *testing.T) { behindTheFence(t, false) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t)
		})
	}
}
