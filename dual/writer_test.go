package dual

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

func TestWritesFollowTheRoute(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		phase          phases.Phase
		legacy, target bool
	}{
		{phases.Legacy, true, false},
		{phases.ShadowWrite, true, true},
		{phases.DualRead, true, true},
		{phases.Cutover, true, true},
		{phases.Grace, true, true},
		{phases.Retain, false, true},
		{phases.Complete, false, true},
	} {
		bubble(t, string(c.phase), func(t *testing.T) {
			p := newTestInstance(t, newFleet(route(c.phase)), newTarget(), newLegacy(), adjust{})
			p.mustPut(1, 42)
			settle()
			if _, ok := p.legacy.values[1]; ok != c.legacy {
				t.Errorf("in legacy: %v", ok)
			}
			if _, ok := p.target.value(1); ok != c.target {
				t.Errorf("in the target: %v", ok)
			}
			if err := p.writer.Delete(t.Context(), 1, p.legacy.put(1, 0)); err != nil {
				t.Fatal(err)
			}
			settle()
			if _, ok := p.target.value(1); ok {
				t.Error("deleted, and the target has it")
			}
			if s := p.Stats(); s.Writes != 2 || s.Failed != 0 || s.InFlight != 0 {
				t.Errorf("%+v", s)
			}
			if err := p.stop(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestLegacyErrorIsReturnedAsItIsAndNothingApplied(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mine := errors.New("unique violation")
		for _, phase := range []phases.Phase{phases.Legacy, phases.ShadowWrite, phases.DualRead} {
			p := newTestInstance(t, newFleet(route(phase)), newTarget(), newLegacy(), adjust{})
			err := p.writer.Write(t.Context(), Op[int, int]{Legacy: func(context.Context) ([]Change[int, int], error) {
				return []Change[int, int]{{Key: 1, Value: 1, Version: record.MakeVersion(0, 0, 1)}}, mine
			}})
			settle()
			if err != mine || p.target.applies != 0 || len(p.fleet.Journaled()) != 0 { //nolint:errorlint // as it is
				t.Errorf("%s: %v, %d applies", phase, err, p.target.applies)
			}
			_ = p.stop()
		}
	})
}

func TestUncertainLegacyWriteIsJournaled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.Cutover)), newTarget(), newLegacy(), adjust{writer: func(c *WriterConfig[int, int]) {
			c.Uncertain = func(err error) bool { return errors.Is(err, errDown) }
		}})
		err := p.writer.Put(t.Context(), 5, 1, func(context.Context) (record.Version, error) { return record.Version{}, errDown })
		settle()
		if _, ok := p.fleet.Journaled()["5"]; !ok || !errors.Is(err, errDown) {
			t.Fatalf("%v, journal %v", err, p.fleet.Journaled())
		}
		// The application knows that it failed: no acknowledged write is missing in the target.
		if tick(time.Second); p.Route().Phase != phases.Cutover {
			t.Errorf("rolled back to %s", p.Route())
		}
		_ = p.stop()
	})
}

func TestCanceledCallerStillWritesTheTarget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.Cutover)), newTarget(), newLegacy(), adjust{})
		p.target.onApply = func(ctx context.Context) error { return ctx.Err() }
		ctx, cancel := context.WithCancel(t.Context())
		p.legacy.after = cancel
		if err := p.writer.Put(ctx, 1, 1, p.legacy.put(1, 1)); err != nil {
			t.Fatal(err)
		}
		p.target.do(func() { p.target.broken = errDown })
		ctx, cancel = context.WithCancel(t.Context())
		p.legacy.after = cancel
		if err := p.writer.Put(ctx, 2, 2, p.legacy.put(2, 2)); err != nil {
			t.Fatal(err)
		}
		if _, ok := p.fleet.Journaled()["2"]; !ok {
			t.Fatal("not journaled")
		}
		_ = p.stop()
	})
}

func TestFrozenWriterNeverExtendsNotAfter(t *testing.T) {
	t.Parallel()
	for _, ahead := range []time.Duration{0, -time.Hour, time.Hour} {
		bubble(t, ahead.String(), func(t *testing.T) {
			target := newTarget()
			target.ahead = ahead
			p := newTestInstance(t, newFleet(route(phases.DualRead)), target, newLegacy(), adjust{})
			settle()
			p.legacy.after = func() { tick(11 * time.Second) } // frozen after the commit
			began := time.Now().Add(ahead)
			p.mustPut(1, 1) // no instance reads the target: journaled and acknowledged
			if limit := began.Add(10 * time.Second); target.last.NotAfter.After(limit) {
				t.Fatalf("not after %s, want at most %s", target.last.NotAfter, limit)
			}
			if _, ok := target.value(1); ok {
				t.Fatal("the target took a change after its time")
			}
			if _, ok := p.fleet.Journaled()["1"]; !ok {
				t.Fatal("not journaled")
			}
			_ = p.stop()
		})
	}
}

