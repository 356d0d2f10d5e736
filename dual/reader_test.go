package dual

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// apart fills the stores with values that show which one answered.
func apart(p *testInstance, keys int) {
	for k := range keys {
		p.legacy.values[k] = 1000 + k
		p.target.entries[k] = Versioned[int]{2000 + k, true, record.MakeVersion(0, 0, 1)}
	}
}

func TestReadsFollowTheRoute(t *testing.T) {
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
			p := newTestInstance(t, newFleet(route(c.phase)), newTarget(), newLegacy(), adjust{idle: true})
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
		p := newTestInstance(t, newFleet(phases.Route{Phase: phases.Cutover, Percent: 2500}), newTarget(), newLegacy(), adjust{idle: true})
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
			p := newTestInstance(t, newFleet(route(phase)), newTarget(), newLegacy(), adjust{idle: true})
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
			p := newTestInstance(t, newFleet(route(phase)), newTarget(), newLegacy(), adjust{})
			apart(p, 2)
			settle()
			p.fleet.do(func() { p.fleet.outage = errDown })
			tick(14 * time.Second)
			if got := p.get(1); got != 2001 {
				t.Fatalf("the lease is valid, and it reads %d", got)
			}
			tick(2 * time.Second)
			if got := p.get(1); got != 1001 {
				t.Fatalf("the lease has expired, and it reads %d", got)
			}
			p.fleet.do(func() { p.fleet.outage = nil })
			tick(4 * time.Second)
			if got := p.get(1); got != 2001 {
				t.Fatalf("rejoined, and it reads %d", got)
			}
			_ = p.stop()
		})
	}
	bubble(t, "a read under the old lease is not saved by a new one", func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.Grace)), newTarget(), newLegacy(), adjust{})
		apart(p, 2)
		settle()
		p.target.do(func() {
			p.target.afterGet = func() {
				p.skip(time.Minute)
				tick(10 * time.Second) // Run rejoins
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
			p := newTestInstance(t, newFleet(route(phase)), newTarget(), newLegacy(), adjust{idle: true})
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
			p := newTestInstance(t, newFleet(route(phase)), newTarget(), newLegacy(), adjust{idle: true})
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
		p := newTestInstance(t, newFleet(route(phases.Grace)), newTarget(), newLegacy(), adjust{idle: true, reader: func(c *ReaderConfig[int, int]) { c.TargetTimeout = 100 * time.Millisecond }})
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
		tick(61 * time.Second)
		if _, _, err := p.reader.Get(ctx, 1); !errors.Is(err, context.Canceled) {
			t.Fatalf("a caller that has given up: %v", err)
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
	for n, corrupt := range []func(*ReaderConfig[int, int]){
		func(c *ReaderConfig[int, int]) { c.Instance = nil }, func(c *ReaderConfig[int, int]) { c.Key = nil },
		func(c *ReaderConfig[int, int]) { c.Equal = nil }, func(c *ReaderConfig[int, int]) { c.MaxShadows = -1 },
		func(c *ReaderConfig[int, int]) { c.ShadowPercent = 10001 },
	} {
		c := good
		corrupt(&c)
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
