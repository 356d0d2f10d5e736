package dual

import (
	"context"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// nothing is a target that does nothing, so that only this package's own cost is measured.
type absentDelete struct{}

func (absentDelete) Get(context.Context, int) (Versioned[int], error) {
	return Versioned[int]{Found: true}, nil
}

func (absentDelete) Apply(context.Context, Change[int, int], ApplyOptions) (store.Result, error) {
	return store.Result{Outcome: store.Applied}, nil
}
func (absentDelete) Now(context.Context) (time.Time, error) { return time.Now(), nil }

func cheap(tb testing.TB, r phases.Route, shadow phases.Percent) (*Reader[int, int], *Writer[int, int]) {
	tb.Helper()
	f := newFleet(r)
	f.ttl = time.Hour
	i, err := Join(tb.Context(), Config{Fleet: f, Writing: Writing{Queue: 1 << 16}})
	if err != nil {
		tb.Fatal(err)
	}
	reader, err := NewReader(ReaderConfig[int, int]{
		Instance: i, Legacy: func(context.Context, int) (int, bool, error) { return 1, true, nil }, Target: absentDelete{},
		Key: func(int) record.Key { return "42" }, Equal: func(int, int) bool { return true }, ShadowPercent: shadow, NoShadow: shadow == 0,
	})
	if err != nil {
		tb.Fatal(err)
	}
	writer, err := NewWriter(WriterConfig[int, int]{
		Instance: i, Target: absentDelete{}, Key: func(int) record.Key { return "42" },
		Legacy: func(context.Context, int) (int, bool, error) { return 0, false, nil },
	})
	if err != nil {
		tb.Fatal(err)
	}
	if err := writer.clock.fetch(tb.Context(), time.Second, true); err != nil {
		tb.Fatal(err)
	}
	return reader, writer
}

func committed(context.Context) (record.Version, error) { return record.MakeVersion(1, 0, 1), nil }

var benched = []struct {
	name   string
	route  phases.Route
	shadow phases.Percent
}{
	{"legacy", phases.Route{Phase: phases.Legacy}, 0},
	{"shadow-write", phases.Route{Phase: phases.ShadowWrite}, 0},
	{"dual-read 1%", phases.Route{Phase: phases.DualRead, Percent: 100}, 0},
	{"cutover 50%", phases.Route{Phase: phases.Cutover, Percent: 5000}, 0},
	{"grace", phases.Route{Phase: phases.Grace}, 0},
	{"grace, 1% shadow", phases.Route{Phase: phases.Grace}, 100},
	{"retain", phases.Route{Phase: phases.Retain}, 0},
	{"complete", phases.Route{Phase: phases.Complete}, 0},
}

func BenchmarkRead(b *testing.B) {
	ctx := context.Background()
	b.Run("direct call", func(b *testing.B) {
		direct := func(context.Context, int) (int, bool, error) { return 1, true, nil }
		call := &direct
		b.ReportAllocs()
		for b.Loop() {
			_, _, _ = (*call)(ctx, 1)
		}
	})
	for _, c := range benched {
		b.Run(c.name, func(b *testing.B) {
			r, _ := cheap(b, c.route, c.shadow)
			b.ReportAllocs()
			for b.Loop() {
				_, _, _ = r.Get(ctx, 1)
			}
		})
	}
	for _, c := range benched {
		b.Run("parallel "+c.name, func(b *testing.B) {
			r, _ := cheap(b, c.route, c.shadow)
			b.ReportAllocs()
			b.SetParallelism(4) // goroutines a processor
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					_, _, _ = r.Get(ctx, 1)
				}
			})
		})
	}
}

// neverThere is a target without records.
type neverThere struct{ absentDelete }

func (neverThere) Get(context.Context, int) (Versioned[int], error) { return Versioned[int]{}, nil }

// BenchmarkMissedRead reads a record that neither store has: legacy is asked once, except in
// complete.
func BenchmarkMissedRead(b *testing.B) {
	for _, p := range []phases.Phase{phases.Cutover, phases.Grace, phases.Retain, phases.Complete} {
		b.Run(string(p), func(b *testing.B) {
			f := newFleet(route(p))
			f.ttl = time.Hour
			i, err := Join(b.Context(), Config{Fleet: f})
			if err != nil {
				b.Fatal(err)
			}
			asked := 0
			r, err := NewReader(ReaderConfig[int, int]{
				Instance: i, Legacy: func(context.Context, int) (int, bool, error) { asked++; return 0, false, nil }, Target: neverThere{},
				Key: func(int) record.Key { return "42" }, Equal: same, NoShadow: true,
			})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				_, _, _ = r.Get(b.Context(), 1)
			}
			b.ReportMetric(float64(asked)/float64(b.N), "legacy-reads/op")
		})
	}
}

// whole is a Marker whose target has every mark.
type whole struct{ store.Marker }

func (whole) CheckMark(context.Context, store.Mark) error { return nil }

// always has every record.
type always struct{ neverThere }

