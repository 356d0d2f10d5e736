package dual

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

func TestLateAndForeignAreJournaled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.DualRead)), newTarget(), newLegacy(), adjust{})
		p.target.foreign[1] = true
		p.mustPut(1, 1)
		p.mustPut(2, 2)
		err := p.writer.Write(t.Context(), Op[int, int]{Legacy: func(context.Context) ([]Change[int, int], error) {
			return []Change[int, int]{{Key: 3, Value: 3}}, nil // without version
		}})
		if j := p.fleet.Journaled(); err != nil || len(j) != 2 || p.target.applies != 2 {
			t.Fatalf("%v, journal %v, %d applies", err, j, p.target.applies)
		}
		_ = p.stop()
	})
}

func TestOlderIsSuccess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.Grace)), newTarget(), newLegacy(), adjust{})
		p.target.entries[1] = Versioned[int]{9, true, record.MakeVersion(2, 0, 0)}
		p.mustPut(1, 1)
		if v, _ := p.target.value(1); v != 9 {
			t.Fatalf("the target went back to %d", v)
		}
		_ = p.stop()
	})
}

func TestPanicInTargetFailsTheChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.DualRead)), newTarget(), newLegacy(), adjust{})
		p.target.onApply = func(context.Context) error { panic("codec") }
		p.mustPut(1, 1)
		if _, ok := p.fleet.Journaled()["1"]; !ok {
			t.Fatal("legacy has it, the journal does not")
		}
		_ = p.stop()
	})
}

func TestRetriesWithinTheDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.Grace)), newTarget(), newLegacy(), adjust{})
		failures := 3
		p.target.onApply = func(ctx context.Context) error {
			if failures--; failures == 1 {
				<-ctx.Done() // hangs
				return ctx.Err()
			} else if failures >= 0 {
				return errDown
			}
			return nil
		}
		p.mustPut(1, 1)
		if v, _ := p.target.value(1); v != 1 || p.fleet.journals != 0 {
			t.Fatalf("target %d, %d journaled", v, p.fleet.journals)
		}
		_ = p.stop()
	})
}

func TestBreakerKeepsAnOutageFromDelayingEveryWrite(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.DualRead)), newTarget(), newLegacy(), adjust{})
		settle()
		p.target.do(func() { p.target.broken = errDown })
		for range 5 {
			p.mustPut(1, 1)
		}
		began, applies := time.Now(), p.target.applies
		for range 50 {
			p.mustPut(1, 1)
		}
		if time.Since(began) != 0 || p.target.applies != applies || p.fleet.journals != 55 {
			t.Fatalf("took %s, %d applies, %d journaled", time.Since(began), p.target.applies-applies, p.fleet.journals)
		}
		tick(61 * time.Second)
		p.target.do(func() { p.target.broken = nil })
		p.mustPut(1, 5)
		p.mustPut(1, 6)
		if v, _ := p.target.value(1); v != 6 {
			t.Fatalf("target has %d after the probe", v)
		}
		_ = p.stop()
	})
}

type batching struct {
	*memoryTarget
	batches int
	fail    int
}

func (b *batching) ApplyAll(_ context.Context, changes []Change[int, int], o ApplyOptions) ([]store.Result, error) {
	b.batches++
	if b.fail--; b.fail >= 0 {
		return nil, errDown
	}
	results := make([]store.Result, len(changes))
	for n, c := range changes {
		results[n], results[n].Err = b.apply(c, o)
	}
	return results, nil
}

func TestOneTransactionMayChangeSeveralRecords(t *testing.T) {
	t.Parallel()
	op := func(l *memoryLegacy) Op[int, int] {
		return Op[int, int]{Legacy: func(ctx context.Context) (out []Change[int, int], err error) {
			for k := range 5 {
				v, err := l.put(k, k)(ctx)
				if err != nil {
					return nil, err
				}
				out = append(out, Change[int, int]{Key: k, Value: k, Version: v, Deleted: k == 4})
			}
			return out, nil
		}}
	}
	bubble(t, "one by one", func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.DualRead)), newTarget(), newLegacy(), adjust{})
		p.target.foreign[2] = true
		if err := p.writer.Write(t.Context(), op(p.legacy)); err != nil {
			t.Fatal(err)
		}
		if j := p.fleet.Journaled(); len(j) != 1 || len(p.target.entries) != 4 {
			t.Fatalf("journal %v, target %v", j, p.target.entries)
		}
		_ = p.stop()
	})
	bubble(t, "in a batch", func(t *testing.T) {
		b := &batching{memoryTarget: newTarget(), fail: 1}
		b.foreign[2] = true
		p := newTestInstance(t, newFleet(route(phases.DualRead)), b.memoryTarget, newLegacy(), adjust{writer: func(c *WriterConfig[int, int]) { c.Target = b }})
		if err := p.writer.Write(t.Context(), op(p.legacy)); err != nil {
			t.Fatal(err)
		}
		if j := p.fleet.Journaled(); len(j) != 1 || len(b.entries) != 4 || b.batches != 2 {
			t.Fatalf("journal %v, target %v, %d batches", j, b.entries, b.batches)
		}
		_ = p.stop()
	})
}
