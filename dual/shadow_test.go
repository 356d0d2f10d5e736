package dual

import (
	"cmp"
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

func shadowing(on func(Mismatch)) func(*ReaderConfig[int, int]) {
	return func(c *ReaderConfig[int, int]) { c.NoShadow, c.ShadowPercent, c.OnMismatch = false, phases.All, on }
}

func TestOnlyAConfirmedMismatchCounts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		phase   phases.Phase
		prepare func(*testInstance)
		during  func(*testInstance, int) // after each pause
		want    MismatchKind
		agreed  bool
		lagged  bool
	}{
		{name: "agree", phase: phases.DualRead, agreed: true, prepare: func(p *testInstance) { p.legacy.values[1] = 2001 }},
		{name: "neither has it", phase: phases.DualRead, agreed: true, prepare: func(p *testInstance) { delete(p.legacy.values, 1); delete(p.target.entries, 1) }},
		{name: "fields", phase: phases.DualRead, want: FieldsDiffer},
		{name: "fields, cutover", phase: phases.Cutover, want: FieldsDiffer},
		{name: "fields, grace", phase: phases.Grace, want: FieldsDiffer},
		{name: "missing", phase: phases.DualRead, want: MissingInTarget, prepare: func(p *testInstance) { delete(p.target.entries, 1) }},
		{name: "extra", phase: phases.DualRead, want: ExtraInTarget, prepare: func(p *testInstance) { delete(p.legacy.values, 1) }},
		{name: "comes into agreement", phase: phases.DualRead, lagged: true, during: func(p *testInstance, n int) {
			if n == 2 {
				p.target.mu.Lock()
				defer p.target.mu.Unlock()
				p.target.entries[1] = Versioned[int]{1001, true, record.MakeVersion(0, 0, 2)}
			}
		}},
		{name: "the target has moved, and stays", phase: phases.DualRead, lagged: true, during: func(p *testInstance, n int) {
			if n == 0 {
				p.target.mu.Lock()
				defer p.target.mu.Unlock()
				p.target.entries[1] = Versioned[int]{0, true, record.MakeVersion(0, 0, 2)}
			}
		}},
		{name: "the target moves", phase: phases.DualRead, lagged: true, during: func(p *testInstance, n int) {
			p.target.mu.Lock()
			defer p.target.mu.Unlock()
			p.target.entries[1] = Versioned[int]{0, true, record.MakeVersion(0, 0, uint64(n+2))}
		}},
	} {
		bubble(t, c.name, func(t *testing.T) {
			var got []Mismatch
			p := newTestInstance(t, newFleet(route(c.phase)), newTarget(), newLegacy(), adjust{idle: true, reader: shadowing(func(m Mismatch) { got = append(got, m) })})
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
			if (s.ShadowsAgreed == 1) != c.agreed || (s.ShadowsLagged == 1) != c.lagged || s.Shadows != 1 || s.InFlight != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestCompareNamesTheFields(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got []Mismatch
		p := newTestInstance(t, newFleet(route(phases.DualRead)), newTarget(), newLegacy(), adjust{idle: true, reader: func(c *ReaderConfig[int, int]) {
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
		p := newTestInstance(t, newFleet(route(phases.DualRead)), newTarget(), newLegacy(), adjust{idle: true, reader: shadowing(nil)})
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
		p := newTestInstance(t, newFleet(route(phases.DualRead)), newTarget(), newLegacy(), adjust{idle: true, reader: func(c *ReaderConfig[int, int]) {
			shadowing(nil)(c)
			c.MaxShadows = 3
		}})
		apart(p, 2)
		p.target.onGet = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		for range 10 {
			p.get(1)
		}
		tick(1100 * time.Millisecond)
		if s := p.Stats(); s.Shadows != 3 || s.ShadowsDropped != 7 || s.ShadowsFailed != 3 || s.InFlight != 0 {
			t.Fatalf("%+v", s)
		}
	})
	bubble(t, "panics", func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.DualRead)), newTarget(), newLegacy(), adjust{idle: true, reader: shadowing(nil)})
		apart(p, 2)
		p.target.onGet = func(context.Context) error { panic("codec") }
		p.get(1)
		settle()
		if s := p.Stats(); s.ShadowsFailed != 1 || s.InFlight != 0 {
			t.Fatalf("%+v", s)
		}
	})
	bubble(t, "stopped when the route is replaced", func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.Grace)), newTarget(), newLegacy(), adjust{reader: shadowing(nil)})
		apart(p, 2)
		settle()
		p.get(1) // differs: will be rechecked
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
		p := newTestInstance(t, newFleet(route(phases.DualRead)), newTarget(), newLegacy(), adjust{reader: shadowing(nil)})
		p.target.do(func() { p.target.onGet = func(context.Context) error { <-hold; return nil } })
		settle()
		p.get(1)
		p.fleet.move(phases.ShadowWrite, 0)
		settle()
		if got := p.fleet.acknowledged(p.Instance); got != 1 {
			t.Fatalf("acknowledged %d with a shadow read in flight", got)
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
		p := newTestInstance(t, newFleet(phases.Route{Phase: phases.DualRead, Percent: 1000}), newTarget(), newLegacy(), adjust{idle: true, reader: func(c *ReaderConfig[int, int]) { c.MaxShadows = 1 << 20 }})
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

// TestTheRoutesShareRules: in cutover and grace the route's share replaces the program's, also one
// that the program doesn't compare by, in an instance that runs.
func TestTheRoutesShareRules(t *testing.T) {
	t.Parallel()
	for name, of := range map[string]struct {
		built func(*ReaderConfig[int, int])
		share phases.Shadow
		want  uint64
	}{
		"none is set, all by the program":     {shadowing(nil), 0, 10},
		"none is set, nothing by the program": {nil, 0, 0},
		"zero, all by the program":            {shadowing(nil), phases.SetShadow(0), 0},
		"all, nothing by the program":         {nil, phases.SetShadow(phases.All), 10},
	} {
		for _, phase := range []phases.Phase{phases.Cutover, phases.Grace} {
			bubble(t, name+", "+string(phase), func(t *testing.T) {
				f := newFleet(route(phase))
				p := newTestInstance(t, f, newTarget(), newLegacy(), adjust{reader: of.built})
				apart(p, 10)
				f.mu.Lock()
				f.route.Shadow = of.share
				f.route.Epoch++
				f.mu.Unlock()
				tick(time.Minute) // it renews
				for key := range 10 {
					p.get(key)
					tick(time.Second)
				}
				if s := p.Stats(); s.Shadows != of.want {
					t.Errorf("%d of 10 reads were compared, want %d", s.Shadows, of.want)
				}
			})
		}
	}
}

// capturedFleet is the fleet of a migration whose target change capture alone writes.
type capturedFleet struct {
	*memoryFleet
	asked  atomic.Int32
	answer func(asked int32, at time.Time) (Captured, error)
}

func (f *capturedFleet) Captured(context.Context) (Captured, error) {
	return f.answer(f.asked.Add(1), time.Now())
}

// TestADifferenceWaitsForCapture: where capture alone writes the target, a difference counts once the target has what
// legacy had when it was compared. What capture does not bring in time proves nothing.
func TestADifferenceWaitsForCapture(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		phase  phases.Phase
		answer func(p *testInstance, asked int32, at time.Time) (Captured, error)
		want   string
		asked  int32
	}{
		{name: "it brings the change", want: "lagged", asked: 6, answer: func(p *testInstance, asked int32, at time.Time) (Captured, error) {
			if asked < 6 {
				return Captured{Alone: true, At: at, CaughtUp: at.Add(-time.Minute)}, nil
			}
			p.target.do(func() { p.target.entries[1] = Versioned[int]{1001, true, record.MakeVersion(0, 0, 2)} })
			return Captured{Alone: true, At: at, CaughtUp: at}, nil
		}},
		{name: "it has brought nothing", want: "mismatch", asked: 6, answer: func(_ *testInstance, asked int32, at time.Time) (Captured, error) {
			if asked < 6 {
				return Captured{Alone: true, At: at}, nil
			}
			return Captured{Alone: true, At: at, CaughtUp: at}, nil
		}},
		{name: "what legacy changed since is under way", want: "lagged", asked: 2, answer: func(p *testInstance, asked int32, at time.Time) (Captured, error) {
			if asked == 2 {
				p.legacy.mu.Lock()
				p.legacy.values[1] = 3003
				p.legacy.mu.Unlock()
				return Captured{Alone: true, At: at, CaughtUp: at}, nil
			}
			return Captured{Alone: true, At: at}, nil
		}},
		{name: "it lags for long", want: "failed", asked: 32, answer: func(_ *testInstance, _ int32, at time.Time) (Captured, error) {
			return Captured{Alone: true, At: at, CaughtUp: at.Add(-time.Hour)}, nil
		}},
		{name: "a record that it has yet to bring is not lost", phase: phases.Cutover, want: "lagged", asked: 3, answer: func(p *testInstance, asked int32, at time.Time) (Captured, error) {
			if asked < 3 {
				return Captured{Alone: true, At: at}, nil
			}
			p.target.do(func() { p.target.entries[1] = Versioned[int]{1001, true, record.MakeVersion(0, 0, 2)} })
			return Captured{Alone: true, At: at, CaughtUp: at}, nil
		}},
		{name: "beside others", want: "mismatch", asked: 1, answer: func(_ *testInstance, _ int32, at time.Time) (Captured, error) {
			return Captured{At: at}, nil
		}},
	} {
		bubble(t, c.name, func(t *testing.T) {
			fleet := &capturedFleet{memoryFleet: newFleet(route(cmp.Or(c.phase, phases.DualRead)))}
			var got []Mismatch
			p := newTestInstance(t, fleet.memoryFleet, newTarget(), newLegacy(), adjust{
				idle: true, config: func(c *Config) { c.Fleet = fleet }, reader: shadowing(func(m Mismatch) { got = append(got, m) }),
			})
			fleet.answer = func(asked int32, at time.Time) (Captured, error) { return c.answer(p, asked, at) }
			apart(p, 2)
			if c.phase == phases.Cutover {
				delete(p.target.entries, 1)
			}
			p.get(1)
			for range 40 {
				settle()
				tick(time.Second)
			}
			s := p.Stats()
			counts := map[string]uint64{"lagged": s.ShadowsLagged, "mismatch": s.Mismatches, "failed": s.ShadowsFailed}
			for name, n := range counts {
				if (n == 1) != (name == c.want) || n > 1 {
					t.Errorf("%s: %d, want one %s", name, n, c.want)
				}
			}
			if asked := fleet.asked.Load(); asked != c.asked || len(got) != int(s.Mismatches) || s.Lost != 0 || s.InFlight != 0 {
				t.Errorf("asked %d times, mismatches %+v, %+v", asked, got, s)
			}
		})
	}
}
