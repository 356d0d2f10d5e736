package dual

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

func TestTargetFailureSucceedsWhileNoInstanceReadsTarget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.DualRead)), newTarget(), newLegacy(), adjust{})
		settle()
		p.target.do(func() { p.target.broken = errDown })
		began := time.Now()
		p.mustPut(1, 1)
		if took := time.Since(began); took > time.Second {
			t.Fatalf("took %s, over the deadline", took)
		}
		if s := p.Stats(); len(p.fleet.Journaled()) != 1 || s.EmergencyRollbacks != 0 || s.TargetFailures != 1 {
			t.Fatalf("%+v", s)
		}
		_ = p.stop()
	})
}

func TestEmergencyRollbackWaitsUntilNoInstanceReadsTarget(t *testing.T) {
	t.Parallel()
	bubble(t, "settled", func(t *testing.T) {
		f, target, legacy := newFleet(route(phases.Cutover)), newTarget(), newLegacy()
		a := newTestInstance(t, f, target, legacy, adjust{})
		b := newTestInstance(t, f, target, legacy, adjust{})
		a.mustPut(1, 1)
		settle()
		target.do(func() { target.onApply = func(context.Context) error { return errDown } })
		a.mustPut(1, 2)
		if a.Route().Phase != phases.DualRead || b.Route().Phase != phases.DualRead {
			t.Fatalf("routes %v, %v", a.Route(), b.Route())
		}
		if got := b.get(1); got != 2 {
			t.Fatalf("the other instance reads %d", got)
		}
		if s := a.Stats(); s.EmergencyRollbacks != 1 || s.Unsettled != 0 {
			t.Fatalf("%+v", s)
		}
		_, _ = a.stop(), b.stop()
	})
	bubble(t, "one does not settle in the budget", func(t *testing.T) {
		f, target, legacy := newFleet(route(phases.Cutover)), newTarget(), newLegacy()
		a := newTestInstance(t, f, target, legacy, adjust{})
		b := newTestInstance(t, f, target, legacy, adjust{idle: true}) // it is not renewed
		a.mustPut(1, 1)
		settle()
		target.do(func() { target.onApply = func(context.Context) error { return errDown } })
		began := time.Now()
		a.mustPut(1, 2)
		if took := time.Since(began); took < time.Second || took > 2*time.Second {
			t.Fatalf("took %s", took)
		}
		if s := a.Stats(); s.Unsettled != 1 {
			t.Fatalf("%+v", s)
		}
		if v := b.get(1); v != 1 {
			t.Fatalf("reads %d", v)
		}
		_ = a.stop()
	})
	bubble(t, "a write in flight does not block its own rollback", func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.Grace)), newTarget(), newLegacy(), adjust{config: func(c *Config) { c.Writing.RollbackBudget = time.Hour }})
		settle()
		p.target.do(func() { p.target.broken = errDown })
		began := time.Now()
		p.mustPut(1, 2)
		if took := time.Since(began); took > 1100*time.Millisecond {
			t.Fatalf("took %s", took)
		}
		_ = p.stop()
	})
	bubble(t, "the rollback can't be committed", func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.Grace)), newTarget(), newLegacy(), adjust{})
		settle()
		p.target.do(func() { p.target.broken = errDown })
		p.fleet.do(func() { p.fleet.result = &JournalResult{TargetRead: true}; p.fleet.outage = errDown })
		var e *TargetError
		if err := p.put(1, 2); !errors.As(err, &e) || !e.Legacy {
			t.Fatalf("got %v", err)
		}
		_ = p.stop()
	})
}

func TestRetriesEndWhenTheRouteIsReplaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.Cutover)), newTarget(), newLegacy(), adjust{config: func(c *Config) { c.Writing.Deadline = time.Minute }})
		settle()
		p.target.do(func() { p.target.broken = errDown })
		done := make(chan error)
		go func() { done <- p.put(1, 1) }()
		tick(3 * time.Second)
		began := time.Now()
		p.fleet.move(phases.DualRead, phases.All)
		if err := <-done; err != nil || time.Since(began) > 10*time.Millisecond {
			t.Fatalf("%v after %s", err, time.Since(began))
		}
		_ = p.stop()
	})
}

