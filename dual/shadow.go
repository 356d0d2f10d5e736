package dual

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// comparison is what both stores returned for one record.
type comparison[V any] struct {
	legacy              V
	inLegacy, hasLegacy bool
	target              Versioned[V]
	hasTarget           bool
	afterMiss           bool // not sampled: the read found the record in legacy alone
}

// shadow reads the other store and compares, detached from the caller. It pins the
// route, and is canceled when that is replaced: it must not delay a rollback.
func (r *Reader[K, V]) shadow(ctx context.Context, p *pin, key K, first comparison[V]) {
	// Bounded, and dropped when saturated: shadow reads must not pile up on a slow store.
	if r.shadows.Add(1) > int64(r.set.MaxShadows) {
		r.shadows.Add(-1)
		p.h.observed.compared(dropped, first.afterMiss)
		return
	}
	r.i.count.shadows.Add(1)
	// A shadow read has its own pin: it is counted in the telemetry of that epoch.
	role := telemetry.Shadow
	if first.afterMiss {
		role = telemetry.Missed
	}
	own, ctx := p.outlive(context.WithoutCancel(ctx), telemetry.Comparison, role)
	go func() {
		defer own.release()
		defer r.shadows.Add(-1)
		defer func() {
			if p := recover(); p != nil {
				r.i.count.shadowsFailed.Add(1)
				own.compared(aborted, first.afterMiss, errPanicked)
				r.i.log.Error("panic in a shadow read", "panic", fmt.Sprint(p))
			}
		}()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(own.h.over, cancel)()
		r.compare(ctx, &own, key, first)
	}()
}

// compare rechecks a difference several times: a write may not have reached both stores
// yet. A difference counts when the stores still differ at the last recheck and the target
// has not changed meanwhile.
func (r *Reader[K, V]) compare(ctx context.Context, p *pin, key K, l comparison[V]) {
	c := &r.i.count
	afterMiss := l.afterMiss
	moved := false
	for n := 0; ; n++ {
		before := l.target.Version
		if n > 0 {
			if !pause(ctx, r.set.RecheckPause) {
				c.shadowsStopped.Add(1)
				p.compared(aborted, afterMiss, context.Cause(ctx))
				return
			}
			l = comparison[V]{}
		}
		if err := r.complete(ctx, p, key, &l); err != nil {
			r.aborted(ctx, p, afterMiss, err)
			return
		}
		// A target that changed between two reads is behind live writes: lag, which proves no damage.
		moved = moved || n > 0 && l.target.Version != before
		m := r.verdict(p.h, key, &l)
		switch {
		case m == nil && n == 0:
			p.compared(agreed, afterMiss, nil)
			return
		case m == nil || n >= r.set.RecheckTimes && moved:
			p.compared(lagged, afterMiss, nil)
			return
		case n < r.set.RecheckTimes:
		default:
			r.confirm(ctx, p, key, l, m, afterMiss)
			return
		}
	}
}

// confirm decides what a difference that has stayed is. m is the verdict on l.
func (r *Reader[K, V]) confirm(ctx context.Context, p *pin, key K, l comparison[V], m *Mismatch, afterMiss bool) {
	waited, err := r.awaitCapture(ctx, p.h)
	if waited {
		var again comparison[V]
		if err = r.complete(ctx, p, key, &again); err == nil {
			// [capture-shadowed]: what changed since the wait began is not waited for.
			moved := again.target.Version != l.target.Version || again.inLegacy != l.inLegacy || l.inLegacy && r.differs(l.legacy, again.legacy)
			l, m = again, r.verdict(p.h, key, &again)
			if m == nil || moved {
				p.compared(lagged, afterMiss, nil)
				return
			}
		}
	}
	switch {
	case err != nil:
		r.aborted(ctx, p, afterMiss, err)
	case l.inLegacy && l.target.missed() && r.answersFromTarget(p.h, m.Key):
		r.confirmLost(ctx, p, key, &l, m, afterMiss)
	default:
		r.report(p, m, mismatched, afterMiss)
	}
}

// Capture reports once a second. How long it may lag before a comparison is given up is bounded: the comparisons that
// wait are.
const (
	capturePoll   = time.Second
	captureWithin = 30 * time.Second
)

var errCaptureLags = errors.New("change capture, which alone writes the target, has not brought what legacy had")

