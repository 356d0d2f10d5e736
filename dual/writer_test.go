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

func TestWritesGoWhereTheRouteSays(t *testing.T) {
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
			p := newParty(t, newFleet(route(c.phase)), newTarget(), newLegacy(), adjust{})
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
			if s := p.Stats(); s.Writes != 2 || s.Failed != 0 || s.Underway != 0 {
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
			p := newParty(t, newFleet(route(phase)), newTarget(), newLegacy(), adjust{})
			err := p.writer.Write(t.Context(), Op[int, int]{Legacy: func(context.Context) ([]Change[int, int], error) {
				return []Change[int, int]{{Key: 1, Value: 1, Version: record.Version{LSN: 1}}}, mine
			}})
			settle()
			if err != mine || p.target.applies != 0 || len(p.fleet.journalled()) != 0 { //nolint:errorlint // as it is
				t.Errorf("%s: %v, %d applies", phase, err, p.target.applies)
			}
			_ = p.stop()
		}
	})
}

func TestUncertainLegacyWriteIsJournalled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, newFleet(route(phases.Cutover)), newTarget(), newLegacy(), adjust{writer: func(c *WriterConfig[int, int]) {
			c.Uncertain = func(err error) bool { return errors.Is(err, errDown) }
		}})
		err := p.writer.Put(t.Context(), 5, 1, func(context.Context) (record.Version, error) { return record.Version{}, errDown })
		settle()
		if _, ok := p.fleet.journalled()["5"]; !ok || !errors.Is(err, errDown) {
			t.Fatalf("%v, journal %v", err, p.fleet.journalled())
		}
		_ = p.stop()
	})
}

func TestCallersEndedContextDoesNotKeepTheWriteFromTheTarget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, newFleet(route(phases.Cutover)), newTarget(), newLegacy(), adjust{})
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
		if _, ok := p.fleet.journalled()["2"]; !ok {
			t.Fatal("not journalled")
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
			p := newParty(t, newFleet(route(phases.DualRead)), target, newLegacy(), adjust{})
			settle()
			p.legacy.after = func() { tick(11 * time.Second) } // frozen after the commit
			began := time.Now().Add(ahead)
			p.mustPut(1, 1) // nobody reads the target: journalled, and good
			if limit := began.Add(10 * time.Second); target.last.NotAfter.After(limit) {
				t.Fatalf("not after %s, want at most %s", target.last.NotAfter, limit)
			}
			if _, ok := target.value(1); ok {
				t.Fatal("the target took a change after its time")
			}
			if _, ok := p.fleet.journalled()["1"]; !ok {
				t.Fatal("not journalled")
			}
			_ = p.stop()
		})
	}
}

func TestNotAfterIsNeverLateEvenOnAnOldSample(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, newFleet(route(phases.DualRead)), newTarget(), newLegacy(), adjust{idle: true})
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
		p := newParty(t, newFleet(route(phases.ShadowWrite)), newTarget(), newLegacy(), adjust{})
		settle()
		p.target.do(func() { p.target.onApply = func(context.Context) error { <-hold; return nil } })
		for k := range 20 {
			p.mustPut(k, k)
		}
		p.fleet.move(phases.DualRead, 100)
		settle()
		if held, got := p.Route().Epoch, p.fleet.acknowledged(p.Instance); held != 2 || got != 1 {
			t.Fatalf("held %d, acknowledged %d with %d background writes", held, got, p.Stats().Underway)
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
		p := newParty(t, newFleet(route(phases.ShadowWrite)), newTarget(), newLegacy(), adjust{config: func(c *Config) { c.Writing.Queue, c.Workers = 2, 1 }})
		settle()
		p.target.do(func() { p.target.onApply = func(context.Context) error { <-hold; return nil } })
		for k := range 10 {
			p.mustPut(k, k)
			settle()
		}
		if s, j := p.Stats(), p.fleet.journalled(); len(j) != 7 || s.Overflowed != 7 || s.Queue != 2 || s.Journalled != 7 {
			t.Fatalf("journal %v, %+v", j, s)
		}
		close(hold)
		settle()
		if err := p.stop(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestBackgroundWriteThatFailsIsJournalled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, newFleet(route(phases.ShadowWrite)), newTarget(), newLegacy(), adjust{})
		settle()
		p.target.do(func() { p.target.broken = errDown })
		p.mustPut(1, 1)
		p.mustPut(1, 2)
		tick(2 * time.Second)
		if j := p.fleet.journalled(); j["1"] != (record.Version{Era: 1, Timeline: 1, LSN: 2}) {
			t.Fatalf("journal %v", j)
		}
		if s := p.Stats(); s.Underway != 0 || s.Failed != 0 {
			t.Fatalf("%+v", s)
		}
		_ = p.stop()
	})
}

