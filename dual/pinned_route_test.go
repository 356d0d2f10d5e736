package dual

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stranglerfig/migrator/phases"
)

// A route that was replaced and found drained must not get another operation: its epoch
// may have been left with an acknowledgment.
func TestNoOperationBeginsUnderADrainedRoute(t *testing.T) {
	t.Parallel()
	i, err := Join(t.Context(), Config{Fleet: newFleet(route(phases.Grace))})
	if err != nil {
		t.Fatal(err)
	}
	var left sync.Map // *pinnedRoute: found drained
	var stop atomic.Bool
	var group sync.WaitGroup
	for n := range 4 {
		group.Go(func() {
			for !stop.Load() {
				var p pin
				i.pinRead(&p)
				if n%2 == 1 {
					p.release()
					i.pinWrite(&p)
				}
				own := p.extend()
				if _, over := left.Load(p.h); over {
					t.Error("an operation began under a route that had been left")
					stop.Store(true)
				}
				p.release()
				p.release() // twice does nothing
				if _, over := left.Load(own.h); over {
					t.Error("a route was left while work that outlives its operation was in flight")
					stop.Store(true)
				}
				own.release()
			}
		})
	}
	l := i.pinned.Load().lease
	for n := range 200 {
		before := i.pinned.Load()
		i.swap(newPinnedRoute(i, Grant{Route: phases.Route{Phase: phases.Grace, Epoch: int64(n + 2)}}, l, Writing{}))
		for !before.drained() && !stop.Load() {
			<-i.wake
		}
		left.Store(before, true)
		if got := i.reached(); got != int64(n+2) && !stop.Load() {
			t.Errorf("reached %d, want %d", got, n+2)
			break
		}
	}
	stop.Store(true)
	group.Wait()
	if n := i.Stats().InFlight; n != 0 {
		t.Fatalf("%d in flight", n)
	}
}
