package dual

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// model is a fleet under random moves and faults. Values of a key grow by one with
// each write, so a read below the last acknowledged value is a stale one.
type model struct {
	t      *testing.T
	rng    *rand.Rand
	mu     sync.Mutex
	fleet  *memoryFleet
	target *memoryTarget
	legacy *memoryLegacy
	acked  [5]int
	refuse bool // the target takes no change, and answers reads
	reads  int
	writes int
	failed int
	routes map[phases.Phase]int
}

func (m *model) draw(n int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rng.IntN(n)
}

func (m *model) latency(ctx context.Context) error {
	d := time.Duration(m.draw(5000)) * time.Microsecond
	switch m.draw(3000) {
	case 0:
		d = 600 * time.Millisecond // longer than an attempt
	case 1:
		d = 4 * time.Second // longer than a lease
		<-time.After(d)     // and unreachable
		return nil
	}
	if !pause(ctx, d) {
		return ctx.Err()
	}
	return nil
}

func (m *model) write(p *testInstance, k int) {
	value := 0
	err := p.writer.Write(m.t.Context(), Op[int, int]{Legacy: func(ctx context.Context) ([]Change[int, int], error) {
		_ = m.latency(ctx)
		m.legacy.mu.Lock()
		m.legacy.lsn++
		m.legacy.values[k]++
		value = m.legacy.values[k]
		version := record.MakeVersion(1, 0, m.legacy.lsn)
		m.legacy.mu.Unlock()
		if m.draw(1500) == 0 {
			<-time.After(time.Duration(m.draw(15)) * time.Second) // suspended after the commit
		}
		return []Change[int, int]{{Key: k, Value: value, Version: version}}, nil
	}})
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writes++
	if err != nil {
		m.failed++
		return
	}
	m.acked[k] = max(m.acked[k], value)
}

func (m *model) read(p *testInstance, k int) {
	m.mu.Lock()
	floor := m.acked[k]
	m.mu.Unlock()
	at := p.Route()
	got, _, err := p.reader.Get(m.t.Context(), k)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	if err == nil && got < floor {
		m.t.Errorf("stale: key %d reads %d, %d was acknowledged before; began on %s epoch %d, now %s epoch %d", k, got, floor, at, at.Epoch, p.Route(), p.Route().Epoch)
	}
}

// step tries one random move as the state would allow it.
func (m *model) step() {
	to := []phases.Route{
		{Phase: phases.ShadowWrite},
		{Phase: phases.DualRead, Percent: 1000},
		{Phase: phases.DualRead, Percent: phases.All},
		{Phase: phases.Cutover, Percent: 5000},
		{Phase: phases.Cutover, Percent: phases.All},
		{Phase: phases.Grace},
		{Phase: phases.Grace},
	}[m.draw(7)]
	f := m.fleet
	f.mu.Lock()
	forward := phases.Forward(f.route, to)
	if phases.Legal(f.route, to, f.liveRoutes(forward)) != nil || forward && to.ReadsTarget() && len(f.journal) > 0 {
		f.mu.Unlock()
		return
	}
	call := f.set(to)
	f.mu.Unlock()
	call()
	m.routes[to.Phase]++
}

// repair repairs journaled keys as reconcile does: with legacy's row, under its lock.
func (m *model) repair() {
	for key, version := range m.fleet.Journaled() {
		var k int
		if _, err := fmt.Sscan(string(key), &k); err != nil {
			m.t.Error(err)
		}
		m.legacy.mu.Lock()
		m.legacy.lsn++
		c := Change[int, int]{Key: k, Value: m.legacy.values[k], Version: record.MakeVersion(1, 0, m.legacy.lsn)}
		m.legacy.mu.Unlock()
		if r, err := m.target.apply(c, ApplyOptions{}); err != nil || outcome(r) != nil {
			continue
		}
		m.fleet.do(func() {
			if m.fleet.journal[key] == version {
				delete(m.fleet.journal, key)
			}
		})
	}
}

func (m *model) fault() {
	switch m.draw(11) {
	case 10:
		m.mu.Lock()
		m.refuse = true
		m.mu.Unlock()
	case 0:
		m.target.do(func() { m.target.broken = errDown })
	case 1:
		m.fleet.do(func() { m.fleet.outage = errDown })
	case 2:
		m.fleet.do(func() { m.fleet.noHints = true })
	case 3, 4, 5, 6, 7:
		m.heal()
	}
}

func (m *model) heal() {
	m.mu.Lock()
	m.refuse = false
	m.mu.Unlock()
	m.target.do(func() { m.target.broken = nil })
	m.fleet.do(func() { m.fleet.outage, m.fleet.noHints = nil, false })
}

