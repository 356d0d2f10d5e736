package dual

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/phases"
)

// slowFleet grants at once and responds late: the state database counts the lease from
// before the response.
type slowFleet struct {
	*memoryFleet
	delay time.Duration
	mu    sync.Mutex
	asked []time.Time // when each grant was requested
}

func (f *slowFleet) late(asked time.Time, g Grant, err error) (Grant, error) {
	if err != nil {
		return g, err
	}
	f.mu.Lock()
	f.asked = append(f.asked, asked)
	f.mu.Unlock()
	time.Sleep(f.delay)
	return g, nil
}

func (f *slowFleet) grants() []time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.asked)
}

func (f *slowFleet) Join(ctx context.Context, who Identity) (Grant, error) {
	g, err := f.memoryFleet.Join(ctx, who)
	return f.late(time.Now(), g, err)
}

func (f *slowFleet) Renew(ctx context.Context, id string, acknowledged int64) (Grant, error) {
	g, err := f.memoryFleet.Renew(ctx, id, acknowledged)
	return f.late(time.Now(), g, err)
}

// granted waits for the response after n others, and returns when it was requested.
func (f *slowFleet) granted(n int) time.Time {
	for len(f.grants()) <= n {
		tick(100 * time.Millisecond)
	}
	asked := f.grants()[n]
	tick(time.Until(asked.Add(f.delay)))
	return asked
}

// TestLeaseIsCountedFromBeforeTheRequest: a slow response must not extend the
// lease by the time that it took [lease-own-clock].
func TestLeaseIsCountedFromBeforeTheRequest(t *testing.T) {
	t.Parallel()
	slow := func(t *testing.T, delay time.Duration) (*testInstance, *slowFleet) {
		f := &slowFleet{memoryFleet: newFleet(route(phases.Grace)), delay: delay}
		return newTestInstance(t, f.memoryFleet, newTarget(), newLegacy(), adjust{config: func(c *Config) { c.Fleet = f }}), f
	}
	check := func(t *testing.T, p *testInstance, f *slowFleet, asked time.Time) {
		t.Helper()
		left := p.pinned.Load().lease.remaining() // on the bubble's clock, which p's runs by
		if want := f.ttl - clockSlack - time.Since(asked); left != want {
			t.Errorf("the lease is valid for %s more; its request was sent %s ago: want %s", left, time.Since(asked), want)
		}
	}
	bubble(t, "the first lease", func(t *testing.T) {
		p, f := slow(t, 3*time.Second)
		check(t, p, f, f.granted(0))
		_ = p.stop()
	})
	bubble(t, "a renewal", func(t *testing.T) {
		p, f := slow(t, 3*time.Second)
		check(t, p, f, f.granted(1))
		check(t, p, f, f.granted(2))
		_ = p.stop()
	})
	bubble(t, "a lease in the place of a lapsed one", func(t *testing.T) {
		p, f := slow(t, 3*time.Second)
		f.granted(1)
		f.do(func() { f.outage = errDown })
		tick(time.Minute)
		if !p.Lapsed() {
			t.Fatal("the lease has outlived the state database")
		}
		n := len(f.grants())
		f.do(func() { f.outage = nil })
		check(t, p, f, f.granted(n))
		if p.Stats().Rejoins != 1 {
			t.Errorf("%+v", p.Stats())
		}
		_ = p.stop()
	})
	bubble(t, "a renewal while the instance drains", func(t *testing.T) {
		p, f := slow(t, 500*time.Millisecond)
		f.granted(1)
		hold, started := make(chan struct{}), make(chan struct{})
		go func() {
			_ = p.writer.Write(t.Context(), Op[int, int]{Legacy: func(context.Context) ([]Change[int, int], error) {
				close(started)
				<-hold
				return nil, nil
			}})
		}()
		<-started
		n := len(f.grants())
		stopped := make(chan error, 1)
		go func() { stopped <- p.stop() }()
		check(t, p, f, f.granted(n))
		close(hold)
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
}
