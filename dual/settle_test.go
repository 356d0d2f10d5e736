package dual

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// settling is an instance that can settle writes.
func settling(t *testing.T, phase phases.Phase, policy Policy) *testInstance {
	legacy := newLegacy()
	p := newTestInstance(t, newFleet(route(phase)), newTarget(), legacy, adjust{
		writer: func(c *WriterConfig[int, int]) { c.Locked = legacy.locked },
		config: func(c *Config) { c.Writing.OnTargetFailure = policy },
	})
	settle()
	return p
}

// TestOlderIsSettledByTheLockedRow: the target has refused a write as older than what it has.
// That is a success only if legacy's row, read under its lock, is newer still.
func TestOlderIsSettledByTheLockedRow(t *testing.T) {
	t.Parallel()
	ahead := record.MakeVersion(1, 1, 1000)
	for _, phase := range []phases.Phase{phases.DualRead, phases.Cutover, phases.Grace} {
		bubble(t, "a concurrent write, "+string(phase), func(t *testing.T) {
			p := settling(t, phase, Fail)
			p.legacy.after = func() { // another write is committed and reaches the target first
				p.legacy.after = nil
				version, _ := p.legacy.put(1, 8)(t.Context())
				p.target.do(func() { p.target.entries[1] = Versioned[int]{8, true, version} })
			}
			p.mustPut(1, 7)
			v, _ := p.target.value(1)
			if s := p.Stats(); v != 8 || p.legacy.locks != 1 || s.Settled != 1 || s.TargetFailures != 0 {
				t.Errorf("the target has %d, after %d locked reads: %+v", v, p.legacy.locks, s)
			}
			_ = p.stop()
		})
		bubble(t, "legacy has gone back, "+string(phase), func(t *testing.T) {
			p := settling(t, phase, Fail)
			p.target.do(func() { p.target.entries[1] = Versioned[int]{5, true, ahead} })
			err := p.put(1, 7)
			if reads := phase != phases.DualRead; (err != nil) != reads || err != nil && !errors.Is(err, errLegacyBehind) {
				t.Errorf("%v", err)
			}
			if _, journaled := p.fleet.Journaled()[keyOf(1)]; !journaled {
				t.Error("the key is not journaled")
			}
			_ = p.stop()
		})
	}
	bubble(t, "legacy has gone back: reads follow", func(t *testing.T) {
		p := settling(t, phases.Grace, RollBack)
		p.target.do(func() { p.target.entries[1] = Versioned[int]{5, true, ahead} })
		p.mustPut(1, 7)
		if got := p.get(1); got != 7 || p.Route().ReadsTarget() {
			t.Errorf("a read answers %d on %s", got, p.Route())
		}
		_ = p.stop()
	})
	bubble(t, "the same position is given twice", func(t *testing.T) {
		p := settling(t, phases.Grace, Fail)
		p.target.do(func() { p.target.entries[1] = Versioned[int]{5, true, record.MakeVersion(1, 1, 1)} })
		p.mustPut(1, 7) // legacy gives (1, 1) too
		if v, _ := p.target.value(1); v != 7 || p.legacy.locks != 1 {
			t.Errorf("the target has %d, after %d locked reads", v, p.legacy.locks)
		}
		_ = p.stop()
	})
	bubble(t, "the write's own lost answer", func(t *testing.T) {
		p := settling(t, phases.Grace, Fail)
		answers := 0
		p.target.do(func() {
			p.target.afterApply = func() error {
				if answers++; answers == 1 {
					return errDown
				}
				return nil
			}
		})
		p.mustPut(1, 7)
		if p.legacy.locks != 0 {
			t.Errorf("%d locked reads for a write that had landed", p.legacy.locks)
		}
		_ = p.stop()
	})
	bubble(t, "without Locked it counts as written", func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.Grace)), newTarget(), newLegacy(), adjust{})
		settle()
		p.target.do(func() { p.target.entries[1] = Versioned[int]{5, true, ahead} })
		p.mustPut(1, 7)
		_ = p.stop()
	})
	bubble(t, "a row that legacy deleted", func(t *testing.T) {
		p := settling(t, phases.Grace, Fail)
		p.target.do(func() { p.target.entries[1] = Versioned[int]{5, true, record.MakeVersion(1, 1, 2)} })
		err := p.writer.Delete(t.Context(), 1, func(context.Context) (record.Version, error) { return record.MakeVersion(1, 1, 1), nil })
		if _, found := p.target.value(1); err != nil || found {
			t.Errorf("%v; the target has the record: %v", err, found)
		}
		_ = p.stop()
	})
}

