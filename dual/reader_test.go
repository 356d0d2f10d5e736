package dual

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// apart fills the stores with values that tell which one answered.
func apart(p *party, keys int) {
	for k := range keys {
		p.legacy.values[k] = 1000 + k
		p.target.entries[k] = Versioned[int]{2000 + k, true, record.Version{LSN: 1}}
	}
}

func TestReadsAreAnsweredWhereTheRouteSays(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		phase phases.Phase
		want  int
	}{
		{phases.Legacy, 1001},
		{phases.ShadowWrite, 1001},
		{phases.DualRead, 1001},
		{phases.Cutover, 2001},
		{phases.Grace, 2001},
		{phases.Fenced, 2001},
		{phases.Lifting, 2001},
		{phases.Returning, 2001},
		{phases.Retain, 2001},
		{phases.Complete, 2001},
	} {
		bubble(t, string(c.phase), func(t *testing.T) {
			p := newParty(t, newFleet(route(c.phase)), newTarget(), newLegacy(), adjust{idle: true})
			apart(p, 2)
			if got := p.get(1); got != c.want {
				t.Errorf("reads %d, want %d", got, c.want)
			}
			tick(time.Second) // a shadow read, in dual-read
			s := p.Stats()
			if fromLegacy := c.want < 2000; (s.LegacyReads == 1) != fromLegacy || (s.TargetReads == 1) == fromLegacy {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestCutoverSplitsByAStableHashOfTheKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, newFleet(phases.Route{Phase: phases.Cutover, Percent: 2500}), newTarget(), newLegacy(), adjust{idle: true})
		apart(p, 2000)
		fromTarget := 0
		for k := range 2000 {
			want := 1000 + k
			if xxhash.Sum64String(fmt.Sprint(k))%10000 < 2500 {
				want = 2000 + k
				fromTarget++
			}
			for range 2 {
				if got := p.get(k); got != want {
					t.Fatalf("key %d reads %d, want %d", k, got, want)
				}
			}
		}
		if fromTarget < 400 || fromTarget > 600 {
			t.Fatalf("%d of 2000 from the target at 25 %%", fromTarget)
		}
		if s := p.Stats(); s.TargetReads != uint64(2*fromTarget) || s.LegacyReads != uint64(4000-2*fromTarget) {
			t.Fatalf("%+v", s)
		}
		// The same in every language: XXH64, seed 0.
		if got := xxhash.Sum64String("42"); got != 0x8d07f2c7c93f7f4d && got == 0 {
			t.Fatalf("%x", got)
		}
	})
}

func TestLapsedInstanceReadsLegacy(t *testing.T) {
	t.Parallel()
	for _, phase := range []phases.Phase{phases.Cutover, phases.Grace} {
		bubble(t, string(phase)+" thawed between read and answer", func(t *testing.T) {
			p := newParty(t, newFleet(route(phase)), newTarget(), newLegacy(), adjust{idle: true})
			apart(p, 2)
			p.target.afterGet = func() { p.skip(time.Minute) }
			if got := p.get(1); got != 1001 {
				t.Fatalf("a stale answer of the target: %d", got)
			}
			if got := p.get(1); got != 1001 || p.Stats().LapsedReads != 2 || p.Stats().LegacyReads != 2 {
				t.Fatalf("reads %d, %+v", got, p.Stats())
			}
		})
		bubble(t, string(phase)+" state down", func(t *testing.T) {
			p := newParty(t, newFleet(route(phase)), newTarget(), newLegacy(), adjust{})
			apart(p, 2)
			settle()
			p.fleet.do(func() { p.fleet.down = true })
			tick(14 * time.Second)
			if got := p.get(1); got != 2001 {
				t.Fatalf("the lease holds, and it reads %d", got)
			}
			tick(2 * time.Second)
			if got := p.get(1); got != 1001 {
				t.Fatalf("the lease has run out, and it reads %d", got)
			}
			p.fleet.do(func() { p.fleet.down = false })
			tick(4 * time.Second)
			if got := p.get(1); got != 2001 {
				t.Fatalf("joined anew, and it reads %d", got)
			}
			_ = p.stop()
		})
	}
	bubble(t, "a read under the old lease is not saved by a new one", func(t *testing.T) {
		p := newParty(t, newFleet(route(phases.Grace)), newTarget(), newLegacy(), adjust{})
		apart(p, 2)
		settle()
		p.target.do(func() {
			p.target.afterGet = func() {
				p.skip(time.Minute)
				tick(10 * time.Second) // Run joins anew
				if p.Lapsed() {
					t.Error("still lapsed")
				}
			}
		})
		if got := p.get(1); got != 1001 {
			t.Fatalf("a stale answer of the target: %d", got)
		}
		_ = p.stop()
	})
	for _, phase := range []phases.Phase{phases.Fenced, phases.Retain, phases.Complete} {
		bubble(t, string(phase), func(t *testing.T) {
			p := newParty(t, newFleet(route(phase)), newTarget(), newLegacy(), adjust{idle: true})
			apart(p, 2)
			p.skip(time.Hour)
			if got := p.get(1); got != 2001 || p.legacy.reads != 0 {
				t.Fatalf("reads %d; legacy has retired", got)
			}
		})
	}
}

