package dual

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stranglerfig/migrator/phases"
)

func route(p phases.Phase) phases.Route {
	r := phases.Route{Phase: p}
	if p.Ramped() {
		r.Percent = phases.All
	}
	return r
}

// bubble runs a test in a synctest bubble, with its own clock.
func bubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

func settle() { synctest.Wait() }

func tick(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestFirstJoinMustSucceed(t *testing.T) {
	t.Parallel()
	f := newFleet(route(phases.Legacy))
	f.outage = errDown
	if _, err := Join(t.Context(), Config{Fleet: f}); !errors.Is(err, errDown) {
		t.Fatalf("got %v", err)
	}
	if _, err := Join(t.Context(), Config{}); err == nil {
		t.Fatal("no fleet: want an error")
	}
	if _, err := Join(t.Context(), Config{Fleet: f, Writing: Writing{OnTargetFailure: "hope"}}); err == nil || !strings.Contains(err.Error(), "hope") {
		t.Fatalf("got %v", err)
	}
}

func TestUnknownPhaseIsRefused(t *testing.T) {
	t.Parallel()
	f := newFleet(phases.Route{Phase: "sideways"})
	if _, err := Join(t.Context(), Config{Fleet: f}); err == nil || len(f.leases) != 0 {
		t.Fatalf("err %v, leases %v", err, f.leases)
	}
}

func TestIdleInstanceAcknowledgesAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.Legacy)), newTarget(), newLegacy(), adjust{})
		settle()
		began := time.Now()
		p.fleet.move(phases.ShadowWrite, 0)
		settle()
		if got := p.fleet.acknowledged(p.Instance); got != 2 || time.Since(began) != 0 {
			t.Fatalf("acknowledged %d after %s, want 2 at once", got, time.Since(began))
		}
		if err := p.stop(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestRenewalDeliversAMissedNotification(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(route(phases.Legacy))
		f.noHints = true
		p := newTestInstance(t, f, newTarget(), newLegacy(), adjust{})
		settle()
		f.move(phases.ShadowWrite, 0)
		settle()
		if got := p.Route().Epoch; got != 1 {
			t.Fatalf("epoch %d without notification or renewal", got)
		}
		tick(6 * time.Second)
		if got := f.acknowledged(p.Instance); got != 2 {
			t.Fatalf("acknowledged %d", got)
		}
		_ = p.stop()
	})
}

func TestEpochIsAcknowledgedAfterOlderOperationsDrain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hold, started := make(chan struct{}), make(chan struct{}, 2)
		p := newTestInstance(t, newFleet(route(phases.Legacy)), newTarget(), newLegacy(), adjust{reader: func(c *ReaderConfig[int, int]) {
			c.Legacy = func(context.Context, int) (int, bool, error) {
				started <- struct{}{}
				<-hold
				return 0, false, nil
			}
		}})
		settle()
		go func() { _, _, _ = p.reader.Get(t.Context(), 1) }()
		<-started
		p.fleet.move(phases.ShadowWrite, 0)
		settle()
		if pinned, got := p.Route().Epoch, p.fleet.acknowledged(p.Instance); pinned != 2 || got != 1 {
			t.Fatalf("pinned %d, acknowledged %d; want 2, 1", pinned, got)
		}
		p.fleet.move(phases.DualRead, 100)
		tick(20 * time.Second) // renewals continue
		if got := p.fleet.acknowledged(p.Instance); got != 1 {
			t.Fatalf("acknowledged %d while a read of epoch 1 is in flight", got)
		}
		began := time.Now()
		close(hold)
		settle()
		if got := p.fleet.acknowledged(p.Instance); got != 3 || time.Since(began) != 0 {
			t.Fatalf("acknowledged %d, want 3 at once", got)
		}
		_ = p.stop()
	})
}

func TestPanicInAClosureReleasesTheRoute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, phase := range []phases.Phase{phases.Legacy, phases.ShadowWrite, phases.DualRead} {
			p := newTestInstance(t, newFleet(route(phase)), newTarget(), newLegacy(), adjust{reader: func(c *ReaderConfig[int, int]) {
				c.Legacy = func(context.Context, int) (int, bool, error) { panic("read") }
			}})
			func() {
				defer func() { _ = recover() }()
				_, _, _ = p.reader.Get(t.Context(), 1)
			}()
			func() {
				defer func() { _ = recover() }()
				_ = p.writer.Write(t.Context(), Op[int, int]{Legacy: func(context.Context) ([]Change[int, int], error) { panic("write") }})
			}()
			if n := p.Stats().InFlight; n != 0 {
				t.Errorf("%s: %d operations in flight", phase, n)
			}
			_ = p.stop()
		}
	})
}

func TestLowerEpochIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(phases.Route{Phase: phases.Grace, Epoch: 9})
		p := newTestInstance(t, f, newTarget(), newLegacy(), adjust{})
		settle()
		f.do(func() { f.route = phases.Route{Phase: phases.Legacy, Epoch: 8} })
		tick(30 * time.Second)
		s := p.Stats()
		if p.Route().Epoch != 9 || s.RefusedRoutes == 0 {
			t.Fatalf("route %v, refused %d", p.Route(), s.RefusedRoutes)
		}
		if len(f.stateLosses) == 0 || f.stateLosses[0] != p.Route() || s.StateLossReportFailures != uint64(len(f.stateLosses)) {
			t.Fatalf("reported to the state: %v, %d failures", f.stateLosses, s.StateLossReportFailures)
		}
		if len(f.stateLosses) != int(s.RefusedRoutes) {
			t.Fatalf("%d routes refused, %d reported", s.RefusedRoutes, len(f.stateLosses))
		}
		if !p.Lapsed() { // a state that has lost transactions can't extend the lease of a reader of the target
			t.Fatal("the lease is still valid")
		}
		_ = p.stop()
	})
}

// TestAnotherRouteOfTheSameEpochIsRefused: a state that was restored and has moved since
// assigns epochs a second time. Only one that is higher than both is followed.
func TestAnotherRouteOfTheSameEpochIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(phases.Route{Phase: phases.Grace, Epoch: 9})
		p := newTestInstance(t, f, newTarget(), newLegacy(), adjust{})
		settle()
		f.do(func() { f.route = phases.Route{Phase: phases.DualRead, Percent: phases.All, Epoch: 9} })
		tick(30 * time.Second)
		if s := p.Stats(); p.Route().Phase != phases.Grace || s.RefusedRoutes == 0 || !p.Lapsed() {
			t.Fatalf("route %v, refused %d, lapsed %v", p.Route(), s.RefusedRoutes, p.Lapsed())
		}
		f.do(func() { f.route.Epoch = 10 })
		tick(30 * time.Second)
		if p.Route().Phase != phases.DualRead || p.Lapsed() {
			t.Fatalf("route %v, lapsed %v", p.Route(), p.Lapsed())
		}
		_ = p.stop()
	})
}

func TestLapsedInstanceRejoins(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hold, started := make(chan struct{}), make(chan struct{}, 1)
		f := newFleet(route(phases.DualRead))
		p := newTestInstance(t, f, newTarget(), newLegacy(), adjust{})
		settle()
		go func() {
			_ = p.writer.Write(t.Context(), Op[int, int]{Legacy: func(context.Context) ([]Change[int, int], error) {
				started <- struct{}{}
				<-hold
				return nil, nil
			}})
		}()
		<-started
		f.do(func() { f.outage = errDown })
		tick(time.Minute)
		if !p.Lapsed() || p.Route().Phase != phases.DualRead {
			t.Fatalf("lapsed %v, route %v", p.Lapsed(), p.Route())
		}
		f.do(func() { f.outage = nil; f.set(route(phases.Cutover)) })
		tick(10 * time.Second)
		if s := p.Stats(); s.Lapsed || s.Rejoins != 1 || s.Epoch != 2 {
			t.Fatalf("%+v", s)
		}
		if len(f.leases) != 1 || len(f.left) != 0 {
			t.Fatalf("leases %v, left %v", f.leases, f.left)
		}
		if got := f.acknowledged(p.Instance); got != 1 {
			t.Fatalf("acknowledged %d with an operation of epoch 1 in flight", got)
		}
		close(hold)
		settle()
		if got := f.acknowledged(p.Instance); got != 2 {
			t.Fatalf("acknowledged %d", got)
		}
		_ = p.stop()
	})
}