// TestAFaultOfTheWriteTakesNoReadsBack: the target works; one write is late, has no version, or
// can't be stored.
func TestAFaultOfTheWriteTakesNoReadsBack(t *testing.T) {
	t.Parallel()
	late := func(p *testInstance) error {
		p.legacy.after = func() { time.Sleep(phases.NotAfter + time.Second) }
		return p.put(1, 7)
	}
	unversioned := func(p *testInstance) error {
		return p.writer.Write(p.t.Context(), Op[int, int]{Legacy: func(ctx context.Context) ([]Change[int, int], error) {
			_, err := p.legacy.put(1, 7)(ctx)
			return []Change[int, int]{{Key: 1, Value: 7}}, err
		}})
	}
	record := func(p *testInstance) error {
		p.target.do(func() {
			p.target.onApply = func(context.Context) error { return fmt.Errorf("too large: %w", store.ErrRecord) }
		})
		return p.put(1, 7)
	}
	foreign := func(p *testInstance) error {
		p.target.do(func() { p.target.foreign[1] = true })
		return p.put(1, 7)
	}
	panics := func(p *testInstance) error {
		p.target.do(func() { p.target.onApply = func(context.Context) error { panic("a bug of the application's Target") } })
		return p.put(1, 7)
	}
	for name, c := range map[string]struct {
		write   func(*testInstance) error
		settled bool // the target has the write, and it is acknowledged
	}{
		"late": {late, true}, "without a version": {unversioned, true},
		"a record that can't be stored": {record, false}, "another program's value": {foreign, false}, "a panic": {panics, false},
	} {
		bubble(t, name, func(t *testing.T) {
			p := settling(t, phases.Grace, RollBack)
			err := c.write(p)
			if p.Route().Phase != phases.Grace {
				t.Errorf("it took the fleet to %s", p.Route())
			}
			var te *TargetError
			switch v, _ := p.target.value(1); {
			case c.settled && (err != nil || v != 7):
				t.Errorf("%v, the target has %d", err, v)
			case !c.settled && (!errors.As(err, &te) || !te.Legacy || p.Stats().Journaled != 1):
				t.Errorf("%v, %+v", err, p.Stats())
			}
			p.target.do(func() { p.target.onApply = nil; p.target.foreign[1] = false })
			_ = p.stop()
		})
		bubble(t, name+", without a locked read", func(t *testing.T) {
			p := newTestInstance(t, newFleet(route(phases.Grace)), newTarget(), newLegacy(), adjust{})
			settle()
			var te *TargetError
			if err := c.write(p); !errors.As(err, &te) || !te.Legacy || p.Stats().Journaled != 1 || p.Route().Phase != phases.Grace {
				t.Errorf("%v on %s, %+v", err, p.Route(), p.Stats())
			}
			p.target.do(func() { p.target.onApply = nil; p.target.foreign[1] = false })
			_ = p.stop()
		})
	}
}

// TestTheDeadlineGrowsWithTheNumberOfRecords: up to not-after.
func TestTheDeadlineGrowsWithTheNumberOfRecords(t *testing.T) {
	t.Parallel()
	i := &Instance{}
	i.pinned.Store(&pinnedRoute{writing: Writing{Deadline: time.Second, NotAfter: 10 * time.Second}})
	for records, want := range map[int]time.Duration{0: time.Second, 1: 1002 * time.Millisecond, 500: 2 * time.Second, 1_000_000: 10 * time.Second} {
		if got := i.deadline(records); got != want {
			t.Errorf("%d records: %s, want %s", records, got, want)
		}
	}
}

// TestOverflowIsJournaledWhenItsQueueIsFull: the write journals its changes itself.
func TestOverflowIsJournaledWhenItsQueueIsFull(t *testing.T) {
	t.Parallel()
	bubble(t, "", func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.ShadowWrite)), newTarget(), newLegacy(), adjust{config: func(c *Config) { c.Writing.Queue = 1 }, idle: true})
		const writes, queued, pending = 1010, 1, 1000
		for n := range writes { // Run is not started: neither queue is emptied
			p.mustPut(n, n)
		}
		if journaled := len(p.fleet.Journaled()); journaled < writes-queued-pending || p.Stats().Abandoned != 0 {
			t.Errorf("%d keys journaled: %+v", journaled, p.Stats())
		}
	})
}

// TestAPanicOfTheLegacyFormIsOfUnknownOutcome: the closure may have committed before.
func TestAPanicOfTheLegacyFormIsOfUnknownOutcome(t *testing.T) {
	t.Parallel()
	bubble(t, "", func(t *testing.T) {
		p := settling(t, phases.Grace, RollBack)
		write := func(keys []int) (recovered any) {
			defer func() { recovered = recover() }()
			_ = p.writer.Write(t.Context(), Op[int, int]{Keys: keys, Legacy: func(context.Context) ([]Change[int, int], error) { panic("a bug") }})
			return nil
		}
		if got := write([]int{1, 2}); got != "a bug" {
			t.Errorf("the caller's panic became %v", got)
		}
		tick(time.Second)
		if len(p.fleet.Journaled()) != 2 || p.Stats().InFlight != 0 {
			t.Errorf("journaled %v, %+v", p.fleet.Journaled(), p.Stats())
		}
		_ = write(nil)
		if p.Stats().Abandoned != 1 {
			t.Errorf("a write that names no keys: %+v", p.Stats())
		}
		if err := p.stop(); err == nil {
			t.Error("the instance left cleanly")
		}
	})
}