// TestWriteKeepsItsRoute: the migration moves back to shadow-write while a write of dual-read is
// under way. Others may still read the target, so that write waits for it all the same.
func TestWriteKeepsItsRoute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.DualRead)), newTarget(), newLegacy(), adjust{})
		settle()
		taken, hold := make(chan struct{}), make(chan struct{})
		p.target.onApply = func(context.Context) error { close(taken); <-hold; return nil }
		p.legacy.after = func() {
			p.fleet.move(phases.ShadowWrite, 0)
			tick(10 * time.Second)
			if at := p.Route(); at.Phase != phases.ShadowWrite {
				t.Errorf("the instance is on %s", at)
			}
		}
		written := make(chan error, 1)
		go func() { written <- p.writer.Put(t.Context(), 1, 2, p.legacy.put(1, 2)) }()
		<-taken
		settle()
		select {
		case err := <-written:
			t.Errorf("acknowledged before the target has it: %v", err)
			written <- err
		default:
		}
		if got := p.fleet.acknowledged(p.Instance); got != 1 {
			t.Errorf("epoch %d is acknowledged beside it", got)
		}
		close(hold)
		if err := <-written; err != nil {
			t.Error(err)
		}
		_ = p.stop()
	})
}

// TestRetriesKeepNotAfter: each attempt carries the time of the first, whatever the pauses.
func TestRetriesKeepNotAfter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.DualRead)), newTarget(), newLegacy(), adjust{})
		settle()
		var first, last time.Time
		attempts := 0
		p.target.afterApply = func() error {
			p.target.do(func() { last = p.target.last.NotAfter })
			if attempts++; attempts == 1 {
				first = last
			}
			if attempts < 3 {
				return errDown // its outcome is unknown, so it is tried again
			}
			return nil
		}
		if err := p.writer.Put(t.Context(), 1, 2, p.legacy.put(1, 2)); err != nil {
			t.Fatal(err)
		}
		if attempts != 3 || !last.Equal(first) {
			t.Errorf("%d attempts, the first not after %s, the last not after %s", attempts, first, last)
		}
		_ = p.stop()
	})
}

func TestNotAfterIsNeverLateEvenOnAnOldSample(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.DualRead)), newTarget(), newLegacy(), adjust{idle: true})
		p.mustPut(1, 1)
		tick(50 * time.Second)
		p.mustPut(1, 2)
		limit := time.Now().Add(10 * time.Second)
		if got := p.target.last.NotAfter; got.After(limit) || limit.Sub(got) > time.Second {
			t.Fatalf("not after %s, the limit is %s", got, limit)
		}
	})
}

func TestEpochIsAcknowledgedOnlyAfterQueueDrained(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		p := newTestInstance(t, newFleet(route(phases.ShadowWrite)), newTarget(), newLegacy(), adjust{})
		settle()
		p.target.do(func() { p.target.onApply = func(context.Context) error { <-hold; return nil } })
		for k := range 20 {
			p.mustPut(k, k)
		}
		p.fleet.move(phases.DualRead, 100)
		settle()
		if pinned, got := p.Route().Epoch, p.fleet.acknowledged(p.Instance); pinned != 2 || got != 1 {
			t.Fatalf("pinned %d, acknowledged %d with %d background writes", pinned, got, p.Stats().InFlight)
		}
		close(hold)
		settle()
		if got := p.fleet.acknowledged(p.Instance); got != 2 {
			t.Fatalf("acknowledged %d", got)
		}
		for k := range 20 {
			if v, _ := p.target.value(k); v != k {
				t.Fatalf("target has %d for %d", v, k)
			}
		}
		_ = p.stop()
	})
}

