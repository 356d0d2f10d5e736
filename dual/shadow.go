package dual

import (
	"context"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"github.com/stranglerfig/migrator/phases"
)

// look is what both stores said of one record.
type look[V any] struct {
	legacy              V
	inLegacy, hasLegacy bool
	target              Versioned[V]
	hasTarget           bool
}

// shadow makes the other store's read and compares, detached from the caller. It
// holds the route, and is stopped when that is replaced: it must not delay a rollback.
func (r *Reader[K, V]) shadow(ctx context.Context, p *pin, key K, first look[V]) {
	// Bounded, and dropped when saturated: shadow reads must not pile up on a slow store.
	if r.shadows.Add(1) > int64(r.set.MaxShadows) {
		r.shadows.Add(-1)
		p.h.saw.compared(dropped)
		return
	}
	r.i.count.shadows.Add(1)
	// A shadow read pins the route by itself: it is counted as evidence of that epoch.
	own := p.outlive(false)
	go func() {
		defer own.release()
		defer r.shadows.Add(-1)
		defer func() {
			if p := recover(); p != nil {
				r.i.count.shadowsFailed.Add(1)
				own.h.saw.compared(aborted)
				r.i.log.Error("panic in a shadow read", "panic", fmt.Sprint(p))
			}
		}()
		ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		defer cancel()
		defer context.AfterFunc(own.h.over, cancel)()
		r.compare(ctx, own.h, key, first)
	}()
}

// compare looks again and again at a difference: a write may be between the two
// stores. It counts when the stores still differ at the last look and the target
// has not moved meanwhile.
func (r *Reader[K, V]) compare(ctx context.Context, h *pinnedRoute, key K, l look[V]) {
	c := &r.i.count
	moved := false
	for n := 0; ; n++ {
		before := l.target.Version
		if n > 0 {
			if !pause(ctx, r.set.RecheckPause) {
				c.shadowsStopped.Add(1)
				h.saw.compared(aborted)
				return
			}
			l = look[V]{}
		}
		if err := r.complete(ctx, h, key, &l); err != nil {
			h.saw.compared(aborted)
			if ctx.Err() != nil {
				c.shadowsStopped.Add(1)
			} else {
				c.shadowsFailed.Add(1)
			}
			return
		}
		// A target that moved between two reads is behind live writes: lag, and no evidence of
		// damage.
		moved = moved || n > 0 && l.target.Version != before
		m := r.verdict(h, key, &l)
		switch {
		case m == nil && n == 0:
			h.saw.compared(agreed)
			return
		case m == nil || n >= r.set.RecheckTimes && moved:
			h.saw.compared(lagged)
			return
		case n >= r.set.RecheckTimes:
			h.saw.compared(r.confirmed(m))
			if r.set.OnMismatch != nil {
				r.set.OnMismatch(*m)
			}
			return
		}
	}
}

// verdict is nil where the stores agree.
func (r *Reader[K, V]) verdict(h *pinnedRoute, key K, l *look[V]) *Mismatch {
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

// confirmed tells a lost write from other mismatches: the store that answers lacks
// what legacy has, and this instance did not know that the copy is behind. A
// record that only the target has, or that has other fields, may as well be the
// doing of a writer of legacy that bypasses the application.
func (r *Reader[K, V]) confirmed(m *Mismatch) verdictOf {
	if m.Kind != MissingInTarget || !m.Route.Behaviour().Fallback {
		return mismatched
	}
	if _, behind, _ := r.i.behind.lost(m.Key); behind {
		return mismatched
	}
	if m.Route.Phase == phases.Cutover && !m.Route.Percent.Takes(xxhash.Sum64String(string(m.Key))) {
		return mismatched // legacy answers for this key
	}
	return lostWriteConfirmed
}

// complete reads whichever store has not said anything yet.
func (r *Reader[K, V]) complete(outer context.Context, h *pinnedRoute, key K, l *look[V]) (err error) {
	ctx, cancel := context.WithTimeout(outer, r.set.ShadowTimeout)
	defer cancel()
	if !l.hasLegacy {
		began := watch()
		l.legacy, l.inLegacy, err = r.set.Legacy(ctx, key)
		l.hasLegacy = true
		h.saw.beside(outer, shadowLegacy, err, began)
	}
	if err == nil && !l.hasTarget {
		began := watch()
		l.target, err = r.set.Target.Get(ctx, key)
		l.hasTarget = true
		h.saw.beside(outer, shadowTarget, err, began)
	}
	return err
}