func TestDegradeReadsTheRecordFromLegacy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.Grace)), newTarget(), newLegacy(), adjust{config: func(c *Config) { c.Writing.OnTargetFailure = Degrade }})
		p.mustPut(1, 1)
		p.mustPut(2, 1)
		p.target.do(func() { p.target.onApply = func(context.Context) error { return errDown } })
		p.mustPut(1, 2)
		if got := p.get(1); got != 2 {
			t.Fatalf("reads %d", got)
		}
		if got := p.get(2); got != 1 || p.legacy.reads != 1 {
			t.Fatalf("reads %d; %d legacy reads", got, p.legacy.reads)
		}
		if s := p.Stats(); s.Degraded != 1 || s.DegradedRead != 1 || p.Route().Phase != phases.Grace {
			t.Fatalf("%+v", s)
		}
		// The repair of the journal writes the missing version: the target may answer again.
		p.target.do(func() { p.target.entries[1] = Versioned[int]{3, true, record.MakeVersion(1, 1, 4)} })
		if got := p.get(1); got != 3 || p.degraded.some.Load() {
			t.Fatalf("reads %d", got)
		}
		_ = p.stop()
	})
}

func TestFailReportsThatLegacyHasTheWrite(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		phase  phases.Phase
		policy Policy
		fleet  func(*memoryFleet)
	}{
		"policy":     {phases.Grace, Fail, func(*memoryFleet) {}},
		"state down": {phases.Grace, RollBack, func(f *memoryFleet) { f.outage = errDown }},
		"state down, no instance reads the target": {phases.DualRead, RollBack, func(f *memoryFleet) { f.outage = errDown }},
		"once fenced": {phases.Grace, RollBack, func(f *memoryFleet) { f.result = &JournalResult{Fenced: true} }},
	} {
		bubble(t, name, func(t *testing.T) {
			p := newTestInstance(t, newFleet(route(c.phase)), newTarget(), newLegacy(), adjust{config: func(k *Config) { k.Writing.OnTargetFailure = c.policy }})
			settle()
			p.target.do(func() { p.target.broken = errDown })
			p.fleet.do(func() { c.fleet(p.fleet) })
			err := p.put(1, 7)
			var e *TargetError
			if !errors.As(err, &e) || !e.Legacy || len(e.Keys) != 1 || e.Keys[0] != "1" || !errors.Is(err, errDown) {
				t.Fatalf("got %v", err)
			}
			if p.legacy.values[1] != 7 {
				t.Fatal("legacy has it not")
			}
			// Keys that could not be journaled are journaled once the state is reachable.
			p.fleet.do(func() { p.fleet.outage = nil })
			tick(5 * time.Second)
			if _, ok := p.fleet.Journaled()["1"]; !ok && name != "once fenced" {
				t.Fatal("not journaled")
			}
			if err := p.stop(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestLapsedWriterFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, phase := range []phases.Phase{phases.DualRead, phases.Cutover, phases.Grace} {
			p := newTestInstance(t, newFleet(route(phase)), newTarget(), newLegacy(), adjust{idle: true})
			p.mustPut(1, 1)
			p.skip(time.Minute)
			p.mustPut(1, 2)
			if v, _ := p.target.value(1); v != 2 {
				t.Errorf("%s: lapsed, and the target was not written", phase)
			}
			p.target.do(func() { p.target.broken = errDown })
			var e *TargetError
			if err := p.put(1, 3); !errors.As(err, &e) || !errors.Is(err, ErrLeaseLost) {
				t.Errorf("%s: got %v", phase, err)
			}
			if p.fleet.rollbacks != 0 || len(p.fleet.Journaled()) != 1 {
				t.Errorf("%s: %d rollbacks, journal %v", phase, p.fleet.rollbacks, p.fleet.Journaled())
			}
		}
	})
}

// TestDegradedDeleteOfAbsentKeyIsNotUndoneByARead: the target missed the delete of a key
// that legacy lacks. Its old record is no answer, however often it is read.
func TestDegradedDeleteOfAbsentKeyIsNotUndoneByARead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.Grace)), newTarget(), newLegacy(), adjust{config: func(c *Config) { c.Writing.OnTargetFailure = Degrade }})
		p.mustPut(1, 1)
		p.legacy.mu.Lock()
		delete(p.legacy.values, 1) // a delete that the target missed
		p.legacy.mu.Unlock()
		p.target.do(func() { p.target.onApply = func(context.Context) error { return errDown } })
		if err := p.writer.Delete(t.Context(), 1, p.legacy.remove(1)); err != nil {
			t.Fatal(err)
		}
		p.target.do(func() { p.target.onApply = nil })
		for range 3 {
			if v, found, err := p.reader.Get(t.Context(), 1); err == nil && found {
				t.Fatalf("the deleted record is read: %v", v)
			}
		}
		p.target.do(func() { delete(p.target.entries, 1) }) // the repair
		_, _, _ = p.reader.Get(t.Context(), 1)
		if p.degraded.some.Load() {
			t.Error("the record is still read from legacy after the repair")
		}
		_ = p.stop()
	})
}