func TestQueuedWriteIsNeverLostSilently(t *testing.T) {
	t.Parallel()
	bubble(t, "state comes back", func(t *testing.T) {
		p := newParty(t, newFleet(route(phases.ShadowWrite)), newTarget(), newLegacy(), adjust{})
		settle()
		p.target.do(func() { p.target.broken = errDown })
		p.fleet.do(func() { p.fleet.down = true })
		p.mustPut(1, 1)
		tick(5 * time.Minute)
		if s := p.Stats(); s.Pending != 1 || s.Underway != 1 {
			t.Fatalf("%+v", s)
		}
		p.fleet.do(func() { p.fleet.down = false })
		tick(5 * time.Second)
		if s, j := p.Stats(), p.fleet.journalled(); s.Pending != 0 || s.Underway != 0 || len(j) != 1 {
			t.Fatalf("journal %v, %+v", j, s)
		}
		tick(5 * time.Second)
		if err := p.stop(); err != nil {
			t.Fatal(err)
		}
	})
	bubble(t, "state stays away", func(t *testing.T) {
		p := newParty(t, newFleet(route(phases.ShadowWrite)), newTarget(), newLegacy(), adjust{})
		settle()
		p.target.do(func() { p.target.broken = errDown })
		p.mustPut(1, 1)
		p.fleet.do(func() { p.fleet.down = true })
		if err := p.stop(); err == nil || len(p.fleet.leases) != 1 {
			t.Fatalf("%v: must not leave cleanly with a write that nobody has", err)
		}
	})
	bubble(t, "journal closed", func(t *testing.T) {
		p := newParty(t, newFleet(route(phases.ShadowWrite)), newTarget(), newLegacy(), adjust{})
		settle()
		p.target.do(func() { p.target.broken = errDown })
		p.fleet.do(func() { p.fleet.ruling = &Ruling{Fenced: true} })
		p.mustPut(1, 1)
		tick(5 * time.Second)
		if s := p.Stats(); s.Abandoned != 1 {
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
		p := newParty(t, newFleet(route(phases.ShadowWrite)), newTarget(), newLegacy(), adjust{idle: true})
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

func TestTargetFailureSucceedsWhileNobodyReadsTarget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, newFleet(route(phases.DualRead)), newTarget(), newLegacy(), adjust{})
		settle()
		p.target.do(func() { p.target.broken = errDown })
		began := time.Now()
		p.mustPut(1, 1)
		if took := time.Since(began); took > time.Second {
			t.Fatalf("took %s, over the deadline", took)
		}
		if s := p.Stats(); len(p.fleet.journalled()) != 1 || s.Rescued != 0 || s.TargetFailures != 1 {
			t.Fatalf("%+v", s)
		}
		_ = p.stop()
	})
}

