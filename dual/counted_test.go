package dual

import (
	"context"
	"errors"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stranglerfig/migrator/evidence"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

func series(o evidence.Operation, s evidence.Store, r evidence.Role, out evidence.Outcome) evidence.Series {
	return evidence.Series{Operation: o, Store: s, Role: r, Outcome: out}
}

func served(o evidence.Operation, s evidence.Store) evidence.Series {
	return series(o, s, evidence.Serving, evidence.OK)
}

var added = series(evidence.Write, evidence.Both, evidence.Added, evidence.OK)

type counted map[evidence.Series]uint64

func (c counted) check(t *testing.T, f *memoryFleet, p *party) {
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
	read, write := evidence.Read, evidence.Write
	for phase, want := range map[phases.Phase]counted{
		phases.Legacy: {served(read, evidence.Legacy): reads, served(write, evidence.Legacy): writes},
		phases.ShadowWrite: {
			served(read, evidence.Legacy): reads, served(write, evidence.Legacy): writes, added: writes,
			series(write, evidence.Target, evidence.Shadow, evidence.OK): writes,
		},
		phases.DualRead: {
			served(read, evidence.Legacy): reads, served(write, evidence.Legacy): writes, served(write, evidence.Target): writes, added: writes,
			series(read, evidence.Target, evidence.Shadow, evidence.OK):                  reads,
			series(evidence.Comparison, evidence.Both, evidence.Shadow, evidence.Agreed): reads,
		},
		phases.Cutover:  {served(read, evidence.Target): reads, served(write, evidence.Legacy): writes, served(write, evidence.Target): writes, added: writes},
		phases.Grace:    {served(read, evidence.Target): reads, served(write, evidence.Legacy): writes, served(write, evidence.Target): writes, added: writes},
		phases.Retain:   {served(read, evidence.Target): reads, served(write, evidence.Target): writes},
		phases.Complete: {served(read, evidence.Target): reads, served(write, evidence.Target): writes},
	} {
		bubble(t, string(phase), func(t *testing.T) {
			f := newFleet(route(phase))
			p := newParty(t, f, newTarget(), newLegacy(), adjust{})
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

func TestFailuresAreCountedAsWhatTheyWere(t *testing.T) {
	t.Parallel()
	bubble(t, "reads of the target that fall back", func(t *testing.T) {
		f := newFleet(route(phases.Grace))
		p := newParty(t, f, newTarget(), newLegacy(), adjust{reader: func(c *ReaderConfig[int, int]) { c.TargetTimeout = 50 * time.Millisecond }})
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
			series(evidence.Read, evidence.Target, evidence.Serving, evidence.TimedOut): 2,
			series(evidence.Read, evidence.Target, evidence.Serving, evidence.Failed):   3,
			series(evidence.Read, evidence.Target, evidence.Serving, evidence.Rejected): 1,
			series(evidence.Read, evidence.Legacy, evidence.Fallback, evidence.OK):      6,
		}.check(t, f, p)
		if s := p.Stats(); s.LegacyReads != 6 || s.TargetReads != 0 || s.Fallbacks != 6 {
			t.Errorf("%+v", s)
		}
	})
	bubble(t, "a caller that gives up", func(t *testing.T) {
		f := newFleet(route(phases.Retain))
		p := newParty(t, f, newTarget(), newLegacy(), adjust{})
		p.target.do(func() { p.target.onGet = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() } })
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, _, _ = p.reader.Get(ctx, 1)
		if err := p.stop(); err != nil {
			t.Fatal(err)
		}
		counted{series(evidence.Read, evidence.Target, evidence.Serving, evidence.Cancelled): 1}.check(t, f, p)
	})
	bubble(t, "writes", func(t *testing.T) {
		f := newFleet(route(phases.DualRead))
		p := newParty(t, f, newTarget(), newLegacy(), adjust{})
		settle()
		mine := errors.New("unique violation")
		_ = p.writer.Put(t.Context(), 1, 1, func(context.Context) (record.Version, error) { return record.Version{}, mine })
		_ = p.writer.Put(t.Context(), 1, 1, func(context.Context) (record.Version, error) { return record.Version{}, nil }) // changes nothing
		p.target.do(func() { p.target.broken = errDown })
		p.mustPut(1, 1) // journalled
		f.do(func() { f.down = true })
		_ = p.put(1, 2)
		f.do(func() { f.down = false })
		tick(3 * time.Second)
		if err := p.stop(); err != nil {
			t.Fatal(err)
		}
		counted{
			series(evidence.Write, evidence.Legacy, evidence.Serving, evidence.Failed): 1,
			served(evidence.Write, evidence.Legacy):                                    3,
			series(evidence.Write, evidence.Target, evidence.Serving, evidence.Failed): 2,
			added: 1,
			series(evidence.Write, evidence.Both, evidence.Added, evidence.Failed): 1,
		}.check(t, f, p)
	})
}

func TestComparisonsAreCountedByWhatTheyShowed(t *testing.T) {
	t.Parallel()
	compared := func(o evidence.Outcome) evidence.Series {
		return series(evidence.Comparison, evidence.Both, evidence.Shadow, o)
	}
	for name, c := range map[string]struct {
		phase  phases.Phase
		spoil  func(p *party)
		config func(*ReaderConfig[int, int])
		want   evidence.Outcome
	}{
		"agreed":                        {phases.DualRead, func(*party) {}, nil, evidence.Agreed},
		"mismatch":                      {phases.Grace, func(p *party) { p.legacy.values[1] = 9 }, nil, evidence.Mismatch},
		"missing in legacy":             {phases.Grace, func(p *party) { delete(p.legacy.values, 1) }, nil, evidence.Mismatch},
		"lost":                          {phases.Grace, func(p *party) { delete(p.target.entries, 1) }, nil, evidence.Lost},
		"missing where nobody reads":    {phases.DualRead, func(p *party) { delete(p.target.entries, 1) }, nil, evidence.Mismatch},
		"known to be behind":            {phases.Cutover, func(p *party) { delete(p.target.entries, 1); p.behind.keys = map[record.Key]record.Version{"1": {}} }, nil, evidence.Mismatch},
		"the other store can't be read": {phases.DualRead, func(p *party) { p.target.broken = errDown }, nil, evidence.Undone},
	} {
		bubble(t, name, func(t *testing.T) {
			f := newFleet(route(c.phase))
			p := newParty(t, f, newTarget(), newLegacy(), adjust{reader: func(c *ReaderConfig[int, int]) { c.NoShadow, c.ShadowPercent = false, phases.All }})
			settle()
			p.mustPut(1, 1)
			c.spoil(p)
			_ = p.get(1)
			tick(time.Second)
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

func TestAddedLatencyIsWhatTheCallerWaitedAfterLegacyHadTheWrite(t *testing.T) {
	t.Parallel()
	for phase, want := range map[phases.Phase]time.Duration{phases.ShadowWrite: 0, phases.DualRead: 20 * time.Millisecond} {
		bubble(t, string(phase), func(t *testing.T) {
			f := newFleet(route(phase))
			p := newParty(t, f, newTarget(), newLegacy(), adjust{})
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
			target := series(evidence.Write, evidence.Target, evidence.Serving, evidence.OK)
			if phase == phases.ShadowWrite {
				target.Role = evidence.Shadow
			}
			for s, want := range map[evidence.Series]time.Duration{added: want, target: 20 * time.Millisecond, served(evidence.Write, evidence.Legacy): 70 * time.Millisecond} {
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
		p := newParty(t, f, newTarget(), newLegacy(), adjust{})
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
		s := served(evidence.Read, evidence.Legacy)
		// The first window doesn't know yet and is as sparing as can be.
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
