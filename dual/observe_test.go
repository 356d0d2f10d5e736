package dual

import (
	"context"
	"errors"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

func series(o telemetry.Operation, s telemetry.Store, r telemetry.Role, out telemetry.Outcome) telemetry.Series {
	return telemetry.Series{Operation: o, Store: s, Role: r, Outcome: out}
}

func served(o telemetry.Operation, s telemetry.Store) telemetry.Series {
	return series(o, s, telemetry.Serving, telemetry.OK)
}

var added = series(telemetry.Write, telemetry.Both, telemetry.Added, telemetry.OK)

type counted map[telemetry.Series]uint64

func (c counted) check(t *testing.T, f *memoryFleet, p *testInstance) {
	t.Helper()
	if got, _ := f.observed(p.Name()); !maps.Equal(got, c) {
		for s, n := range got {
			t.Logf("%v: %d", s, n)
		}
		t.Errorf("want %v", c)
	}
}

func TestEveryOperationIsCountedByStoreRoleAndOutcome(t *testing.T) {
	t.Parallel()
	const reads, writes = 3, 2
	read, write, change := telemetry.Read, telemetry.Write, telemetry.Change
	for phase, want := range map[phases.Phase]counted{
		phases.Legacy: {served(read, telemetry.Legacy): reads, served(write, telemetry.Legacy): writes, served(change, telemetry.Legacy): writes},
		phases.ShadowWrite: {
			served(read, telemetry.Legacy): reads, served(write, telemetry.Legacy): writes, served(change, telemetry.Legacy): writes, added: writes,
			series(write, telemetry.Target, telemetry.Shadow, telemetry.OK): writes,
		},
		phases.DualRead: {
			served(read, telemetry.Legacy): reads, served(write, telemetry.Legacy): writes, served(change, telemetry.Legacy): writes, served(write, telemetry.Target): writes, added: writes,
			series(read, telemetry.Target, telemetry.Shadow, telemetry.OK):                   reads,
			series(telemetry.Comparison, telemetry.Both, telemetry.Shadow, telemetry.Agreed): reads,
		},
		phases.Cutover:  {served(read, telemetry.Target): reads, served(write, telemetry.Legacy): writes, served(change, telemetry.Legacy): writes, served(write, telemetry.Target): writes, added: writes},
		phases.Grace:    {served(read, telemetry.Target): reads, served(write, telemetry.Legacy): writes, served(change, telemetry.Legacy): writes, served(write, telemetry.Target): writes, added: writes},
		phases.Retain:   {served(read, telemetry.Target): reads, served(write, telemetry.Target): writes},
		phases.Complete: {served(read, telemetry.Target): reads, served(write, telemetry.Target): writes},
	} {
		bubble(t, string(phase), func(t *testing.T) {
			f := newFleet(route(phase))
			p := newTestInstance(t, f, newTarget(), newLegacy(), adjust{})
			for n := range writes {
				p.mustPut(1, n)
			}
			settle()
			for range reads {
				_ = p.get(1)
			}
			settle()
			if err := p.stop(); err != nil {
				t.Fatal(err)
			}
			want.check(t, f, p)
			for _, w := range f.windows {
				if w.Epoch != 1 || w.Incarnation == "" || w.Sequence != 1 {
					t.Errorf("%+v", w)
				}
			}
		})
	}
}

func TestFailuresAreCountedByOutcome(t *testing.T) {
	t.Parallel()
	bubble(t, "reads of the target that fall back", func(t *testing.T) {
		f := newFleet(route(phases.Grace))
		p := newTestInstance(t, f, newTarget(), newLegacy(), adjust{reader: func(c *ReaderConfig[int, int]) { c.TargetTimeout = 50 * time.Millisecond }})
		p.target.do(func() { p.target.onGet = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() } })
		_ = p.get(1)
		_ = p.get(1)
		p.target.do(func() { p.target.onGet = func(context.Context) error { return errDown } })
		for range breakerFailures - 2 {
			_ = p.get(1)
		}
		_ = p.get(1)
		if err := p.stop(); err != nil {
			t.Fatal(err)
		}
		counted{
			series(telemetry.Read, telemetry.Target, telemetry.Serving, telemetry.TimedOut): 2,
			series(telemetry.Read, telemetry.Target, telemetry.Serving, telemetry.Failed):   3,
			series(telemetry.Read, telemetry.Target, telemetry.Serving, telemetry.Rejected): 1,
			series(telemetry.Read, telemetry.Legacy, telemetry.Fallback, telemetry.OK):      5,
			series(telemetry.Read, telemetry.Legacy, telemetry.Untried, telemetry.OK):       1,
		}.check(t, f, p)
		if s := p.Stats(); s.LegacyReads != 6 || s.TargetReads != 0 || s.Fallbacks != 6 {
			t.Errorf("%+v", s)
		}
	})
	bubble(t, "a caller that gives up", func(t *testing.T) {
		f := newFleet(route(phases.Retain))
		p := newTestInstance(t, f, newTarget(), newLegacy(), adjust{})
		p.target.do(func() { p.target.onGet = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() } })
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, _, _ = p.reader.Get(ctx, 1)
		if err := p.stop(); err != nil {
			t.Fatal(err)
		}
		counted{series(telemetry.Read, telemetry.Target, telemetry.Serving, telemetry.Cancelled): 1}.check(t, f, p)
	})
	bubble(t, "writes", func(t *testing.T) {
		f := newFleet(route(phases.DualRead))
		p := newTestInstance(t, f, newTarget(), newLegacy(), adjust{})
		settle()
		mine := errors.New("unique violation")
		_ = p.writer.Put(t.Context(), 1, 1, func(context.Context) (record.Version, error) { return record.Version{}, mine })
		_ = p.writer.Put(t.Context(), 1, 1, func(context.Context) (record.Version, error) { return record.Version{}, nil }) // changes nothing
		p.target.do(func() { p.target.broken = errDown })
		p.mustPut(1, 1) // journaled
		f.do(func() { f.outage = errDown })
		_ = p.put(1, 2)
		f.do(func() { f.outage = nil })
		tick(3 * time.Second)
		if err := p.stop(); err != nil {
			t.Fatal(err)
		}
		counted{
			series(telemetry.Write, telemetry.Legacy, telemetry.Serving, telemetry.Faulty):  1, // the application refused it
			served(telemetry.Write, telemetry.Legacy):                                       3,
			series(telemetry.Change, telemetry.Legacy, telemetry.Serving, telemetry.Failed): 1,
			served(telemetry.Change, telemetry.Legacy):                                      2,
			series(telemetry.Write, telemetry.Target, telemetry.Serving, telemetry.Failed):  2,
			added: 1,
			series(telemetry.Write, telemetry.Both, telemetry.Added, telemetry.Failed): 1,
		}.check(t, f, p)
	})
}

