package dual

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stranglerfig/migrator/phases"
)

// operationLog records the operations that OnOperation got, and how many have not ended.
type operationLog struct {
	mu         sync.Mutex
	operations []Operation
	open       map[Operation]int
}

func (w *operationLog) config(c *Config) {
	w.open = map[Operation]int{}
	c.OnOperation = func(o Operation) func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.operations = append(w.operations, o)
		w.open[o]++
		return func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.open[o]--
		}
	}
}

// take returns the operations since the last call, and how many of all have not ended.
func (w *operationLog) take() (operations []Operation, inFlight int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	operations, w.operations = w.operations, nil
	for _, n := range w.open {
		inFlight += n
	}
	return operations, inFlight
}

func TestOnOperationGetsThePinnedRoute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var w operationLog
		p := newTestInstance(t, newFleet(route(phases.Legacy)), newTarget(), newLegacy(), adjust{config: w.config})
		settle()
		want := func(operations ...Operation) {
			t.Helper()
			settle()
			if got, open := w.take(); !slices.Equal(got, operations) || open != 0 {
				t.Fatalf("got %+v with %d open, want %+v", got, open, operations)
			}
		}
		first := p.Route()
		p.mustPut(1, 1)
		_ = p.get(1)
		want(Operation{Route: first, Write: true}, Operation{Route: first})
		p.fleet.move(phases.ShadowWrite, 0)
		settle()
		second := p.Route()
		p.mustPut(1, 2)
		want(Operation{Route: second, Write: true}, Operation{Route: second, Write: true, Background: true})
		p.fleet.move(phases.DualRead, phases.All)
		settle()
		third := p.Route()
		_ = p.get(1)
		want(Operation{Route: third}, Operation{Route: third, Background: true})
		p.fleet.do(func() { p.fleet.outage = errDown })
		tick(time.Minute)
		_ = p.get(1)
		want(Operation{Route: third, Lapsed: true}, Operation{Route: third, Background: true, Lapsed: true})
		p.fleet.do(func() { p.fleet.outage = nil })
		if err := p.stop(); err != nil {
			t.Fatal(err)
		}
		_, _, _ = p.reader.Get(t.Context(), 1)
		want() // refused: it pinned no route
	})
}

func TestOnOperationEndRunsBeforeTheEpochIsLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		atEnd := int64(-1)
		var p *testInstance
		p = newTestInstance(t, newFleet(route(phases.ShadowWrite)), newTarget(), newLegacy(), adjust{config: func(c *Config) {
			c.OnOperation = func(o Operation) func() {
				if !o.Background {
					return nil
				}
				return func() {
					<-time.After(time.Second) // all that could be acknowledged has been
					atEnd = p.fleet.acknowledged(p.Instance)
				}
			}
		}})
		settle()
		p.target.do(func() { p.target.onApply = func(context.Context) error { <-hold; return nil } })
		p.mustPut(1, 1)
		p.fleet.move(phases.DualRead, phases.All)
		settle()
		close(hold)
		tick(2 * time.Second)
		if got := p.fleet.acknowledged(p.Instance); atEnd != 1 || got != 2 {
			t.Fatalf("acknowledged %d when it was over, %d after", atEnd, got)
		}
		_ = p.stop()
	})
}

func TestPanicInOnOperationReleasesTheRoute(t *testing.T) {
	t.Parallel()
	for _, atEnd := range []bool{false, true} {
		i, err := Join(t.Context(), Config{Fleet: newFleet(route(phases.Grace)), OnOperation: func(Operation) func() {
			if atEnd {
				return func() { panic("at the end") }
			}
			panic("at the beginning")
		}})
		if err != nil {
			t.Fatal(err)
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was swallowed")
				}
			}()
			var p pin
			i.pinWrite(&p)
			p.release()
		}()
		if n := i.Stats().InFlight; n != 0 {
			t.Errorf("at the end %v: %d operations in flight", atEnd, n)
		}
	}
}
