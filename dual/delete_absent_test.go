package dual

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

func (l *memoryLegacy) remove(k int) func(context.Context) (record.Version, error) {
	return func(context.Context) (record.Version, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if _, found := l.values[k]; !found {
			return record.Version{}, nil
		}
		delete(l.values, k)
		l.lsn++
		return record.MakeVersion(1, 1, l.lsn), nil
	}
}

// TestDeleteOfAbsentKeyReachesTheTarget: legacy has deleted the record, the target
// missed the delete, and the application retries.
func TestDeleteOfAbsentKeyReachesTheTarget(t *testing.T) {
	t.Parallel()
	bubble(t, "again after an error", func(t *testing.T) {
		target := newTarget()
		p := newTestInstance(t, newFleet(route(phases.Grace)), target, newLegacy(), adjust{config: func(c *Config) {
			c.Writing.OnTargetFailure, c.BreakerPause = Fail, time.Second
		}})
		remove := func() error { return p.writer.Delete(t.Context(), 1, p.legacy.remove(1)) }
		p.mustPut(1, 5)
		target.do(func() { target.broken = errDown })
		var missed *TargetError
		for n := range 2 {
			if err := remove(); !errors.As(err, &missed) || !missed.Legacy {
				t.Fatalf("delete %d while the target is down: %v", n, err)
			}
		}
		target.do(func() { target.broken = nil })
		pause(t.Context(), 2*time.Second) // and the breaker lets a probe through
		if err := remove(); err != nil {
			t.Fatal(err)
		}
		if v, found := target.value(1); found {
			t.Fatalf("acknowledged, and the target still has %d", v)
		}
		_ = p.stop()
	})
	bubble(t, "nothing anywhere", func(t *testing.T) {
		target := newTarget()
		p := newTestInstance(t, newFleet(route(phases.Grace)), target, newLegacy(), adjust{})
		if err := p.writer.Delete(t.Context(), 1, p.legacy.remove(1)); err != nil || target.applies != 0 {
			t.Fatalf("%v after %d changes of the target", err, target.applies)
		}
		_ = p.stop()
	})
	bubble(t, "a write comes between", func(t *testing.T) {
		for name, where := range map[string]func(target *memoryTarget, meet func()){
			"the reads": func(target *memoryTarget, meet func()) { target.afterGet = meet },
			"the last and the end": func(target *memoryTarget, meet func()) {
				target.onApply = func(context.Context) error { meet(); return nil }
			},
		} {
			target, legacy := newTarget(), newLegacy()
			p := newTestInstance(t, newFleet(route(phases.Grace)), target, legacy, adjust{})
			p.mustPut(1, 5)
			_, _ = legacy.remove(1)(t.Context()) // and the target does not get it
			target.do(func() {
				where(target, func() {
					target.do(func() { target.afterGet, target.onApply = nil, nil })
					p.mustPut(1, 6)
				})
			})
			if err := p.writer.Delete(t.Context(), 1, legacy.remove(1)); err != nil {
				t.Fatal(err)
			}
			if _, found := target.value(1); found != (len(legacy.values) > 0) {
				t.Fatalf("between %s: in legacy %v, in the target %v", name, legacy.values, found)
			}
			_ = p.stop()
		}
	})
}