// TestChangedRowsAreCounted: what legacy's own counters are compared with. It is never less than
// what a write's closure has changed.
func TestChangedRowsAreCounted(t *testing.T) {
	t.Parallel()
	for _, phase := range []phases.Phase{phases.Legacy, phases.ShadowWrite, phases.DualRead, phases.Cutover, phases.Grace} {
		bubble(t, string(phase), func(t *testing.T) {
			f := newFleet(route(phase))
			p := newTestInstance(t, f, newTarget(), newLegacy(), adjust{})
			settle()
			for rows := range 4 {
				op := Op[int, int]{Legacy: func(context.Context) (changes []Change[int, int], err error) {
					for k := range rows {
						changes = append(changes, Change[int, int]{Key: k, Value: 1, Version: record.MakeVersion(1, 1, uint64(10*rows+k+1))})
					}
					return changes, nil
				}}
				if err := p.writer.Write(t.Context(), op); err != nil {
					t.Fatal(err)
				}
			}
			failed := Op[int, int]{Keys: []int{1, 2, 3}, Legacy: func(context.Context) ([]Change[int, int], error) { return nil, errDown }}
			if err := p.writer.Write(t.Context(), failed); err == nil {
				t.Error("the write succeeded")
			}
			if err := p.stop(); err != nil {
				t.Fatal(err)
			}
			got, _ := f.observed(p.Name())
			if n := got[served(telemetry.Change, telemetry.Legacy)]; n != 0+1+2+3 {
				t.Errorf("%d rows were counted", n)
			}
			if n := got[series(telemetry.Change, telemetry.Legacy, telemetry.Serving, telemetry.Failed)]; n != 3 {
				t.Errorf("%d rows of the failed write were counted", n)
			}
			if n := got[served(telemetry.Write, telemetry.Legacy)]; n != 4 {
				t.Errorf("%d writes were counted", n)
			}
		})
	}
}

// TestAnIdleInstanceReportsOnce: an instance that has nothing to report differs from one that
// can't report.
func TestAnIdleInstanceReportsOnce(t *testing.T) {
	t.Parallel()
	bubble(t, "idle", func(t *testing.T) {
		f := newFleet(route(phases.DualRead))
		p := newTestInstance(t, f, newTarget(), newLegacy(), adjust{})
		tick(time.Minute)
		if err := p.stop(); err != nil {
			t.Fatal(err)
		}
		if len(f.windows) != 1 || len(f.windows[0].Counts) != 0 {
			t.Errorf("%+v", f.windows)
		}
	})
}

