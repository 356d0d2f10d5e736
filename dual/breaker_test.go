package dual

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/phases"
)

// attempt is one operation through the breaker; it reports whether it was permitted.
func (b *breaker) attempt(err error) bool {
	p, ok := b.allow()
	if ok {
		b.report(p, err)
	}
	return ok
}

func (b *breaker) trip(t *testing.T) {
	t.Helper()
	for range breakerFailures {
		if !b.attempt(errDown) {
			t.Fatal("open too early")
		}
	}
	if b.attempt(nil) {
		t.Fatal("not open after five failures in a row")
	}
}

func TestBreakerHasAState(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.Grace)), newTarget(), newLegacy(), adjust{idle: true})
		is := func(want telemetry.BreakerState) {
			t.Helper()
			all := p.Breakers()
			for _, b := range all {
				if b.Name == "reads" && b.State != want || b.Name != "reads" && b.State != telemetry.BreakerClosed {
					t.Errorf("%s is %s, want the reads' to be %s", b.Name, b.State, want)
				}
			}
			if len(all) != 4 {
				t.Errorf("%d breakers", len(all))
			}
		}
		b := &p.reader.guard
		is(telemetry.BreakerClosed)
		b.attempt(errDown)
		is(telemetry.BreakerClosed)
		b.attempt(nil)
		b.trip(t)
		is(telemetry.BreakerOpen)
		tick(time.Second)
		is(telemetry.BreakerHalfOpen) // the next operation probes
		probe, _ := b.allow()
		is(telemetry.BreakerHalfOpen)
		b.report(probe, errDown)
		is(telemetry.BreakerOpen)
		tick(2 * time.Second)
		probe, _ = b.allow()
		b.report(probe, errCallerCanceled)
		is(telemetry.BreakerHalfOpen)
		var second breaker // of a second Reader: the instance has one state for both
		p.guard(&second, "reads")
		is(telemetry.BreakerHalfOpen)
		second.trip(t)
		is(telemetry.BreakerOpen)
		second.reset()
		b.reset()
		is(telemetry.BreakerClosed)
	})
}

func TestBreakerOpensAfterConsecutiveFailuresAndProbes(t *testing.T) {
	t.Parallel()
	bubble(t, "a success between resets the count", func(t *testing.T) {
		var b breaker
		for range 3 {
			for range breakerFailures - 1 {
				b.attempt(errDown)
			}
			if !b.attempt(nil) || b.failing.Load() {
				t.Fatal("open, or not reset")
			}
		}
	})
	bubble(t, "one probe", func(t *testing.T) {
		var b breaker
		b.trip(t)
		for _, pause := range []time.Duration{1, 2, 4, 5, 5} { // doubles, up to the most
			tick(pause*time.Second - time.Millisecond)
			if b.attempt(nil) {
				t.Fatalf("permitted within %d s", pause)
			}
			tick(time.Millisecond)
			p, ok := b.allow()
			if !ok || b.attempt(nil) {
				t.Fatal("want one probe, and one only")
			}
			b.report(p, errDown)
			if b.attempt(nil) {
				t.Fatal("permitted after a failed probe")
			}
		}
		tick(5 * time.Second)
		if !b.attempt(nil) || b.failing.Load() {
			t.Fatal("not closed after a successful probe")
		}
		b.trip(t)
		tick(time.Second)
		if !b.attempt(nil) {
			t.Fatal("after an answer the pause begins at a second again")
		}
	})
	bubble(t, "a probe that never returns", func(t *testing.T) {
		b := breaker{most: time.Second}
		b.trip(t)
		tick(1001 * time.Millisecond)
		probing, ok := b.allow()
		if !ok {
			t.Fatal("no probe")
		}
		tick(999 * time.Millisecond)
		if b.attempt(nil) {
			t.Fatal("a second probe beside the first")
		}
		tick(time.Millisecond)
		if !b.attempt(nil) {
			t.Fatal("blocked by a probe that never returned")
		}
		b.report(probing, errDown) // late: it began before the store recovered
		if !b.attempt(nil) {
			t.Fatal("open")
		}
	})
	bubble(t, "a probe that was given up proves nothing of now", func(t *testing.T) {
		b := breaker{most: time.Second}
		b.trip(t)
		tick(time.Second)
		first, _ := b.allow()
		tick(time.Second)
		second, ok := b.allow()
		if !ok {
			t.Fatal("no second probe")
		}
		b.report(first, nil) // what it asked may have been answered before the store failed again
		if !b.failing.Load() || b.attempt(nil) {
			t.Fatal("closed by it")
		}
		b.report(second, nil)
		if b.failing.Load() {
			t.Fatal("not closed by the one under way")
		}
	})
	bubble(t, "a caller that gives up proves nothing", func(t *testing.T) {
		var b breaker
		for range 10 {
			b.attempt(errCallerCanceled)
		}
		b.trip(t)
		tick(time.Second)
		for range 2 {
			if !b.attempt(errCallerCanceled) {
				t.Fatal("a canceled caller counted as the probe's failure")
			}
		}
		if !b.attempt(nil) || b.failing.Load() {
			t.Fatal("canceled callers counted as the probe's answer")
		}
	})
	bubble(t, "operations that began before the first failure", func(t *testing.T) {
		var b breaker
		var passes []pass
		for range breakerFailures + 1 {
			p, _ := b.allow()
			passes = append(passes, p)
		}
		for _, p := range passes[:breakerFailures] {
			b.report(p, errDown)
		}
		b.report(passes[breakerFailures], nil)
		if b.attempt(nil) {
			t.Fatal("failures that end together don't count together, or an old success closes")
		}
		b.reset()
		if !b.attempt(nil) || b.failing.Load() {
			t.Fatal("open after a reset")
		}
	})
}

func TestBreakersAreSeparateByStoreAndOperation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.Cutover)), newTarget(), newLegacy(), adjust{idle: true})
		apart(p, 2)
		p.target.do(func() { p.target.onGet = func(context.Context) error { return errDown } })
		for range 10 {
			_ = p.get(1)
		}
		p.mustPut(1, 7)
		if v, _ := p.target.value(1); v != 7 {
			t.Fatal("failing reads keep writes from the target")
		}
		_, ok := p.reader.guard.allow()
		if _, clock := p.writer.clock.guard.allow(); ok || !clock || p.writer.guard.failing.Load() {
			t.Fatal("want the breaker of reads open, alone")
		}
	})
}

func TestJournalBreakerClosesWhenStateAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.Grace)), newTarget(), newLegacy(), adjust{config: func(c *Config) { c.Writing.OnTargetFailure = Degrade }})
		settle()
		p.target.do(func() { p.target.onApply = func(context.Context) error { return errDown } })
		p.fleet.do(func() { p.fleet.outage = errDown })
		var e *TargetError
		for range breakerFailures + 1 {
			if err := p.put(1, 1); !errors.As(err, &e) {
				t.Fatalf("got %v", err)
			}
		}
		if !errors.Is(e, errBreakerOpen) {
			t.Fatalf("the journal is still asked: %v", e)
		}
		p.fleet.do(func() { p.fleet.outage = nil })
		tick(6 * time.Second) // a renewal
		p.mustPut(1, 2)
		_ = p.stop()
	})
}