func TestRescueReturnsWhenNobodyReadsTarget(t *testing.T) {
	t.Parallel()
	bubble(t, "settled", func(t *testing.T) {
		f, target, legacy := newFleet(route(phases.Cutover)), newTarget(), newLegacy()
		a := newParty(t, f, target, legacy, adjust{})
		b := newParty(t, f, target, legacy, adjust{})
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
		if s := a.Stats(); s.Rescued != 1 || s.Unsettled != 0 {
			t.Fatalf("%+v", s)
		}
		_, _ = a.stop(), b.stop()
	})
	bubble(t, "one does not settle in the budget", func(t *testing.T) {
		f, target, legacy := newFleet(route(phases.Cutover)), newTarget(), newLegacy()
		a := newParty(t, f, target, legacy, adjust{})
		b := newParty(t, f, target, legacy, adjust{idle: true}) // nobody renews it
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
		if v := b.get(1); v != 0 {
			t.Fatalf("reads %d", v)
		}
		_ = a.stop()
	})
	bubble(t, "a write under way does not hold its own rollback up", func(t *testing.T) {
		p := newParty(t, newFleet(route(phases.Grace)), newTarget(), newLegacy(), adjust{config: func(c *Config) { c.Writing.RollbackBudget = time.Hour }})
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
		p := newParty(t, newFleet(route(phases.Grace)), newTarget(), newLegacy(), adjust{})
		settle()
		p.target.do(func() { p.target.broken = errDown })
		p.fleet.do(func() { p.fleet.ruling = &Ruling{TargetRead: true}; p.fleet.down = true })
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
		p := newParty(t, newFleet(route(phases.Cutover)), newTarget(), newLegacy(), adjust{config: func(c *Config) { c.Writing.Deadline = time.Minute }})
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
		p := newParty(t, newFleet(route(phases.Grace)), newTarget(), newLegacy(), adjust{config: func(c *Config) { c.Writing.OnTargetFailure = Degrade }})
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
		// The journal's repairer brings what was lost: the target may answer again.
		p.target.do(func() { p.target.entries[1] = Versioned[int]{3, true, record.Version{Era: 1, Timeline: 1, LSN: 4}} })
		if got := p.get(1); got != 3 || p.behind.some.Load() {
			t.Fatalf("reads %d", got)
		}
		_ = p.stop()
	})
}

func TestFailSaysThatLegacyHasTheWrite(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		phase  phases.Phase
		policy Policy
		fleet  func(*memoryFleet)
	}{
		"policy":                              {phases.Grace, Fail, func(*memoryFleet) {}},
		"state down":                          {phases.Grace, RollBack, func(f *memoryFleet) { f.down = true }},
		"state down, nobody reads the target": {phases.DualRead, RollBack, func(f *memoryFleet) { f.down = true }},
		"once fenced":                         {phases.Grace, RollBack, func(f *memoryFleet) { f.ruling = &Ruling{Fenced: true} }},
	} {
		bubble(t, name, func(t *testing.T) {
			p := newParty(t, newFleet(route(c.phase)), newTarget(), newLegacy(), adjust{config: func(k *Config) { k.Writing.OnTargetFailure = c.policy }})
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
			// What could not be journalled is, as soon as the state is back.
			p.fleet.do(func() { p.fleet.down = false })
			tick(5 * time.Second)
			if _, ok := p.fleet.journalled()["1"]; !ok && name != "once fenced" {
				t.Fatal("not journalled")
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
			p := newParty(t, newFleet(route(phase)), newTarget(), newLegacy(), adjust{idle: true})
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
			if p.fleet.rescues != 0 || len(p.fleet.journalled()) != 1 {
				t.Errorf("%s: %d rescues, journal %v", phase, p.fleet.rescues, p.fleet.journalled())
			}
		}
	})
}

func TestLateAndForeignAreJournalled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, newFleet(route(phases.DualRead)), newTarget(), newLegacy(), adjust{})
		p.target.foreign[1] = true
		p.mustPut(1, 1)
		p.mustPut(2, 2)
		err := p.writer.Write(t.Context(), Op[int, int]{Legacy: func(context.Context) ([]Change[int, int], error) {
			return []Change[int, int]{{Key: 3, Value: 3}}, nil // without version
		}})
		if j := p.fleet.journalled(); err != nil || len(j) != 2 || p.target.applies != 2 {
			t.Fatalf("%v, journal %v, %d applies", err, j, p.target.applies)
		}
		_ = p.stop()
	})
}

func TestOlderIsSuccess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, newFleet(route(phases.Grace)), newTarget(), newLegacy(), adjust{})
		p.target.entries[1] = Versioned[int]{9, true, record.Version{Era: 2}}
		p.mustPut(1, 1)
		if v, _ := p.target.value(1); v != 9 {
			t.Fatalf("the target went back to %d", v)
		}
		_ = p.stop()
	})
}

func TestPanicInTheTargetIsAFailedChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, newFleet(route(phases.DualRead)), newTarget(), newLegacy(), adjust{})
		p.target.onApply = func(context.Context) error { panic("codec") }
		p.mustPut(1, 1)
		if _, ok := p.fleet.journalled()["1"]; !ok {
			t.Fatal("legacy has it, the journal does not")
		}
		_ = p.stop()
	})
}

func TestRetriesWithinTheDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, newFleet(route(phases.Grace)), newTarget(), newLegacy(), adjust{})
		failures := 3
		p.target.onApply = func(ctx context.Context) error {
			if failures--; failures == 1 {
				<-ctx.Done() // hangs
				return ctx.Err()
			} else if failures >= 0 {
				return errDown
			}
			return nil
		}
		p.mustPut(1, 1)
		if v, _ := p.target.value(1); v != 1 || p.fleet.journals != 0 {
			t.Fatalf("target %d, %d journalled", v, p.fleet.journals)
		}
		_ = p.stop()
	})
}

func TestBreakerKeepsAnOutageFromDelayingEveryWrite(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, newFleet(route(phases.DualRead)), newTarget(), newLegacy(), adjust{})
		settle()
		p.target.do(func() { p.target.broken = errDown })
		for range 5 {
			p.mustPut(1, 1)
		}
		began, applies := time.Now(), p.target.applies
		for range 50 {
			p.mustPut(1, 1)
		}
		if time.Since(began) != 0 || p.target.applies != applies || p.fleet.journals != 55 {
			t.Fatalf("took %s, %d applies, %d journalled", time.Since(began), p.target.applies-applies, p.fleet.journals)
		}
		tick(61 * time.Second)
		p.target.do(func() { p.target.broken = nil })
		p.mustPut(1, 5)
		p.mustPut(1, 6)
		if v, _ := p.target.value(1); v != 6 {
			t.Fatalf("target has %d after the probe", v)
		}
		_ = p.stop()
	})
}

type batching struct {
	*memoryTarget
	batches int
	fail    int
}

func (b *batching) ApplyAll(_ context.Context, changes []Change[int, int], o ApplyOptions) ([]record.Result, error) {
	b.batches++
	if b.fail--; b.fail >= 0 {
		return nil, errDown
	}
	results := make([]record.Result, len(changes))
	for n, c := range changes {
		results[n], results[n].Err = b.apply(c, o)
	}
	return results, nil
}

func TestOneTransactionMayChangeSeveralRecords(t *testing.T) {
	t.Parallel()
	op := func(l *memoryLegacy) Op[int, int] {
		return Op[int, int]{Legacy: func(ctx context.Context) (out []Change[int, int], err error) {
			for k := range 5 {
				v, err := l.put(k, k)(ctx)
				if err != nil {
					return nil, err
				}
				out = append(out, Change[int, int]{Key: k, Value: k, Version: v, Deleted: k == 4})
			}
			return out, nil
		}}
	}
	bubble(t, "one by one", func(t *testing.T) {
		p := newParty(t, newFleet(route(phases.DualRead)), newTarget(), newLegacy(), adjust{})
		p.target.foreign[2] = true
		if err := p.writer.Write(t.Context(), op(p.legacy)); err != nil {
			t.Fatal(err)
		}
		if j := p.fleet.journalled(); len(j) != 1 || len(p.target.entries) != 4 {
			t.Fatalf("journal %v, target %v", j, p.target.entries)
		}
		_ = p.stop()
	})
	bubble(t, "in a batch", func(t *testing.T) {
		b := &batching{memoryTarget: newTarget(), fail: 1}
		b.foreign[2] = true
		p := newParty(t, newFleet(route(phases.DualRead)), b.memoryTarget, newLegacy(), adjust{writer: func(c *WriterConfig[int, int]) { c.Target = b }})
		if err := p.writer.Write(t.Context(), op(p.legacy)); err != nil {
			t.Fatal(err)
		}
		if j := p.fleet.journalled(); len(j) != 1 || len(b.entries) != 4 || b.batches != 2 {
			t.Fatalf("journal %v, target %v, %d batches", j, b.entries, b.batches)
		}
		_ = p.stop()
	})
}