func TestNoAcknowledgedWriteIsLostOrReadStaleThroughRandomMovesAndFaults(t *testing.T) {
	t.Parallel()
	seeds := 8
	if testing.Short() {
		seeds = 3
	}
	total := &model{routes: map[phases.Phase]int{}}
	for seed := range seeds {
		bubble(t, fmt.Sprint("seed ", seed), func(t *testing.T) {
			m := runModel(t, uint64(seed))
			total.reads += m.reads
			total.writes += m.writes
			total.failed += m.failed
			for p, n := range m.routes {
				total.routes[p] += n
			}
		})
	}
	t.Logf("%d reads, %d writes (%d failed), moves %v", total.reads, total.writes, total.failed, total.routes)
	if total.routes[phases.Cutover] == 0 || total.routes[phases.Grace] == 0 || total.failed*2 > total.writes {
		t.Error("the model did not get about")
	}
}

func runModel(t *testing.T, seed uint64) *model {
	m := &model{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), fleet: newFleet(route(phases.ShadowWrite)), target: newTarget(), legacy: newLegacy(),
		routes: map[phases.Phase]int{},
	}
	m.fleet.ttl = 3 * time.Second
	m.target.onGet = m.latency
	m.target.onApply = func(ctx context.Context) error {
		m.mu.Lock()
		refuse := m.refuse
		m.mu.Unlock()
		if refuse {
			return errDown
		}
		return m.latency(ctx)
	}
	var parties []*testInstance
	for range 3 {
		parties = append(parties, newTestInstance(t, m.fleet, m.target, m.legacy, adjust{
			config: func(c *Config) {
				c.Writing.RollbackBudget, c.LeaveWithin, c.Writing.Queue = 30*time.Second, time.Minute, 8
			}, // by then every lease has lapsed
			reader: func(c *ReaderConfig[int, int]) {
				c.TargetTimeout, c.NoShadow, c.ShadowPercent = 100*time.Millisecond, false, 500
			},
		}))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	var group sync.WaitGroup
	for _, p := range parties {
		for range 2 {
			group.Go(func() {
				for ctx.Err() == nil {
					m.write(p, m.draw(len(m.acked)))
					pause(ctx, time.Duration(m.draw(40))*time.Millisecond)
				}
			})
			group.Go(func() {
				for ctx.Err() == nil {
					m.read(p, m.draw(len(m.acked)))
					pause(ctx, time.Duration(m.draw(20))*time.Millisecond)
				}
			})
		}
	}
	group.Go(func() {
		for pause(ctx, time.Duration(m.draw(400))*time.Millisecond) {
			m.step()
		}
	})
	group.Go(func() {
		for pause(ctx, 50*time.Millisecond) {
			m.repair()
		}
	})
	group.Go(func() {
		defer m.heal() // or the last writes wait for it
		for pause(ctx, time.Duration(m.draw(4000))*time.Millisecond) {
			m.fault()
		}
	})
	group.Wait()
	tick(10 * time.Second)
	for _, p := range parties {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
		checkWindows(t, p)
	}
	m.repair()
	for k, acked := range m.acked {
		inTarget, _ := m.target.value(k)
		if m.legacy.values[k] != inTarget || inTarget < acked {
			t.Errorf("key %d: legacy %d, target %d, acknowledged %d", k, m.legacy.values[k], inTarget, acked)
		}
	}
	return m
}

// checkWindows: the reported telemetry is what happened, through moves and faults.
func checkWindows(t *testing.T, p *testInstance) {
	t.Helper()
	var legacy, compared uint64
	got, _ := p.fleet.observed(p.Name())
	for s, n := range got {
		switch {
		case s.Operation == telemetry.Comparison:
			compared += n
		case s.Operation == telemetry.Read && s.Store == telemetry.Legacy && s.Role != telemetry.Shadow:
			legacy += n
		}
	}
	s := p.Stats()
	if s.Discarded > 0 { // an outage of the state beside many moves: the windows are not all there
		t.Logf("%d windows discarded", s.Discarded)
		return
	}
	wrote := got[served(telemetry.Write, telemetry.Legacy)]
	if fromTarget := got[served(telemetry.Read, telemetry.Target)]; legacy != s.LegacyReads || fromTarget < s.TargetReads || wrote == 0 || wrote > s.Writes {
		t.Errorf("windows: %d reads of legacy, %d of the target, %d writes; %+v", legacy, fromTarget, wrote, s)
	}
	if compared != s.Shadows+s.ShadowsDropped {
		t.Errorf("windows: %d comparisons; %+v", compared, s)
	}
}

func TestModelFindsAStaleRead(t *testing.T) {
	t.Parallel()
	// The check must be able to fail: an instance whose clock has stopped never lapses.
	synctest.Test(t, func(t *testing.T) {
		f, target, legacy := newFleet(route(phases.Grace)), newTarget(), newLegacy()
		stuck := newTestInstance(t, f, target, legacy, adjust{idle: true, config: func(c *Config) { c.Clock = func() time.Duration { return 0 } }})
		sound := newTestInstance(t, f, target, legacy, adjust{})
		sound.mustPut(1, 1)
		tick(20 * time.Second)
		target.do(func() { target.onApply = func(context.Context) error { return errDown } })
		sound.mustPut(1, 2)
		if got := stuck.get(1); got != 1 {
			t.Fatalf("reads %d: the doubles are too kind", got)
		}
		_ = sound.stop()
	})
}