// TestTooManyDegradedRecords: those beyond the limit are not known one by one. So no record is read from the
// target, also once it has all that are known.
func TestTooManyDegradedRecords(t *testing.T) {
	t.Parallel()
	var d degraded
	entries := make([]JournalEntry, degradedKeys+1)
	for n := range entries {
		entries[n].Key = record.Key(strconv.Itoa(n))
	}
	d.add(entries)
	for _, e := range entries {
		d.caughtUp(e.Key, e.Version, true, true)
	}
	if _, behind, _ := d.missing(entries[degradedKeys].Key); !behind || !d.some.Load() {
		t.Error("the target may answer for a record that it lacks")
	}
	d.clear()
	if _, behind, _ := d.missing(entries[0].Key); behind || d.some.Load() {
		t.Error("a record is behind after the route has changed")
	}
}

// TestNoWriteIsAcknowledgedOnAStateThatForgot: the journal's answer is of an older epoch,
// where the target was not read yet.
func TestNoWriteIsAcknowledgedOnAStateThatForgot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(route(phases.Cutover))
		p := newTestInstance(t, f, newTarget(), newLegacy(), adjust{})
		older := route(phases.ShadowWrite)
		older.Epoch = p.Route().Epoch - 1
		f.result = &JournalResult{Route: older}
		p.target.do(func() { p.target.onApply = func(context.Context) error { return errDown } })
		var missed *TargetError
		if err := p.put(1, 1); !errors.As(err, &missed) || !missed.Legacy {
			t.Errorf("%v, want an error that legacy has the write", err)
		}
		f.result = nil
		_ = p.stop()
	})
}

// TestChangeOfUnknownOutcomeDuringJournalingStays: two changes of one key without a
// version, the second while the first is being journaled.
func TestChangeOfUnknownOutcomeDuringJournalingStays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.Grace)), newTarget(), newLegacy(), adjust{})
		var q pending
		q.init()
		var one pin
		p.pinWrite(&one)
		q.add(&one, []JournalEntry{{Key: "1"}}, true)
		b := q.batch()
		q.add(&one, []JournalEntry{{Key: "1"}}, true)
		q.remove(b)
		if q.len() != 1 {
			t.Error("the second change was dropped with the first")
		}
		q.remove(q.batch())
		if q.len() != 0 {
			t.Error("a journaled change stays")
		}
		one.release()
		_ = p.stop()
	})
}
