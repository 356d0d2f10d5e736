package dual

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// faultyFleet is a memoryFleet with a fault switch.
type faultyFleet struct {
	*memoryFleet
	mu      sync.Mutex
	fault   Fault
	reports []FaultReport
	asked   int
}

func (f *faultyFleet) Fault(_ context.Context, _ string, report FaultReport) (Fault, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	f.reports = append(f.reports, report)
	return f.fault, nil
}

func (f *faultyFleet) set(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fault.ID != "" {
		fault.Share = phases.All
		if fault.For == 0 {
			fault.For = time.Hour
		}
	}
	f.fault = fault
}

func (f *faultyFleet) last() FaultReport {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reports[len(f.reports)-1]
}

// final returns the final reports on faults.
func (f *faultyFleet) final() (final []FaultReport) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.reports {
		if r.Over {
			final = append(final, r)
		}
	}
	return final
}

func newFaulty(t *testing.T, r phases.Route, allowed bool, a adjust) (*faultyFleet, *testInstance, *memoryTarget) {
	t.Helper()
	f := &faultyFleet{memoryFleet: newFleet(r)}
	target, legacy := newTarget(), newLegacy()
	config := a.config
	a.config = func(c *Config) {
		c.Fleet, c.Faults = f, allowed
		c.Writing.OnTargetFailure = Fail
		if config != nil {
			config(c)
		}
	}
	return f, newTestInstance(t, f.memoryFleet, target, legacy, a), target
}

var onGrace = phases.Route{Phase: phases.Grace, Epoch: 1}

// TestFaultsAreInjected: each kind affects the operations that it names, is reported, and
// ends when it is lifted.
func TestFaultsAreInjected(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fault       Fault
		read, write bool // still succeed
		takes       time.Duration
	}{
		{Fault{Kind: FaultErrors, Reads: true}, false, true, 0},
		{Fault{Kind: FaultErrors, Writes: true}, true, false, 0},
		{Fault{Kind: FaultLatency, Reads: true, Delay: 300 * time.Millisecond}, true, true, 300 * time.Millisecond},
		{Fault{Kind: FaultBlackHole, Reads: true, Delay: 5 * time.Second}, false, true, 5 * time.Second},
	} {
		t.Run(string(c.fault.Kind), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f, p, _ := newFaulty(t, onGrace, true, adjust{})
				defer func() { _ = p.stop() }()
				p.mustPut(1, 10)
				c.fault.ID = "f1"
				f.set(c.fault)
				tick(10 * time.Second) // two renewals
				if report := f.last(); report.ID != "f1" || report.Executed != 0 {
					t.Fatalf("active, it reports %+v", report)
				}
				began := time.Now()
				if v := p.get(1); v != 10 { // legacy answers if the target does not
					t.Errorf("read %d", v)
				}
				if took := time.Since(began); took != c.takes {
					t.Errorf("a read took %s, want %s", took, c.takes)
				}
				if fell := p.Stats().Fallbacks > 0; fell == c.read {
					t.Errorf("legacy answered in the target's place: %t", fell)
				}
				if err := p.put(1, 11); (err == nil) != c.write {
					t.Errorf("a write: %v", err)
				}
				synctest.Wait()
				if report := f.last(); report.Executed == 0 {
					t.Error("the first time is not reported at once")
				}
				for range 2 { // that are in the final report
					p.get(1)
					_ = p.put(1, 11)
				}
				f.set(Fault{})
				tick(10 * time.Second)
				if report := f.last(); report.ID != "" && !report.Over {
					t.Errorf("lifted, it reports %+v", report)
				}
				if report := f.final(); len(report) != 1 || report[0].ID != "f1" || report[0].Executed < 3 || report[0].FirstAge <= 0 {
					t.Errorf("the final report is %+v", report)
				}
				before := p.Stats().Fallbacks
				p.get(1)
				if err := p.put(1, 12); err != nil || p.Stats().Fallbacks != before {
					t.Errorf("the fault is still injected: %v", err)
				}
			})
		})
	}
}

// TestFaultExpires: without a response of the state it ends at the end of its time.
func TestFaultExpires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, p, _ := newFaulty(t, onGrace, true, adjust{})
		defer func() { _ = p.stop() }()
		p.mustPut(1, 10)
		f.set(Fault{ID: "f1", Kind: FaultErrors, Reads: true, For: 8 * time.Second})
		tick(6 * time.Second) // it was requested after about five
		p.get(1)
		if p.Stats().Fallbacks != 1 {
			t.Fatal("the fault is not injected")
		}
		f.memoryFleet.mu.Lock()
		f.outage = errDown
		f.memoryFleet.mu.Unlock()
		tick(8 * time.Second)
		if p.Lapsed() {
			t.Fatal("the lease has expired: legacy answers anyhow")
		}
		p.get(1)
		if p.Stats().Fallbacks != 1 {
			t.Error("it is injected after its end")
		}
	})
}

