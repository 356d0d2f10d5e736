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

// bubble runs a test on a clock of its own.
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
	f.down = true
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

func TestEpochIsAcknowledgedAtOnceWhenNothingIsUnderWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, newFleet(route(phases.Legacy)), newTarget(), newLegacy(), adjust{})
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

func TestRenewalTellsWhatAHintDidNot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(route(phases.Legacy))
		f.noHints = true
		p := newParty(t, f, newTarget(), newLegacy(), adjust{})
		settle()
		f.move(phases.ShadowWrite, 0)
		settle()
		if got := p.Route().Epoch; got != 1 {
			t.Fatalf("epoch %d without hint or renewal", got)
		}
		tick(6 * time.Second)
		if got := f.acknowledged(p.Instance); got != 2 {
			t.Fatalf("acknowledged %d", got)
		}
		_ = p.stop()
	})
}

func TestEpochIsAcknowledgedOnlyAfterOperationsUnderOlderOnesAreOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hold, started := make(chan struct{}), make(chan struct{}, 2)
		p := newParty(t, newFleet(route(phases.Legacy)), newTarget(), newLegacy(), adjust{reader: func(c *ReaderConfig[int, int]) {
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
		if held, got := p.Route().Epoch, p.fleet.acknowledged(p.Instance); held != 2 || got != 1 {
			t.Fatalf("held %d, acknowledged %d; want 2, 1", held, got)
		}
		p.fleet.move(phases.DualRead, 100)
		tick(20 * time.Second) // renewals go on
		if got := p.fleet.acknowledged(p.Instance); got != 1 {
			t.Fatalf("acknowledged %d while a read of epoch 1 is under way", got)
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
			p := newParty(t, newFleet(route(phase)), newTarget(), newLegacy(), adjust{reader: func(c *ReaderConfig[int, int]) {
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
				t.Errorf("%s: %d operations under way", phase, n)
			}
			_ = p.stop()
		}
	})
}

func TestLowerEpochIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(phases.Route{Phase: phases.Grace, Epoch: 9})
		p := newParty(t, f, newTarget(), newLegacy(), adjust{})
		settle()
		f.do(func() { f.route = phases.Route{Phase: phases.Legacy, Epoch: 8} })
		tick(30 * time.Second)
		s := p.Stats()
		if p.Route().Epoch != 9 || s.RefusedRoutes == 0 {
			t.Fatalf("route %v, refused %d", p.Route(), s.RefusedRoutes)
		}
		if len(f.witnessed) == 0 || f.witnessed[0] != p.Route() || s.StateLossReportFailures != uint64(len(f.witnessed)) {
			t.Fatalf("the state was told of %v, %d failures", f.witnessed, s.StateLossReportFailures)
		}
		if len(f.witnessed) != int(s.RefusedRoutes) {
			t.Fatalf("%d routes refused, %d told", s.RefusedRoutes, len(f.witnessed))
		}
		if !p.Lapsed() { // a state that has lost its memory can't vouch for a reader of the target
			t.Fatal("the lease still holds")
		}
		_ = p.stop()
	})
}

// TestAnotherRouteOfTheSameEpochIsRefused: a state that was restored and moved on
// gives epochs a second time. Only one that is higher than both is followed.
func TestAnotherRouteOfTheSameEpochIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(phases.Route{Phase: phases.Grace, Epoch: 9})
		p := newParty(t, f, newTarget(), newLegacy(), adjust{})
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