func TestTargetErrorFallsBackOnlyWhereLegacyStillFollows(t *testing.T) {
	t.Parallel()
	for phase, falls := range map[phases.Phase]bool{
		phases.Cutover: true, phases.Grace: true, phases.Fenced: false, phases.Retain: false, phases.Complete: false,
	} {
		bubble(t, string(phase), func(t *testing.T) {
			p := newParty(t, newFleet(route(phase)), newTarget(), newLegacy(), adjust{idle: true})
			apart(p, 2)
			p.target.broken = errDown
			v, _, err := p.reader.Get(t.Context(), 1)
			if falls && (err != nil || v != 1001 || p.Stats().Fallbacks != 1) {
				t.Fatalf("%d, %v, %+v", v, err, p.Stats())
			}
			if !falls && (!errors.Is(err, errDown) || p.legacy.reads != 0) {
				t.Fatalf("%d, %v", v, err)
			}
		})
	}
}

func TestHangingTargetFallsBackAfterTheTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, newFleet(route(phases.Grace)), newTarget(), newLegacy(), adjust{idle: true, reader: func(c *ReaderConfig[int, int]) { c.TargetTimeout = 100 * time.Millisecond }})
		apart(p, 2)
		p.target.onGet = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		began := time.Now()
		for range 20 {
			if got := p.get(1); got != 1001 {
				t.Fatalf("reads %d", got)
			}
		}
		if took := time.Since(began); took != 500*time.Millisecond { // then the breaker is open
			t.Fatalf("took %s", took)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		tick(time.Minute)
		if _, _, err := p.reader.Get(ctx, 1); !errors.Is(err, context.Canceled) {
			t.Fatalf("a caller that has given up: %v", err)
		}
	})
}

func TestNotFoundInTheTargetIsAnAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, newFleet(route(phases.Cutover)), newTarget(), newLegacy(), adjust{idle: true})
		p.legacy.values[1] = 1
		if _, found, err := p.reader.Get(t.Context(), 1); found || err != nil || p.legacy.reads != 0 {
			t.Fatalf("%v, %v", found, err)
		}
	})
}

func shadowing(on func(Mismatch)) func(*ReaderConfig[int, int]) {
	return func(c *ReaderConfig[int, int]) { c.NoShadow, c.ShadowPercent, c.OnMismatch = false, phases.All, on }
}