// TestCorruptWritesAreFound: the stored record has the right version and another content.
func TestCorruptWritesAreFound(t *testing.T) {
	t.Parallel()
	for _, corrupt := range []func(int) int{nil, func(v int) int { return -v }} {
		synctest.Test(t, func(t *testing.T) {
			f, p, target := newFaulty(t, onGrace, true, adjust{
				config: func(c *Config) { c.Writing.OnTargetFailure = RollBack },
				writer: func(c *WriterConfig[int, int]) { c.Corrupt = corrupt },
			})
			defer func() { _ = p.stop() }()
			f.set(Fault{ID: "f1", Kind: FaultCorrupt, Writes: true})
			tick(6 * time.Second)
			p.mustPut(1, 10)
			if v, found := target.value(1); corrupt == nil && found || corrupt != nil && v != -10 {
				t.Errorf("the target has %d, %t", v, found)
			}
			if v := target.entries[1].Version; v.IsZero() || f.journals != 0 {
				t.Errorf("version %s, %d journaled: the write must appear to succeed", v, f.journals)
			}
		})
	}
}

// TestFaultsNeedConfigAndPhase: faults need Config.Faults, and a phase in which legacy has every
// record.
func TestFaultsNeedConfigAndPhase(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		allowed bool
		route   phases.Route
	}{
		{false, onGrace},
		{true, phases.Route{Phase: phases.Retain, Epoch: 1}},
	} {
		synctest.Test(t, func(t *testing.T) {
			f, p, target := newFaulty(t, c.route, c.allowed, adjust{})
			defer func() { _ = p.stop() }()
			f.set(Fault{ID: "f1", Kind: FaultErrors, Reads: true, Writes: true})
			tick(10 * time.Second)
			p.mustPut(1, 10)
			p.get(1)
			if v, found := target.value(1); !found || v != 10 || p.Stats().Fallbacks > 0 || p.Stats().Failed > 0 {
				t.Errorf("a fault was injected on %s, allowed %t", c.route, c.allowed)
			}
			if !c.allowed && f.asked > 0 {
				t.Error("the state was asked for a fault")
			}
		})
	}
}

// TestBlackHoleCountsAsTimeout: a caller that waits for it may give up before its delay ends.
func TestBlackHoleCountsAsTimeout(t *testing.T) {
	t.Parallel()
	p := &activeFault{Fault: Fault{Kind: FaultBlackHole, Delay: time.Hour}}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.inject(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	p.Delay = time.Millisecond
	if err := p.inject(t.Context()); classify(t.Context(), err) != wasTimeout {
		t.Errorf("%v is not counted as a timeout", err)
	}
}

// manyTarget takes several changes at once.
type manyTarget struct{ *memoryTarget }

func (m manyTarget) ApplyAll(ctx context.Context, all []Change[int, int], o ApplyOptions) (results []store.Result, err error) {
	for _, c := range all {
		r, err := m.Apply(ctx, c, o)
		if err != nil {
			return nil, err
		}
		results = append(results, r)
	}
	return results, nil
}

// TestBatchIsCorruptedChangeByChange: a deletion that is dropped leaves the record, and its
// result is in its place among the others.
func TestBatchIsCorruptedChangeByChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, p, target := newFaulty(t, onGrace, true, adjust{})
		defer func() { _ = p.stop() }()
		many := withFaults[int, int](p.Instance, manyTarget{target}, nil).(BatchTarget[int, int])
		version := record.MakeVersion(1, 0, 1)
		write := func() []store.Result {
			version, _ = version.Next(1)
			results, err := many.ApplyAll(t.Context(), []Change[int, int]{
				{Key: 1, Value: 1, Version: version}, {Key: 2, Deleted: true, Version: version}, {Key: 3, Value: 3, Version: version},
			}, ApplyOptions{})
			if err != nil || len(results) != 3 {
				t.Fatalf("%v, %v", results, err)
			}
			return results
		}
		write()
		target.entries[2] = Versioned[int]{Value: 2, Found: true, Version: version}
		f.set(Fault{ID: "f1", Kind: FaultCorrupt, Writes: true})
		tick(6 * time.Second)
		for n, r := range write() {
			if r.Outcome != store.Applied || r.Version != version {
				t.Errorf("change %d: %+v", n, r)
			}
		}
		for key, want := range map[int]bool{1: false, 2: true, 3: false} {
			if _, found := target.value(key); found != want {
				t.Errorf("the target has %d: %t", key, found)
			}
		}
	})
}
