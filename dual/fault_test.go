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
	mu    sync.Mutex
	fault Fault
	told  []FaultReport
	asked int
}

func (f *faultyFleet) Fault(_ context.Context, _ string, told FaultReport) (Fault, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	f.told = append(f.told, told)
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
	return f.told[len(f.told)-1]
}

// over are the reports of what came of a fault.
func (f *faultyFleet) over() (told []FaultReport) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.told {
		if r.Over {
			told = append(told, r)
		}
	}
	return told
}

func newFaulty(t *testing.T, r phases.Route, allowed bool, a adjust) (*faultyFleet, *party, *memoryTarget) {
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
	return f, newParty(t, f.memoryFleet, target, legacy, a), target
}

var onGrace = phases.Route{Phase: phases.Grace, Epoch: 1}

// TestFaultsArePlayed: each kind does what it says to the operations that it is for,
// is told of, and ends when it is lifted.
func TestFaultsArePlayed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fault       Fault
		read, write bool // still well
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
				if told := f.last(); told.ID != "f1" || told.Executed != 0 {
					t.Fatalf("armed, it tells %+v", told)
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
				if told := f.last(); told.Executed == 0 {
					t.Error("the first time is not told at once")
				}
				for range 2 { // of which the state hears when all is over
					p.get(1)
					_ = p.put(1, 11)
				}
				f.set(Fault{})
				tick(10 * time.Second)
				if told := f.last(); told.ID != "" && !told.Over {
					t.Errorf("lifted, it tells %+v", told)
				}
				if told := f.knownExpired(); len(told) != 1 || told[0].ID != "f1" || told[0].Executed < 3 || told[0].FirstAge <= 0 {
					t.Errorf("of what came of it, it tells %+v", told)
				}
				before := p.Stats().Fallbacks
				p.get(1)
				if err := p.put(1, 12); err != nil || p.Stats().Fallbacks != before {
					t.Errorf("the fault is still played: %v", err)
				}
			})
		})
	}
}

// TestAFaultEndsByItself: without an answer of the state, at the end of its time.
func TestAFaultEndsByItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, p, _ := newFaulty(t, onGrace, true, adjust{})
		defer func() { _ = p.stop() }()
		p.mustPut(1, 10)
		f.set(Fault{ID: "f1", Kind: FaultErrors, Reads: true, For: 8 * time.Second})
		tick(6 * time.Second) // it was asked for after some five
		p.get(1)
		if p.Stats().Fallbacks != 1 {
			t.Fatal("the fault is not played")
		}
		f.memoryFleet.mu.Lock()
		f.down = true
		f.memoryFleet.mu.Unlock()
		tick(8 * time.Second)
		if p.Lapsed() {
			t.Fatal("the lease has run out: legacy answers anyhow")
		}
		p.get(1)
		if p.Stats().Fallbacks != 1 {
			t.Error("it is played after its end")
		}
	})
}

// TestCorruptWritesAreFound: what is stored has the right version and another content.
func TestCorruptWritesAreFound(t *testing.T) {
	t.Parallel()
	for _, spoil := range []func(int) int{nil, func(v int) int { return -v }} {
		synctest.Test(t, func(t *testing.T) {
			f, p, target := newFaulty(t, onGrace, true, adjust{
				config: func(c *Config) { c.Writing.OnTargetFailure = RollBack },
				writer: func(c *WriterConfig[int, int]) { c.Corrupt = spoil },
			})
			defer func() { _ = p.stop() }()
			f.set(Fault{ID: "f1", Kind: FaultCorrupt, Writes: true})
			tick(6 * time.Second)
			p.mustPut(1, 10)
			if v, found := target.value(1); spoil == nil && found || spoil != nil && v != -10 {
				t.Errorf("the target has %d, %t", v, found)
			}
			if v := target.entries[1].Version; v.IsZero() || f.journals != 0 {
				t.Errorf("version %s, %d journalled: the write has to look well", v, f.journals)
			}
		})
	}
}

// TestFaultsNeedConsent: of the instance's own configuration, and of a phase in which
// legacy has every record.
func TestFaultsNeedConsent(t *testing.T) {
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
				t.Errorf("a fault was played on %s, allowed %t", c.route, c.allowed)
			}
			if !c.allowed && f.asked > 0 {
				t.Error("the state was asked for a fault")
			}
		})
	}
}

// TestABlackHoleIsATimeout: whoever waits for it may give up before it does.
func TestABlackHoleIsATimeout(t *testing.T) {
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

// TestABatchIsSpoiledByItsChanges: a deletion that is lost leaves the record, in its
// place among the others.
func TestABatchIsSpoiledByItsChanges(t *testing.T) {
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