func TestFullQueueOverflowsToTheJournal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		p := newTestInstance(t, newFleet(route(phases.ShadowWrite)), newTarget(), newLegacy(), adjust{config: func(c *Config) { c.Writing.Queue, c.Workers = 2, 1 }})
		settle()
		p.target.do(func() { p.target.onApply = func(context.Context) error { <-hold; return nil } })
		for k := range 10 {
			p.mustPut(k, k)
			settle()
		}
		if s, j := p.Stats(), p.fleet.Journaled(); len(j) != 7 || s.Overflowed != 7 || s.Queue != 2 || s.Journaled != 7 {
			t.Fatalf("journal %v, %+v", j, s)
		}
		close(hold)
		settle()
		if err := p.stop(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestFailedBackgroundWriteIsJournaled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.ShadowWrite)), newTarget(), newLegacy(), adjust{})
		settle()
		p.target.do(func() { p.target.broken = errDown })
		p.mustPut(1, 1)
		p.mustPut(1, 2)
		tick(2 * time.Second)
		if j := p.fleet.Journaled(); j["1"] != record.MakeVersion(1, 1, 2) {
			t.Fatalf("journal %v", j)
		}
		if s := p.Stats(); s.InFlight != 0 || s.Failed != 0 {
			t.Fatalf("%+v", s)
		}
		_ = p.stop()
	})
}

func TestQueuedWriteIsNeverDroppedSilently(t *testing.T) {
	t.Parallel()
	bubble(t, "state comes back", func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.ShadowWrite)), newTarget(), newLegacy(), adjust{})
		settle()
		p.target.do(func() { p.target.broken = errDown })
		p.fleet.do(func() { p.fleet.outage = errDown })
		p.mustPut(1, 1)
		tick(5 * time.Minute)
		if s := p.Stats(); s.Pending != 1 || s.InFlight != 1 {
			t.Fatalf("%+v", s)
		}
		p.fleet.do(func() { p.fleet.outage = nil })
		tick(5 * time.Second)
		if s, j := p.Stats(), p.fleet.Journaled(); s.Pending != 0 || s.InFlight != 0 || len(j) != 1 {
			t.Fatalf("journal %v, %+v", j, s)
		}
		tick(5 * time.Second)
		if err := p.stop(); err != nil {
			t.Fatal(err)
		}
	})
	bubble(t, "state stays away", func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.ShadowWrite)), newTarget(), newLegacy(), adjust{})
		settle()
		p.target.do(func() { p.target.broken = errDown })
		p.mustPut(1, 1)
		p.fleet.do(func() { p.fleet.outage = errDown })
		if err := p.stop(); err == nil || len(p.fleet.leases) != 1 {
			t.Fatalf("%v: must not leave cleanly with a write that neither store nor journal has", err)
		}
	})
	bubble(t, "journal closed", func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.ShadowWrite)), newTarget(), newLegacy(), adjust{})
		settle()
		p.target.do(func() { p.target.broken = errDown })
		p.fleet.do(func() { p.fleet.result = &JournalResult{Fenced: true} })
		p.mustPut(1, 1)
		tick(5 * time.Second)
		if s := p.Stats(); s.Abandoned != 1 {
			t.Fatalf("%+v", s)
		}
		if err := p.stop(); err == nil || len(p.fleet.leases) != 1 {
			t.Fatalf("%v: must not leave cleanly", err)
		}
	})
	bubble(t, "journal closed, after a later write of unknown outcome", func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.ShadowWrite)), newTarget(), newLegacy(), adjust{writer: func(c *WriterConfig[int, int]) {
			c.Uncertain = func(error) bool { return true }
		}})
		settle()
		p.target.do(func() { p.target.broken = errDown })
		p.fleet.do(func() { p.fleet.outage = errDown })
		p.mustPut(1, 1)
		tick(2 * time.Second)
		_ = p.writer.Put(t.Context(), 1, 2, func(context.Context) (record.Version, error) { return record.Version{}, errDown })
		p.fleet.do(func() { p.fleet.outage, p.fleet.result = nil, &JournalResult{Fenced: true} })
		tick(5 * time.Second)
		if s := p.Stats(); s.Abandoned != 1 || s.Pending != 0 {
			t.Fatalf("%+v", s)
		}
		if err := p.stop(); err == nil || len(p.fleet.leases) != 1 {
			t.Fatalf("%v: must not leave cleanly", err)
		}
	})
}

func TestLapsedInstanceInShadowWriteWritesBothBeforeItAcknowledges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.ShadowWrite)), newTarget(), newLegacy(), adjust{idle: true})
		p.legacy.after = func() { p.skip(time.Minute) } // thawed after the commit
		p.mustPut(1, 1)
		if v, ok := p.target.value(1); !ok || v != 1 {
			t.Fatal("acknowledged before the target has it")
		}
		p.target.do(func() { p.target.broken = errDown })
		var e *TargetError
		if err := p.put(1, 2); !errors.As(err, &e) || !e.Legacy {
			t.Fatalf("got %v", err)
		}
	})
}
