package dual

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// operationLog records the operations that OnOperation got, and how many have not ended.
type operationLog struct {
	mu         sync.Mutex
	operations []Operation // those that pin a route
	open       map[Operation]int
	results    []string // of all, in the order of their ends: "read > legacy read serving: ok"
	errs       []error
}

type withinKey struct{}

func named(o Operation) string {
	name := strings.TrimSpace(strings.Join([]string{string(o.Store), string(o.Kind), string(o.Role)}, " "))
	if o.Background {
		name += " beside"
	}
	return name
}

// ended returns the results since the last call.
func (w *operationLog) ended() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	results := w.results
	w.results = nil
	return results
}

func (w *operationLog) config(c *Config) {
	w.open = map[Operation]int{}
	c.OnOperation = func(ctx context.Context, o Operation) (context.Context, func(Result)) {
		w.mu.Lock()
		defer w.mu.Unlock()
		within, _ := ctx.Value(withinKey{}).(string)
		name := within + named(o)
		if o.Store == "" {
			w.operations = append(w.operations, o)
		}
		w.open[o]++
		return context.WithValue(ctx, withinKey{}, name+" > "), func(r Result) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.open[o]--
			w.results = append(w.results, name+": "+cmp.Or(string(r.Outcome), "uncounted"))
			w.errs = append(w.errs, r.Err)
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
		want(Operation{Kind: telemetry.Write, Route: first}, Operation{Kind: telemetry.Read, Route: first})
		p.fleet.move(phases.ShadowWrite, 0)
		settle()
		second := p.Route()
		p.mustPut(1, 2)
		want(Operation{Kind: telemetry.Write, Route: second}, Operation{Kind: telemetry.Write, Role: telemetry.Shadow, Route: second, Background: true})
		p.fleet.move(phases.DualRead, phases.All)
		settle()
		third := p.Route()
		_ = p.get(1)
		want(Operation{Kind: telemetry.Read, Route: third}, Operation{Kind: telemetry.Comparison, Role: telemetry.Shadow, Route: third, Background: true})
		p.fleet.do(func() { p.fleet.outage = errDown })
		tick(time.Minute)
		_ = p.get(1)
		want(Operation{Kind: telemetry.Read, Route: third, Lapsed: true}, Operation{Kind: telemetry.Comparison, Role: telemetry.Shadow, Route: third, Background: true, Lapsed: true})
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
			c.OnOperation = func(ctx context.Context, o Operation) (context.Context, func(Result)) {
				if !o.Background {
					return nil, nil
				}
				return nil, func(Result) {
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
		i, err := Join(t.Context(), Config{Fleet: newFleet(route(phases.Grace)), OnOperation: func(context.Context, Operation) (context.Context, func(Result)) {
			if atEnd {
				return nil, func(Result) { panic("at the end") }
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
			defer p.release()
			p.start(t.Context(), &i.writes, telemetry.Write)
		}()
		if n := i.Stats().InFlight; n != 0 {
			t.Errorf("at the end %v: %d operations in flight", atEnd, n)
		}
	}
}

// TestOnOperationGetsEveryAttempt: each attempt on a store is within its operation, by the context
// that OnOperation returned, and ends with the outcome that is counted.
func TestOnOperationGetsEveryAttempt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		route phases.Phase
		do    func(p *testInstance)
		want  []string // sorted
	}{
		{"a read of legacy", phases.Legacy, func(p *testInstance) { _ = p.get(1) }, []string{"read > legacy read serving: ok", "read: ok"}},
		{"a read that legacy refuses", phases.Legacy, func(p *testInstance) {
			p.legacy.broken = errDown
			_, _, _ = p.reader.Get(p.t.Context(), 1)
		}, []string{"read > legacy read serving: error", "read: error"}},
		{"a comparison that agrees", phases.DualRead, func(p *testInstance) { p.mustPut(1, 1); _ = p.get(1) }, []string{
			"read > comparison shadow beside > target read shadow: ok", "read > comparison shadow beside: agreed", "read > legacy read serving: ok", "read: ok",
			"write > legacy write serving: ok", "write > target write serving: ok", "write: ok",
		}},
		{"a mismatch is read again", phases.DualRead, func(p *testInstance) { p.legacy.values[1] = 7; _ = p.get(1); tick(time.Second) }, []string{
			"read > comparison shadow beside > legacy read shadow: ok", "read > comparison shadow beside > legacy read shadow: ok", "read > comparison shadow beside > legacy read shadow: ok",
			"read > comparison shadow beside > target read shadow: ok", "read > comparison shadow beside > target read shadow: ok",
			"read > comparison shadow beside > target read shadow: ok", "read > comparison shadow beside > target read shadow: ok",
			"read > comparison shadow beside: mismatch", "read > legacy read serving: ok", "read: ok",
		}},
		{"a queued write", phases.ShadowWrite, func(p *testInstance) { p.mustPut(1, 1); tick(time.Second) }, []string{
			"write > legacy write serving: ok", "write > write shadow beside > target write shadow: ok", "write > write shadow beside: ok", "write: ok",
		}},
		{"a fallback", phases.Grace, func(p *testInstance) {
			p.target.do(func() { p.target.broken = errDown })
			_ = p.get(1)
		}, []string{"read > legacy read fallback: ok", "read > target read serving: error", "read: ok"}},
		{"a miss", phases.Grace, func(p *testInstance) { _ = p.get(1) }, []string{"read > legacy read missed: ok", "read > target read serving: ok", "read: ok"}},
		{"a miss of fenced legacy", phases.Retain, func(p *testInstance) { _ = p.get(1) }, []string{"read > legacy read missed: ok", "read > target read serving: ok", "read: ok"}},
		{"a delete of nothing", phases.Grace, func(p *testInstance) {
			_ = p.writer.Delete(p.t.Context(), 1, func(context.Context) (record.Version, error) { return record.Version{}, nil })
		}, []string{"write > legacy write serving: ok", "write > target write serving: ok", "write: ok"}},
		{"a write of the target alone", phases.Complete, func(p *testInstance) { p.mustPut(1, 1) }, []string{"write > target write serving: ok", "write: ok"}},
		{"a write that legacy's fence refuses", phases.Grace, func(p *testInstance) {
			p.legacy.fenced = true
			_ = p.put(1, 1)
		}, []string{"write > legacy write serving: uncounted", "write: uncounted"}},
		{"a write that panics", phases.Legacy, func(p *testInstance) {
			defer func() { _ = recover() }()
			_ = p.writer.Put(p.t.Context(), 1, 1, func(context.Context) (record.Version, error) { panic("a bug") })
		}, []string{"write > legacy write serving: error", "write: error"}},
		{"a write that rolls back", phases.Grace, func(p *testInstance) {
			p.target.do(func() { p.target.broken = errDown })
			p.mustPut(1, 1)
			settle()
		}, []string{"rollback beside: ok", "write > legacy write serving: ok", "write > rollback: ok", "write > target write serving: error", "write: error"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var w operationLog
				r := route(c.route)
				if c.route == phases.DualRead {
					r.Percent = phases.All
				}
				p := newTestInstance(t, newFleet(r), newTarget(), newLegacy(), adjust{config: w.config})
				settle()
				w.ended()
				c.do(p)
				settle()
				got := w.ended()
				slices.Sort(got)
				if !slices.Equal(got, c.want) {
					t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
				}
				if _, open := w.take(); open != 0 {
					t.Errorf("%d have not ended", open)
				}
				_ = p.stop()
			})
		})
	}
}

// TestAQueuedWriteKeepsItsValuesOnlyForOnOperation: a queue of 10,000 writes must not hold what
// their requests' contexts hold.
func TestAQueuedWriteKeepsItsValuesOnlyForOnOperation(t *testing.T) {
	t.Parallel()
	for _, announced := range []bool{false, true} {
		f := newFleet(route(phases.ShadowWrite))
		c := Config{Fleet: f}
		if announced {
			c.OnOperation = func(ctx context.Context, _ Operation) (context.Context, func(Result)) { return ctx, nil }
		}
		i, err := Join(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		w, err := NewWriter(WriterConfig[int, int]{Instance: i, Target: newTarget(), Key: keyOf, Legacy: newLegacy().read})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Put(t.Context(), 1, 2, committed); err != nil {
			t.Fatal(err)
		}
		if b, ok := i.queue.take(t.Context()).(*backgroundWrite[int, int]); !ok || (b.ctx != nil) != announced {
			t.Errorf("announced %v: the queued write has the context %v", announced, b.ctx)
		}
	}
}