func TestLapsedInstanceRejoinsThoughStateWouldRenew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.Grace)), newTarget(), newLegacy(), adjust{})
		settle()
		p.skip(20 * time.Second) // by its own clock only: in the state the lease is still valid
		tick(6 * time.Second)
		if s := p.Stats(); s.Rejoins != 1 || s.Lapsed || len(p.fleet.leases) != 1 {
			t.Fatalf("%+v, leases %v", s, p.fleet.leases)
		}
		if err := p.stop(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestIdleRejoinAcknowledgesAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(route(phases.DualRead))
		p := newTestInstance(t, f, newTarget(), newLegacy(), adjust{})
		settle()
		f.do(func() { f.outage = errDown; f.set(route(phases.Cutover)) })
		tick(20 * time.Second)
		f.do(func() { f.outage = nil })
		for range 40 {
			tick(100 * time.Millisecond)
			if joined, got := p.Stats().Rejoins == 1, f.acknowledged(p.Instance); joined && got != 2 {
				t.Fatalf("rejoined on epoch 2 with nothing in flight, acknowledged %d", got)
			}
		}
		if p.Stats().Rejoins != 1 {
			t.Fatal("did not rejoin")
		}
		_ = p.stop()
	})
}

func TestLeaseIsCountedFromBeforeTheRenewalWasSent(t *testing.T) {
	t.Parallel()
	now := time.Hour
	l := newLease("l", func() time.Duration { return now }, now, 15*time.Second)
	sent := now
	now += 14 * time.Second // the response took so long
	l.extend(sent, 15*time.Second)
	if !l.valid() {
		t.Fatal("lapsed early")
	}
	now = sent + 15*time.Second
	if l.valid() || !l.knownExpired() {
		t.Fatal("valid 15 s after the request was sent")
	}
}

func TestLeaveIsCleanOnlyWhenDrained(t *testing.T) {
	t.Parallel()
	bubble(t, "clean", func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.DualRead)), newTarget(), newLegacy(), adjust{})
		p.mustPut(1, 1)
		if err := p.stop(); err != nil || len(p.fleet.leases) != 0 {
			t.Fatalf("%v, leases %v", err, p.fleet.leases)
		}
		if err := p.put(1, 2); !errors.Is(err, ErrLeft) {
			t.Fatalf("write after leaving: %v", err)
		}
		if _, _, err := p.reader.Get(t.Context(), 1); !errors.Is(err, ErrLeft) {
			t.Fatalf("read after leaving: %v", err)
		}
		if s := p.Stats(); s.Writes != 1 || s.LegacyReads != 0 {
			t.Fatalf("%+v", s)
		}
	})
	bubble(t, "hanging operation", func(t *testing.T) {
		hold, started := make(chan struct{}), make(chan struct{})
		p := newTestInstance(t, newFleet(route(phases.Legacy)), newTarget(), newLegacy(), adjust{})
		go func() {
			_ = p.writer.Put(t.Context(), 1, 1, p.legacy.put(1, 1))
			_ = p.writer.Write(t.Context(), Op[int, int]{Legacy: func(context.Context) ([]Change[int, int], error) {
				close(started)
				<-hold
				return nil, nil
			}})
		}()
		<-started
		began := time.Now()
		if err := p.stop(); err == nil || time.Since(began) != 10*time.Second {
			t.Fatalf("%v after %s", err, time.Since(began))
		}
		if len(p.fleet.leases) != 1 {
			t.Fatal("left with an operation in flight")
		}
		close(hold)
	})
	bubble(t, "state down", func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.Legacy)), newTarget(), newLegacy(), adjust{})
		settle()
		p.fleet.do(func() { p.fleet.outage = errDown })
		if err := p.stop(); !errors.Is(err, errDown) {
			t.Fatal(err)
		}
	})
}

func TestStateDownNeverStopsAnApplication(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, phase := range []phases.Phase{phases.Legacy, phases.ShadowWrite, phases.DualRead, phases.Cutover, phases.Grace} {
			p := newTestInstance(t, newFleet(route(phase)), newTarget(), newLegacy(), adjust{})
			p.mustPut(1, 1)
			settle()
			p.fleet.do(func() { p.fleet.outage = errDown })
			for n := range 30 {
				p.mustPut(1, n)
				settle()
				if got := p.get(1); got != n {
					t.Fatalf("%s, %d s: read %d", phase, n, got)
				}
				tick(time.Second)
			}
			if got, _ := p.target.value(1); phase != phases.Legacy && got != 29 {
				t.Fatalf("%s: target has %d", phase, got)
			}
			p.fleet.do(func() { p.fleet.outage = nil })
			tick(5 * time.Second)
			if p.Lapsed() {
				t.Fatalf("%s: still lapsed", phase)
			}
			if err := p.stop(); err != nil {
				t.Fatal(phase, err)
			}
		}
	})
}

func TestRunTwiceIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.Legacy)), newTarget(), newLegacy(), adjust{})
		settle()
		if err := p.Run(t.Context()); err == nil {
			t.Fatal("want an error")
		}
		_ = p.stop()
	})
}