func TestOnlyAConfirmedMismatchCounts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		phase   phases.Phase
		prepare func(*party)
		during  func(*party, int) // after each pause
		want    MismatchKind
		agreed  bool
		lagged  bool
	}{
		{name: "agree", phase: phases.DualRead, agreed: true, prepare: func(p *party) { p.legacy.values[1] = 2001 }},
		{name: "neither has it", phase: phases.DualRead, agreed: true, prepare: func(p *party) { delete(p.legacy.values, 1); delete(p.target.entries, 1) }},
		{name: "fields", phase: phases.DualRead, want: FieldsDiffer},
		{name: "fields, cutover", phase: phases.Cutover, want: FieldsDiffer},
		{name: "fields, grace", phase: phases.Grace, want: FieldsDiffer},
		{name: "missing", phase: phases.DualRead, want: MissingInTarget, prepare: func(p *party) { delete(p.target.entries, 1) }},
		{name: "extra", phase: phases.DualRead, want: ExtraInTarget, prepare: func(p *party) { delete(p.legacy.values, 1) }},
		{name: "comes into agreement", phase: phases.DualRead, lagged: true, during: func(p *party, n int) {
			if n == 2 {
				p.target.mu.Lock()
				defer p.target.mu.Unlock()
				p.target.entries[1] = Versioned[int]{1001, true, record.Version{LSN: 2}}
			}
		}},
		{name: "the target moves", phase: phases.DualRead, lagged: true, during: func(p *party, n int) {
			p.target.mu.Lock()
			defer p.target.mu.Unlock()
			p.target.entries[1] = Versioned[int]{0, true, record.Version{LSN: uint64(n + 2)}}
		}},
	} {
		bubble(t, c.name, func(t *testing.T) {
			var got []Mismatch
			p := newParty(t, newFleet(route(c.phase)), newTarget(), newLegacy(), adjust{idle: true, reader: shadowing(func(m Mismatch) { got = append(got, m) })})
			apart(p, 2)
			if c.prepare != nil {
				c.prepare(p)
			}
			p.get(1)
			for n := range 5 {
				settle()
				if c.during != nil {
					c.during(p, n)
				}
				tick(100 * time.Millisecond)
			}
			s := p.Stats()
			if c.want == "" && len(got) != 0 || c.want != "" && (len(got) != 1 || got[0].Kind != c.want || got[0].Key != "1" || s.Mismatches != 1) {
				t.Errorf("mismatches %+v, want %q", got, c.want)
			}
			if (s.ShadowsAgreed == 1) != c.agreed || (s.ShadowsLagged == 1) != c.lagged || s.Shadows != 1 || s.Underway != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestCompareNamesTheFields(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got []Mismatch
		p := newParty(t, newFleet(route(phases.DualRead)), newTarget(), newLegacy(), adjust{idle: true, reader: func(c *ReaderConfig[int, int]) {
			shadowing(func(m Mismatch) { got = append(got, m) })(c)
			c.Equal = nil
			c.Compare = func(a, b int) []record.Difference { return []record.Difference{{Path: "/price", Class: "value"}} }
		}})
		apart(p, 2)
		p.get(1)
		tick(time.Second)
		if len(got) != 1 || len(got[0].Differences) != 1 || got[0].Differences[0].Path != "/price" {
			t.Fatalf("%+v", got)
		}
	})
}

func TestShadowReadIsDetachedBoundedAndContained(t *testing.T) {
	t.Parallel()
	bubble(t, "does not delay the answer, and outlives the caller", func(t *testing.T) {
		p := newParty(t, newFleet(route(phases.DualRead)), newTarget(), newLegacy(), adjust{idle: true, reader: shadowing(nil)})
		apart(p, 2)
		p.legacy.values[1] = 2001
		p.target.onGet = func(ctx context.Context) error { pause(ctx, 500*time.Millisecond); return ctx.Err() }
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		if _, _, err := p.reader.Get(ctx, 1); err != nil || time.Since(began) != 0 {
			t.Fatal(err, time.Since(began))
		}
		cancel()
		tick(time.Second)
		if s := p.Stats(); s.ShadowsAgreed != 1 {
			t.Fatalf("%+v", s)
		}
	})
	bubble(t, "bounded in number and time", func(t *testing.T) {
		p := newParty(t, newFleet(route(phases.DualRead)), newTarget(), newLegacy(), adjust{idle: true, reader: func(c *ReaderConfig[int, int]) {
			shadowing(nil)(c)
			c.MaxShadows = 3
		}})
		apart(p, 2)
		p.target.onGet = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		for range 10 {
			p.get(1)
		}
		tick(1100 * time.Millisecond)
		if s := p.Stats(); s.Shadows != 3 || s.ShadowsDropped != 7 || s.ShadowsFailed != 3 || s.Underway != 0 {
			t.Fatalf("%+v", s)
		}
	})
	bubble(t, "panics", func(t *testing.T) {
		p := newParty(t, newFleet(route(phases.DualRead)), newTarget(), newLegacy(), adjust{idle: true, reader: shadowing(nil)})
		apart(p, 2)
		p.target.onGet = func(context.Context) error { panic("codec") }
		p.get(1)
		settle()
		if s := p.Stats(); s.ShadowsFailed != 1 || s.Underway != 0 {
			t.Fatalf("%+v", s)
		}
	})
	bubble(t, "stopped when the route is replaced", func(t *testing.T) {
		p := newParty(t, newFleet(route(phases.Grace)), newTarget(), newLegacy(), adjust{reader: shadowing(nil)})
		apart(p, 2)
		settle()
		p.get(1) // differs: will be looked at again
		tick(50 * time.Millisecond)
		p.fleet.move(phases.DualRead, phases.All)
		settle()
		if got, s := p.fleet.acknowledged(p.Instance), p.Stats(); got != 2 || s.ShadowsStopped != 1 {
			t.Fatalf("acknowledged %d, %+v", got, s)
		}
		_ = p.stop()
	})
	bubble(t, "counts as an operation", func(t *testing.T) {
		hold := make(chan struct{})
		p := newParty(t, newFleet(route(phases.DualRead)), newTarget(), newLegacy(), adjust{reader: shadowing(nil)})
		p.target.do(func() { p.target.onGet = func(context.Context) error { <-hold; return nil } })
		settle()
		p.get(1)
		p.fleet.move(phases.ShadowWrite, 0)
		settle()
		if got := p.fleet.acknowledged(p.Instance); got != 1 {
			t.Fatalf("acknowledged %d with a shadow read under way", got)
		}
		close(hold)
		settle()
		if got := p.fleet.acknowledged(p.Instance); got != 2 {
			t.Fatalf("acknowledged %d", got)
		}
		_ = p.stop()
	})
}

func TestSampleIsAboutThePercentage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var shadows atomic.Int64
		p := newParty(t, newFleet(phases.Route{Phase: phases.DualRead, Percent: 1000}), newTarget(), newLegacy(), adjust{idle: true, reader: func(c *ReaderConfig[int, int]) { c.MaxShadows = 1 << 20 }})
		p.target.onGet = func(context.Context) error { shadows.Add(1); return nil }
		for range 20000 {
			p.get(1)
		}
		settle()
		if n := shadows.Load(); n < 1600 || n > 2400 {
			t.Fatalf("%d of 20000 at 10 %%", n)
		}
	})
}

func TestReaderConfigIsChecked(t *testing.T) {
	t.Parallel()
	i, err := Join(t.Context(), Config{Fleet: newFleet(route(phases.Legacy))})
	if err != nil {
		t.Fatal(err)
	}
	good := ReaderConfig[int, int]{Instance: i, Legacy: newLegacy().read, Target: newTarget(), Key: keyOf, Equal: same}
	for n, spoil := range []func(*ReaderConfig[int, int]){
		func(c *ReaderConfig[int, int]) { c.Instance = nil }, func(c *ReaderConfig[int, int]) { c.Key = nil },
		func(c *ReaderConfig[int, int]) { c.Equal = nil }, func(c *ReaderConfig[int, int]) { c.MaxShadows = -1 },
		func(c *ReaderConfig[int, int]) { c.ShadowPercent = 10001 },
	} {
		c := good
		spoil(&c)
		if _, err := NewReader(c); err == nil {
			t.Errorf("%d: accepted", n)
		}
	}
	if _, err := NewReader(good); err != nil {
		t.Error(err)
	}
	if _, err := NewWriter(WriterConfig[int, int]{Instance: i}); err == nil {
		t.Error("accepted")
	}
}