func (always) Get(context.Context, int) (Versioned[int], error) {
	return Versioned[int]{Value: 1, Found: true, Version: record.MakeVersion(1, 1, 1)}, nil
}

// BenchmarkWatchedRead: what it costs a read of a record that is there that the instance watches the
// target's marks.
func BenchmarkWatchedRead(b *testing.B) {
	for _, p := range []phases.Phase{phases.Grace, phases.Retain} {
		for name, marks := range map[string]store.Marker{"": nil, ", watched": whole{}} {
			b.Run(string(p)+name, func(b *testing.B) {
				f := newFleet(route(p))
				f.ttl = time.Hour
				f.SetMark(store.Mark{Owner: "o", Incarnation: "i"})
				i, err := Join(b.Context(), Config{Fleet: f, Marks: marks})
				if err != nil {
					b.Fatal(err)
				}
				r, err := NewReader(ReaderConfig[int, int]{
					Instance: i, Legacy: func(context.Context, int) (int, bool, error) { return 0, false, nil }, Target: always{},
					Key: func(int) record.Key { return "42" }, Equal: same, NoShadow: true,
				})
				if err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				for b.Loop() {
					_, _, _ = r.Get(b.Context(), 1)
				}
			})
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	ctx := context.Background()
	b.Run("direct call", func(b *testing.B) {
		direct := committed
		call := &direct
		b.ReportAllocs()
		for b.Loop() {
			_, _ = (*call)(ctx)
		}
	})
	for _, c := range benched {
		if c.shadow > 0 {
			continue
		}
		writer := func(b *testing.B) *Writer[int, int] {
			b.Helper()
			_, w := cheap(b, c.route, c.shadow)
			if c.route.Phase == phases.ShadowWrite {
				done := make(chan struct{})
				ctx, stop := context.WithCancel(ctx)
				go func() { w.i.background(ctx); close(done) }()
				b.Cleanup(func() { stop(); <-done })
			}
			b.ReportAllocs()
			return w
		}
		b.Run(c.name, func(b *testing.B) {
			w := writer(b)
			for b.Loop() {
				_ = w.Put(ctx, 1, 2, committed)
			}
		})
		b.Run("parallel "+c.name, func(b *testing.B) {
			w := writer(b)
			b.SetParallelism(4) // goroutines a processor
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					_ = w.Put(ctx, 1, 2, committed)
				}
			})
		})
	}
}

func BenchmarkLeaseClock(b *testing.B) {
	clock := defaultClock()
	for b.Loop() {
		_ = clock()
	}
}

func TestLegacyPhaseCostsNoAllocationNoClockAndNoStore(t *testing.T) {
	clocks := 0
	f := newFleet(route(phases.Legacy))
	i, err := Join(t.Context(), Config{Fleet: f, Clock: func() time.Duration { clocks++; return 0 }})
	if err != nil {
		t.Fatal(err)
	}
	target := newTarget()
	target.broken = errDown
	target.onApply = func(context.Context) error { t.Error("the target was asked"); return nil }
	target.onGet = target.onApply
	keys := func(int) record.Key { t.Error("the key was made"); return "" }
	r, err := NewReader(ReaderConfig[int, int]{Instance: i, Legacy: func(context.Context, int) (int, bool, error) { return 1, true, nil }, Target: target, Key: keys, Equal: same})
	if err != nil {
		t.Fatal(err)
	}
	w, err := NewWriter(WriterConfig[int, int]{Instance: i, Target: target, Key: keys, Legacy: newLegacy().read})
	if err != nil {
		t.Fatal(err)
	}
	op := Op[int, int]{Legacy: func(context.Context) ([]Change[int, int], error) { return nil, nil }, Keys: []int{1}}
	clocks = 0
	for name, call := range map[string]func(){
		"Get":    func() { _, _, _ = r.Get(t.Context(), 1) },
		"Put":    func() { _ = w.Put(t.Context(), 1, 2, committed) },
		"Delete": func() { _ = w.Delete(t.Context(), 1, committed) },
		"Write":  func() { _ = w.Write(t.Context(), op) },
	} {
		if n := testing.AllocsPerRun(100, call); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	if clocks != 0 {
		t.Errorf("the clock was read %d times", clocks)
	}
}

func TestReadsAndStrictWritesAllocateWithinBounds(t *testing.T) {
	ctx := context.Background()
	for _, c := range benched {
		if c.shadow > 0 || c.route.Phase == phases.DualRead {
			continue // what is sampled allocates
		}
		r, w := cheap(t, c.route, 0)
		if n := testing.AllocsPerRun(100, func() { _, _, _ = r.Get(ctx, 1) }); n != 0 {
			t.Errorf("read in %s: %v allocations", c.name, n)
		}
		if c.route.Behaviour().Writes == phases.WritesBoth {
			if n := testing.AllocsPerRun(100, func() { _ = w.Put(ctx, 1, 2, committed) }); n > 2 {
				t.Errorf("write in %s: %v allocations", c.name, n)
			}
		}
	}
}