// awaitCapture waits, where change capture alone writes the target, until the target has all that legacy had committed
// when it was called. waited is false where there is nothing to wait for.
func (r *Reader[K, V]) awaitCapture(ctx context.Context, h *pinnedRoute) (waited bool, err error) {
	fleet, ok := r.i.fleet.(CaptureReader)
	if !ok || h.uncaptured.Load() {
		return false, nil
	}
	first, err := fleet.Captured(ctx)
	if err != nil {
		return false, err
	}
	if !first.Alone {
		h.uncaptured.Store(true)
		return false, nil
	}
	for now := first; now.CaughtUp.Before(first.At); {
		if now.At.Sub(first.At) > captureWithin {
			return false, errCaptureLags
		}
		if !pause(ctx, capturePoll) {
			return false, context.Cause(ctx)
		}
		if now, err = fleet.Captured(ctx); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (r *Reader[K, V]) aborted(ctx context.Context, p *pin, afterMiss bool, err error) {
	p.compared(aborted, afterMiss, err)
	if ctx.Err() != nil {
		r.i.count.shadowsStopped.Add(1)
	} else {
		r.i.count.shadowsFailed.Add(1)
	}
}

func (r *Reader[K, V]) report(p *pin, m *Mismatch, v verdictOf, afterMiss bool) {
	p.compared(v, afterMiss, nil)
	if r.set.OnMismatch != nil {
		r.set.OnMismatch(*m)
	}
}

// answersFromTarget reports whether the route reads the key from the target.
func (r *Reader[K, V]) answersFromTarget(h *pinnedRoute, key record.Key) bool {
	return h.route.ReadsTarget() && (h.reads != phases.ReadsSplit || h.route.Percent.Takes(xxhash.Sum64String(string(key))))
}

// confirmLost decides whether a record that legacy has, and of which the target has not even a
// version, is lost. A write of it may still be under way or end in the journal, each within
// the write's deadline. So the second look is later than both.
func (r *Reader[K, V]) confirmLost(ctx context.Context, p *pin, key K, first *comparison[V], m *Mismatch, afterMiss bool) {
	if !pause(ctx, 2*p.h.writing.Deadline) {
		r.aborted(ctx, p, afterMiss, context.Cause(ctx))
		return
	}
	lost, err := r.stillLost(ctx, p, key, first, m.Key)
	_, behind, _ := r.i.degraded.missing(m.Key)
	switch {
	case behind: // this instance's own write: it is journaled, or still to be
		p.compared(lagged, afterMiss, nil)
	case err != nil:
		r.aborted(ctx, p, afterMiss, err)
	case lost:
		r.i.log.Error("the target has lost a record", "key", string(m.Key), "route", p.h.route.String())
		r.report(p, m, lostWriteConfirmed, afterMiss)
	default:
		p.compared(lagged, afterMiss, nil)
	}
}

// stillLost makes the second look. [lost-confirmed]: in this order. A write since the first look
// changes legacy before the target, and is journaled last; a repair writes the target before it
// clears the journal, so the target is read once more at the end.
func (r *Reader[K, V]) stillLost(outer context.Context, p *pin, key K, first *comparison[V], name record.Key) (bool, error) {
	ctx, cancel := context.WithTimeout(outer, r.set.ShadowTimeout)
	defer cancel()
	again, err := r.lookAgain(ctx, p, key)
	if err != nil || !again.missed() {
		return false, err
	}
	value, found, err := r.set.Legacy(p.attempt(ctx, shadowLegacy), key)
	p.uncounted(outcomes[classify(outer, err)], err)
	if err != nil || !found || r.differs(first.legacy, value) {
		return false, err
	}
	j, ok := r.i.fleet.(JournalReader)
	if !ok {
		return false, errors.New("this connection to the fleet can't read the journal")
	}
	if journaled, err := j.HasJournaled(ctx, name); err != nil || journaled {
		return false, err
	}
	again, err = r.lookAgain(ctx, p, key)
	return err == nil && again.missed(), err
}

// lookAgain reads the target for a second look, which is not counted.
func (r *Reader[K, V]) lookAgain(ctx context.Context, p *pin, key K) (Versioned[V], error) {
	entry, err := r.set.Target.Get(p.attempt(ctx, shadowTarget), key)
	p.uncounted(outcomes[classify(ctx, err)], err)
	return entry, err
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

func (r *Reader[K, V]) differs(a, b V) bool {
	if r.set.Compare == nil {
		return !r.set.Equal(a, b)
	}
	return len(r.set.Compare(a, b)) > 0
}

// complete reads each store that has not been read yet.
func (r *Reader[K, V]) complete(outer context.Context, p *pin, key K, l *comparison[V]) (err error) {
	ctx, cancel := context.WithTimeout(outer, r.set.ShadowTimeout)
	defer cancel()
	if !l.hasLegacy {
		began := watch()
		l.legacy, l.inLegacy, err = r.set.Legacy(p.attempt(ctx, shadowLegacy), key)
		l.hasLegacy = true
		p.beside(outer, shadowLegacy, err, began)
	}
	if err == nil && !l.hasTarget {
		began := watch()
		l.target, err = r.set.Target.Get(p.attempt(ctx, shadowTarget), key)
		l.hasTarget = true
		p.beside(outer, shadowTarget, err, began)
	}
	return err
}