func TestComparisonsAreCountedByOutcome(t *testing.T) {
	t.Parallel()
	compared := func(o telemetry.Outcome) telemetry.Series {
		return series(telemetry.Comparison, telemetry.Both, telemetry.Shadow, o)
	}
	for name, c := range map[string]struct {
		phase   phases.Phase
		corrupt func(p *testInstance)
		config  func(*ReaderConfig[int, int])
		want    telemetry.Outcome
	}{
		"agreed":                          {phases.DualRead, func(*testInstance) {}, nil, telemetry.Agreed},
		"mismatch":                        {phases.Grace, func(p *testInstance) { p.legacy.values[1] = 9 }, nil, telemetry.Mismatch},
		"missing in legacy":               {phases.Grace, func(p *testInstance) { delete(p.legacy.values, 1) }, nil, telemetry.Mismatch},
		"lost":                            {phases.Grace, func(p *testInstance) { delete(p.target.entries, 1) }, nil, telemetry.LostWrite},
		"missing where no instance reads": {phases.DualRead, func(p *testInstance) { delete(p.target.entries, 1) }, nil, telemetry.Mismatch},
		"known to be behind": {phases.Cutover, func(p *testInstance) {
			delete(p.target.entries, 1)
			p.degraded.keys = map[record.Key]record.Version{"1": {}}
		}, nil, telemetry.Lagged},
		"the other store can't be read": {phases.DualRead, func(p *testInstance) { p.target.broken = errDown }, nil, telemetry.Aborted},
	} {
		bubble(t, name, func(t *testing.T) {
			f := newFleet(route(c.phase))
			p := newTestInstance(t, f, newTarget(), newLegacy(), adjust{reader: func(c *ReaderConfig[int, int]) { c.NoShadow, c.ShadowPercent = false, phases.All }})
			settle()
			p.mustPut(1, 1)
			c.corrupt(p)
			_ = p.get(1)
			tick(5 * time.Second) // past a write's deadline and its journaling
			if err := p.stop(); err != nil {
				t.Fatal(err)
			}
			got, _ := f.observed(p.Name())
			for _, o := range verdicts {
				want := uint64(0)
				if o == c.want {
					want = 1
				}
				if got[compared(o)] != want {
					t.Errorf("%s: %d, want %d", o, got[compared(o)], want)
				}
			}
		})
	}
}

func TestAddedLatencyCountsFromTheLegacyCommit(t *testing.T) {
	t.Parallel()
	for phase, want := range map[phases.Phase]time.Duration{phases.ShadowWrite: 0, phases.DualRead: 20 * time.Millisecond} {
		bubble(t, string(phase), func(t *testing.T) {
			f := newFleet(route(phase))
			p := newTestInstance(t, f, newTarget(), newLegacy(), adjust{})
			p.target.onApply = func(context.Context) error { <-time.After(20 * time.Millisecond); return nil }
			p.legacy.after = func() { <-time.After(70 * time.Millisecond) }
			tick(windowLength + time.Second) // so little traffic is timed, all of it
			for range 10 {
				p.mustPut(1, 1)
			}
			tick(time.Second)
			if err := p.stop(); err != nil {
				t.Fatal(err)
			}
			target := series(telemetry.Write, telemetry.Target, telemetry.Serving, telemetry.OK)
			if phase == phases.ShadowWrite {
				target.Role = telemetry.Shadow
			}
			for s, want := range map[telemetry.Series]time.Duration{added: want, target: 20 * time.Millisecond, served(telemetry.Write, telemetry.Legacy): 70 * time.Millisecond} {
				for _, w := range f.windows {
					for _, c := range w.Counts {
						if c.Series != s {
							continue
						}
						got, _ := c.Latency.Quantile(0.5)
						if c.N != 10 || c.Latency.Count() != 10 || (got-want).Abs() > want/100+time.Microsecond {
							t.Errorf("%v: %d, %d timed, %s; want 10 of %s", s, c.N, c.Latency.Count(), got, want)
						}
						want = -1
					}
				}
				if want != -1 {
					t.Errorf("no %v", s)
				}
			}
		})
	}
}

func TestBusyInstancesTimeASampleAndCountAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(route(phases.Legacy))
		p := newTestInstance(t, f, newTarget(), newLegacy(), adjust{})
		const each = 100_000
		for range 3 {
			for range each {
				_ = p.get(1)
			}
			tick(windowLength)
		}
		if err := p.stop(); err != nil {
			t.Fatal(err)
		}
		n, sampled := f.observed(p.Name())
		s := served(telemetry.Read, telemetry.Legacy)
		// The first window has no count before it and times as few as possible.
		if want := uint64(3 * each / (maxSkip + 1)); n[s] != 3*each || sampled[s] < want-3*256 || sampled[s] > want+3*256 {
			t.Fatalf("%d counted, %d timed", n[s], sampled[s])
		}
		var of sampling
		for traffic, want := range map[uint64]uint64{0: 0, 1999: 0, 2000: 1, 64_000: 63, 1 << 40: 63} {
			of.adapt(traffic)
			if got := of.skip.Load(); got != want {
				t.Errorf("%d operations: skip %d, want %d", traffic, got, want)
			}
		}
		of.adapt(0) // and then a burst
		timed := 0
		for n := range uint64(10_000_000) {
			if n&of.skip.Load() == 0 {
				of.timed()
				timed++
			}
		}
		if timed > 7*mostTimed+10_000_000/64 || of.skip.Load() != maxSkip {
			t.Errorf("%d of a burst were timed", timed)
		}
	})
}