func TestLapsedInstanceJoinsAnewInThePlaceOfItsOldLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hold, started := make(chan struct{}), make(chan struct{}, 1)
		f := newFleet(route(phases.DualRead))
		p := newParty(t, f, newTarget(), newLegacy(), adjust{})
		settle()
		go func() {
			_ = p.writer.Write(t.Context(), Op[int, int]{Legacy: func(context.Context) ([]Change[int, int], error) {
				started <- struct{}{}
				<-hold
				return nil, nil
			}})
		}()
		<-started
		f.do(func() { f.down = true })
		tick(time.Minute)
		if !p.Lapsed() || p.Route().Phase != phases.DualRead {
			t.Fatalf("lapsed %v, route %v", p.Lapsed(), p.Route())
		}
		f.do(func() { f.down = false; f.set(route(phases.Cutover)) })
		tick(10 * time.Second)
		if s := p.Stats(); s.Lapsed || s.Rejoins != 1 || s.Epoch != 2 {
			t.Fatalf("%+v", s)
		}
		if len(f.leases) != 1 || len(f.left) != 0 {
			t.Fatalf("leases %v, left %v", f.leases, f.left)
		}
		if got := f.acknowledged(p.Instance); got != 1 {
			t.Fatalf("acknowledged %d with an operation of epoch 1 under way", got)
		}
		close(hold)
		settle()
		if got := f.acknowledged(p.Instance); got != 2 {
			t.Fatalf("acknowledged %d", got)
		}
		_ = p.stop()
	})
}

func TestLapsedInstanceJoinsAnewThoughTheStateWouldStillRenew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, newFleet(route(phases.Grace)), newTarget(), newLegacy(), adjust{})
		settle()
		p.skip(20 * time.Second) // by its own clock alone: the state's lease lives on
		tick(6 * time.Second)
		if s := p.Stats(); s.Rejoins != 1 || s.Lapsed || len(p.fleet.leases) != 1 {
			t.Fatalf("%+v, leases %v", s, p.fleet.leases)
		}
		if err := p.stop(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestRejoinAcknowledgesAtOnceWhenNothingIsUnderWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(route(phases.DualRead))
		p := newParty(t, f, newTarget(), newLegacy(), adjust{})
		settle()
		f.do(func() { f.down = true; f.set(route(phases.Cutover)) })
		tick(20 * time.Second)
		f.do(func() { f.down = false })
		for range 40 {
			tick(100 * time.Millisecond)
			if joined, got := p.Stats().Rejoins == 1, f.acknowledged(p.Instance); joined && got != 2 {
				t.Fatalf("joined anew on epoch 2 with nothing under way, acknowledged %d", got)
			}
		}
		if p.Stats().Rejoins != 1 {
			t.Fatal("did not join anew")
		}
		_ = p.stop()
	})
}

func TestLeaseIsCountedFromBeforeTheRenewalWasSent(t *testing.T) {
	t.Parallel()
	now := time.Hour
	l := newLease("l", func() time.Duration { return now }, now, 15*time.Second)
	sent := now
	now += 14 * time.Second // the answer took so long
	l.extend(sent, 15*time.Second)
	if !l.valid() {
		t.Fatal("lapsed early")
	}
	now = sent + 15*time.Second
	if l.valid() || !l.knownExpired() {
		t.Fatal("holds 15 s after the request was sent")
	}
}

func TestLeaveIsCleanOnlyWhenNothingIsUnderWay(t *testing.T) {
	t.Parallel()
	bubble(t, "clean", func(t *testing.T) {
		p := newParty(t, newFleet(route(phases.DualRead)), newTarget(), newLegacy(), adjust{})
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
		p := newParty(t, newFleet(route(phases.Legacy)), newTarget(), newLegacy(), adjust{})
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
			t.Fatal("left with an operation under way")
		}
		close(hold)
	})
	bubble(t, "state down", func(t *testing.T) {
		p := newParty(t, newFleet(route(phases.Legacy)), newTarget(), newLegacy(), adjust{})
		settle()
		p.fleet.do(func() { p.fleet.down = true })
		if err := p.stop(); !errors.Is(err, errDown) {
			t.Fatal(err)
		}
	})
}

func TestStateDownNeverStopsAnApplication(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, phase := range []phases.Phase{phases.Legacy, phases.ShadowWrite, phases.DualRead, phases.Cutover, phases.Grace} {
			p := newParty(t, newFleet(route(phase)), newTarget(), newLegacy(), adjust{})
			p.mustPut(1, 1)
			settle()
			p.fleet.do(func() { p.fleet.down = true })
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
			p.fleet.do(func() { p.fleet.down = false })
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
		p := newParty(t, newFleet(route(phases.Legacy)), newTarget(), newLegacy(), adjust{})
		settle()
		if err := p.Run(t.Context()); err == nil {
			t.Fatal("want an error")
		}
		_ = p.stop()
	})
}
