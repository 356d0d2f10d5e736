package dual

import (
	"context"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"github.com/stranglerfig/migrator/phases"
)

// comparison is what both stores returned for one record.
type comparison[V any] struct {
	legacy              V
	inLegacy, hasLegacy bool
	target              Versioned[V]
	hasTarget           bool
}

// shadow reads the other store and compares, detached from the caller. It pins the
// route, and is canceled when that is replaced: it must not delay a rollback.
func (r *Reader[K, V]) shadow(ctx context.Context, p *pin, key K, first comparison[V]) {
	// Bounded, and dropped when saturated: shadow reads must not pile up on a slow store.
	if r.shadows.Add(1) > int64(r.set.MaxShadows) {
		r.shadows.Add(-1)
		p.h.observed.compared(dropped)
		return
	}
	r.i.count.shadows.Add(1)
	// A shadow read has its own pin: it is counted in the telemetry of that epoch.
	own := p.outlive(false)
	go func() {
		defer own.release()
		defer r.shadows.Add(-1)
		defer func() {
			if p := recover(); p != nil {
				r.i.count.shadowsFailed.Add(1)
				own.h.observed.compared(aborted)
				r.i.log.Error("panic in a shadow read", "panic", fmt.Sprint(p))
			}
		}()
		ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		defer cancel()
		defer context.AfterFunc(own.h.over, cancel)()
		r.compare(ctx, own.h, key, first)
	}()
}

// compare rechecks a difference several times: a write may not have reached both stores
// yet. A difference counts when the stores still differ at the last recheck and the target
// has not changed meanwhile.
func (r *Reader[K, V]) compare(ctx context.Context, h *pinnedRoute, key K, l comparison[V]) {
	c := &r.i.count
	moved := false
	for n := 0; ; n++ {
		before := l.target.Version
		if n > 0 {
			if !pause(ctx, r.set.RecheckPause) {
				c.shadowsStopped.Add(1)
				h.observed.compared(aborted)
				return
			}
			l = comparison[V]{}
		}
		if err := r.complete(ctx, h, key, &l); err != nil {
			h.observed.compared(aborted)
			if ctx.Err() != nil {
				c.shadowsStopped.Add(1)
			} else {
				c.shadowsFailed.Add(1)
			}
			return
		}
		// A target that changed between two reads is behind live writes: lag, which proves no damage.
		moved = moved || n > 0 && l.target.Version != before
		m := r.verdict(h, key, &l)
		switch {
		case m == nil && n == 0:
			h.observed.compared(agreed)
			return
		case m == nil || n >= r.set.RecheckTimes && moved:
			h.observed.compared(lagged)
			return
		case n >= r.set.RecheckTimes:
			h.observed.compared(r.confirmed(m))
			if r.set.OnMismatch != nil {
				r.set.OnMismatch(*m)
			}
			return
		}
	}
}

// verdict returns nil if the stores agree.
func (r *Reader[K, V]) verdict(h *pinnedRoute, key K, l *comparison[V]) *Mismatch {
	m := &Mismatch{Kind: FieldsDiffer, TargetVersion: l.target.Version, Route: h.route}
	switch {
	case !l.inLegacy && !l.target.Found:
		return nil
	case !l.inLegacy:
		m.Kind = ExtraInTarget
	case !l.target.Found:
		m.Kind = MissingInTarget
	case r.set.Compare == nil:
		if r.set.Equal(l.legacy, l.target.Value) {
			return nil
		}
	default:
		if m.Differences = r.set.Compare(l.legacy, l.target.Value); len(m.Differences) == 0 {
			return nil
		}
	}
	m.Key = r.set.Key(key)
	return m
}

// confirmed distinguishes a lost write from other mismatches: the store that answers
// lacks a record that legacy has, and this instance did not know that the copy is behind.
// A record that only the target has, or that has other fields, may also come from a
// writer of legacy that bypasses the application.
func (r *Reader[K, V]) confirmed(m *Mismatch) verdictOf {
	if m.Kind != MissingInTarget || !m.Route.Behaviour().Fallback {
		return mismatched
	}
	if _, behind, _ := r.i.degraded.missing(m.Key); behind {
		return mismatched
	}
	if m.Route.Phase == phases.Cutover && !m.Route.Percent.Takes(xxhash.Sum64String(string(m.Key))) {
		return mismatched // legacy answers for this key
	}
	return lostWriteConfirmed
}

// complete reads each store that has not been read yet.
func (r *Reader[K, V]) complete(outer context.Context, h *pinnedRoute, key K, l *comparison[V]) (err error) {
	ctx, cancel := context.WithTimeout(outer, r.set.ShadowTimeout)
	defer cancel()
	if !l.hasLegacy {
		began := watch()
		l.legacy, l.inLegacy, err = r.set.Legacy(ctx, key)
		l.hasLegacy = true
		h.observed.beside(outer, shadowLegacy, err, began)
	}
	if err == nil && !l.hasTarget {
		began := watch()
		l.target, err = r.set.Target.Get(ctx, key)
		l.hasTarget = true
		h.observed.beside(outer, shadowTarget, err, began)
	}
	return err
}
