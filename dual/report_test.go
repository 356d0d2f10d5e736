package dual

import (
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/phases"
)

func TestWindowsOutliveAnOutageOfTheState(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(route(phases.DualRead))
		p := newTestInstance(t, f, newTarget(), newLegacy(), adjust{})
		_ = p.get(1)
		f.do(func() { f.noResponse = true })
		tick(windowLength + time.Second) // taken, but the response does not arrive
		f.do(func() { f.noResponse, f.outage = false, errDown })
		for range 3 {
			_ = p.get(1)
			tick(windowLength)
		}
		f.do(func() { f.outage = nil })
		tick(windowLength)
		if len(f.windows) != 4 || f.sent != 5 {
			t.Fatalf("%d windows of %d sent", len(f.windows), f.sent)
		}
		for n, w := range f.windows {
			if w.Sequence != int64(n+1) || w.Length != windowLength || w.Discarded != 0 {
				t.Errorf("%+v", w)
			}
			if age := windowLength * time.Duration(4-n); n > 0 && (w.Age-age).Abs() > time.Second {
				t.Errorf("window %d: age %s, want %s", n+1, w.Age, age)
			}
		}
		f.do(func() { f.outage = errDown; f.windows = nil })
		for range windowsKept + 5 {
			_ = p.get(1)
			tick(windowLength)
		}
		f.do(func() { f.outage = nil })
		tick(windowLength)
		given := uint64(0)
		for _, w := range f.windows {
			given += w.Discarded
		}
		if len(f.windows) != windowsKept || given != 5 || p.Stats().Discarded != 5 {
			t.Errorf("%d windows, %d given up, %+v", len(f.windows), given, p.Stats())
		}
		_ = p.stop()
	})
}

func TestWindowHasOneEpochAndConfiguration(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(route(phases.Legacy))
		f.hash = "a"
		p := newTestInstance(t, f, newTarget(), newLegacy(), adjust{})
		settle()
		_ = p.get(1)
		f.move(phases.ShadowWrite, 0)
		settle()
		_ = p.get(1)
		_ = p.get(1)
		f.do(func() { f.hash = "b" })
		tick(6 * time.Second) // a renewal
		_ = p.get(1)
		if err := p.stop(); err != nil {
			t.Fatal(err)
		}
		type of struct {
			epoch int64
			hash  string
		}
		got := map[of]uint64{}
		for _, w := range f.windows {
			got[of{w.Epoch, w.ConfigHash}] += w.Counts[0].N
		}
		if want := map[of]uint64{{1, "a"}: 1, {2, "a"}: 2, {2, "b"}: 1}; !maps.Equal(got, want) {
			t.Fatalf("%v", got)
		}
	})
}

func TestObservedReturnsAllCountsSinceJoin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(route(phases.Legacy))
		p := newTestInstance(t, f, newTarget(), newLegacy(), adjust{})
		settle()
		if got := p.Observed(); len(got) != 0 {
			t.Fatalf("before the first window: %v", got)
		}
		tick(windowLength) // so little traffic is timed, all of it
		var before, timed uint64
		for _, phase := range []phases.Phase{phases.ShadowWrite, phases.DualRead, phases.ShadowWrite} {
			p.mustPut(1, 1)
			_ = p.get(1)
			f.move(phase, 0)
			settle()
			tick(windowLength)
			reads := served(telemetry.Read, telemetry.Legacy)
			n := telemetry.N([]telemetry.Bucket{{Counts: p.Observed()}}, reads)
			if n != before+1 {
				t.Fatalf("%d reads in %s, want %d", n, phase, before+1)
			}
			before = n
			for _, c := range p.Observed() { // the caller's own: changing it has no effect
				if c.Series == reads {
					timed = c.Latency.Count()
					c.Latency.Merge(c.Latency)
				}
			}
		}
		if timed != before {
			t.Errorf("%d of %d reads are timed", timed, before)
		}
		_ = p.get(1)
		if err := p.stop(); err != nil { // what is left is the last window
			t.Fatal(err)
		}
		got := counted{}
		for _, c := range p.Observed() {
			got[c.Series] = c.N
		}
		got.check(t, f, p)
	})
}

// blind is a fleet that takes no counts.
type blind struct{ Fleet }

func TestInstanceCountsWithoutAnObserver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(route(phases.Legacy))
		p := newTestInstance(t, f, newTarget(), newLegacy(), adjust{config: func(c *Config) { c.Fleet = blind{f} }})
		for range windowsKept + 5 {
			_ = p.get(1)
			tick(windowLength)
		}
		if err := p.stop(); err != nil {
			t.Fatal(err)
		}
		n := telemetry.N([]telemetry.Bucket{{Counts: p.Observed()}}, served(telemetry.Read, telemetry.Legacy))
		if n != windowsKept+5 || len(f.windows) != 0 || p.Stats().Discarded != 0 || len(p.windows.waiting) != 0 {
			t.Fatalf("%d reads, %d windows handed in, %d waiting, %+v", n, len(f.windows), len(p.windows.waiting), p.Stats())
		}
	})
}
