package dual

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// ReaderConfig is the configuration of a Reader.
type ReaderConfig[K comparable, V any] struct {
	Instance *Instance
	Legacy   func(ctx context.Context, key K) (value V, found bool, err error)
	Target   Target[K, V]
	// Key is the record's canonical key: its hash decides which store answers in
	// cutover, so it must be the same in every process. Not called in the phase legacy.
	Key func(K) record.Key
	// Compare lists the differences of two values; nil or empty: they agree. Equal is
	// enough where the fields don't matter. One of the two is required. Both stores'
	// values are compared after Get has returned: a caller that changes the value that
	// Get returned (through a pointer or a map) needs Clone.
	Compare func(legacy, target V) []record.Difference
	Equal   func(legacy, target V) bool
	Clone   func(V) V

	// TargetTimeout is how long a read waits for the target before legacy answers
	// instead (cutover and grace). 0: as long as the target's own client waits; that
	// costs no allocation, so give that client a short timeout.
	TargetTimeout time.Duration
	// ShadowPercent is the share of reads that are also made on the other store
	// in cutover and grace (100: 1 %), where the migration file does not set it
	// (phases.cutover.shadow, phases.grace.shadow). In dual-read the route decides.
	ShadowPercent phases.Percent
	NoShadow      bool          // no shadow reads in cutover and grace, where the migration file does not set a share
	ShadowTimeout time.Duration // of one read of the other store (1s)
	MaxShadows    int           // at once; more are dropped and counted (64)
	RecheckPause  time.Duration // before each recheck of a difference (100ms)
	RecheckTimes  int           // rechecks before a difference counts (3)
	// OnMismatch is called for each confirmed mismatch, in the shadow read's goroutine.
	OnMismatch func(Mismatch)
}

// Mismatch is a confirmed difference between the stores. It has no values of records.
type Mismatch struct {
	Key           record.Key
	Kind          MismatchKind
	Differences   []record.Difference // of Compare, where both stores have the record
	TargetVersion record.Version
	Route         phases.Route
}

// MismatchKind is the kind of a mismatch.
type MismatchKind string

// Kinds of mismatches.
const (
	MissingInTarget MismatchKind = "missing"
	ExtraInTarget   MismatchKind = "extra"
	FieldsDiffer    MismatchKind = "field"
)

// Reader answers reads from the store that the present route names. It is safe
// for concurrent use.
type Reader[K comparable, V any] struct {
	i       *Instance
	set     ReaderConfig[K, V]
	guard   breaker
	shadows atomic.Int64
}

// NewReader checks the configuration.
func NewReader[K comparable, V any](c ReaderConfig[K, V]) (*Reader[K, V], error) {
	switch {
	case c.Instance == nil || c.Legacy == nil || c.Target == nil || c.Key == nil:
		return nil, errors.New("dual: ReaderConfig needs an Instance, Legacy, a Target and a Key")
	case c.Compare == nil && c.Equal == nil:
		return nil, errors.New("dual: ReaderConfig needs Compare or Equal")
	case c.ShadowPercent > phases.All:
		return nil, fmt.Errorf("dual: ShadowPercent %d: at most %d", c.ShadowPercent, phases.All)
	case c.TargetTimeout < 0 || c.ShadowTimeout < 0 || c.MaxShadows < 0 || c.RecheckPause < 0 || c.RecheckTimes < 0:
		return nil, errors.New("dual: ReaderConfig must not be negative")
	}
	if c.ShadowPercent == 0 {
		c.ShadowPercent = 100
	}
	if c.NoShadow {
		c.ShadowPercent = 0
	}
	if c.ShadowTimeout == 0 {
		c.ShadowTimeout = time.Second
	}
	if c.MaxShadows == 0 {
		c.MaxShadows = 64
	}
	if c.RecheckPause == 0 {
		c.RecheckPause = 100 * time.Millisecond
	}
	if c.RecheckTimes == 0 {
		c.RecheckTimes = 3
	}
	c.Target = withMarks(c.Instance, withFaults(c.Instance, c.Target, nil))
	r := &Reader[K, V]{i: c.Instance, set: c}
	c.Instance.guard(&r.guard, "reads")
	return r, nil
}

// compared is the share of reads that are compared in cutover and grace.
func (r *Reader[K, V]) compared(p *pin) phases.Percent {
	if share, set := p.h.route.Shadow.Percent(); set {
		return share
	}
	return r.set.ShadowPercent
}

// Get reads one record. Errors are the stores' own, and ErrLeft.
func (r *Reader[K, V]) Get(ctx context.Context, key K) (value V, found bool, err error) {
	var p pin
	// [pinned-route], [drain-reads]: one route for the whole read, pinned until it is answered.
	watched := r.i.pinRead(&p)
	defer p.finish(&err)
	if watched {
		ctx = p.start(ctx, &r.i.reads, telemetry.Read)
		err = errPanicked // replaced by whatever is returned
	}
	switch p.h.reads {
	case phases.ReadsLegacy:
		if !p.h.shadow {
			within, began := p.begin(ctx, readLegacy)
			value, found, err = r.set.Legacy(within, key)
			p.answered(ctx, readLegacy, err, began)
			return value, found, err
		}
		return r.legacyShadowed(ctx, &p, key, p.h.route.Percent)
	case phases.ReadsSplit:
		if !p.h.route.Percent.Takes(xxhash.Sum64String(string(r.set.Key(key)))) {
			return r.legacyShadowed(ctx, &p, key, r.compared(&p))
		}
		return r.fromTarget(ctx, &p, key)
	case phases.ReadsTarget:
		if !p.h.fallback {
			return r.fromTargetAlone(ctx, &p, key)
		}
		return r.fromTarget(ctx, &p, key)
	default:
		p.h.abortedReads.Add(1)
		return value, false, ErrLeft
	}
}

func (r *Reader[K, V]) legacyShadowed(ctx context.Context, p *pin, key K, share phases.Percent) (V, bool, error) {
	shadow := p.sampled(share)
	within, began := p.begin(ctx, readLegacy)
	value, found, err := r.set.Legacy(within, key)
	p.answered(ctx, readLegacy, err, began)
	if shadow && err == nil {
		r.shadow(ctx, p, key, comparison[V]{legacy: r.clone(value), inLegacy: found, hasLegacy: true})
	}
	return value, found, err
}

// fromTargetAlone answers where legacy is fenced.
func (r *Reader[K, V]) fromTargetAlone(ctx context.Context, p *pin, key K) (value V, found bool, err error) {
	within, began := p.begin(ctx, readTarget)
	entry, err := r.set.Target.Get(within, key)
	// [fenced-no-fallback]: legacy lacks the writes since its fence; an error is the right answer.
	if err != nil || !entry.missed() || !p.h.missAsksLegacy {
		p.answered(ctx, readTarget, err, began)
		return entry.Value, entry.Found, err
	}
	p.h.observed.count(readTarget, wasOK, 1)
	p.uncounted(telemetry.OK, nil)
	r.i.count.misses.Add(1)
	// [miss-fenced]: a record that was deleted has a tombstone, in retain for good. So legacy's
	// record is older than one that the target has lost, and neither "not found" nor legacy's
	// record is an answer.
	within, began = p.begin(ctx, readMissed)
	value, found, err = r.set.Legacy(within, key)
	p.observe(ctx, readMissed, err, began)
	switch {
	case err != nil:
		return *new(V), false, missUnknown(r.set.Key(key), err)
	case found:
		r.suspect(ctx, p, key, value)
		return *new(V), false, targetLost(r.set.Key(key))
	}
	return value, false, nil
}

// askTarget reads the target through its breaker, and times it. It counts a failure; the
// caller counts a success.
func (r *Reader[K, V]) askTarget(ctx context.Context, p *pin, key K) (entry Versioned[V], err error) {
	within, began := p.begin(ctx, readTarget)
	entry, err = r.get(ctx, within, key)
	if err != nil {
		p.observe(ctx, readTarget, err, began)
	} else {
		p.lap(readTarget, wasOK, nil, began)
	}
	return entry, err
}

// fromTarget answers from the target, as the route requires, if the instance may. The
// lease is checked after the read: if it had expired before, other instances may have
// moved to another route and written what this read did not return.
func (r *Reader[K, V]) fromTarget(ctx context.Context, p *pin, key K) (value V, found bool, err error) {
	// [lapsed-reads]: known to have expired: the target is not asked at all.
	if p.h.lease.knownExpired() {
		r.i.count.lapsedReads.Add(1)
		return r.fallback(ctx, p, key, readLapsed)
	}
	// [degraded-read]: a key whose write this instance acknowledged without the target.
	if r.i.degraded.some.Load() {
		if ok := r.mayAnswer(ctx, p, key); !ok {
			r.i.count.degradedReads.Add(1)
			return r.fallback(ctx, p, key, readDegraded)
		}
	}
	shadow := p.sampled(r.compared(p))
	entry, err := r.askTarget(ctx, p, key)
	switch {
	// [lease-after-read]: a process that was suspended between the two would otherwise return a
	// value that other instances have replaced since.
	case err == nil && !p.h.lease.valid():
		p.h.observed.count(readTarget, wasOK, 1)
		r.i.count.lapsedReads.Add(1)
		return r.fallback(ctx, p, key, readLapsed)
	case err == nil && entry.missed():
		return r.missed(ctx, p, key, shadow)
	case err == nil:
		p.slot = slotReadOK
		if p.h.reads == phases.ReadsSplit {
			p.slot = slotTargetOK
		}
		if shadow {
			r.shadow(ctx, p, key, comparison[V]{target: Versioned[V]{r.clone(entry.Value), entry.Found, entry.Version}, hasTarget: true})
		}
		return entry.Value, entry.Found, nil
	case ctx.Err() != nil: // the caller has given up: legacy can't answer in time either
		return value, false, err
	default:
		r.i.count.fallbacks.Add(1)
		// Counted apart: what the breaker refused is no failure of the target.
		why := readFallback
		if errors.Is(err, errBreakerOpen) {
			why = readUntried
		}
		return r.fallback(ctx, p, key, why)
	}
}

// fallback answers from legacy where the route names the target.
func (r *Reader[K, V]) fallback(ctx context.Context, p *pin, key K, why kind) (V, bool, error) {
	within, began := p.begin(ctx, why)
	value, found, err := r.set.Legacy(within, key)
	p.observe(ctx, why, err, began)
	return value, found, err
}

// missed answers where the target has neither the record nor a version of it: it was never
// written, or the target has lost it. Legacy is the authority and knows which.
func (r *Reader[K, V]) missed(ctx context.Context, p *pin, key K, shadow bool) (V, bool, error) {
	p.h.observed.count(readTarget, wasOK, 1)
	r.i.count.misses.Add(1)
	within, began := p.begin(ctx, readMissed)
	// [miss-asks-legacy]: its error is the answer too: "not found" may be wrong.
	value, found, err := r.set.Legacy(within, key)
	p.observe(ctx, readMissed, err, began)
	switch {
	case err != nil:
	case shadow: // both stores have answered already
		r.shadow(ctx, p, key, comparison[V]{legacy: r.clone(value), inLegacy: found, hasLegacy: true, hasTarget: true})
	case found:
		r.suspect(ctx, p, key, value)
	}
	return value, found, err
}

// suspect begins to confirm that the target has lost a record that legacy has.
func (r *Reader[K, V]) suspect(ctx context.Context, p *pin, key K, value V) {
	r.shadow(ctx, p, key, comparison[V]{legacy: r.clone(value), inLegacy: true, hasLegacy: true, hasTarget: true, afterMiss: true})
}

// get reads the target through the breaker. ctx is the caller's, within the attempt's.
func (r *Reader[K, V]) get(ctx, within context.Context, key K) (entry Versioned[V], err error) {
	passed, ok := r.guard.allow()
	if !ok {
		return entry, errBreakerOpen
	}
	bounded := within
	if r.set.TargetTimeout > 0 {
		var cancel context.CancelFunc
		bounded, cancel = context.WithTimeout(within, r.set.TargetTimeout)
		defer cancel()
	}
	entry, err = r.set.Target.Get(bounded, key)
	if err == nil || ctx.Err() == nil {
		r.guard.report(passed, err)
	} else { // a caller that gave up proves nothing about the store
		r.guard.report(passed, errCallerCanceled)
	}
	return entry, err
}

// mayAnswer reports whether the target may answer for the key: its copy is not known to
// be behind, or has caught up.
func (r *Reader[K, V]) mayAnswer(ctx context.Context, p *pin, k K) bool {
	key := r.set.Key(k)
	missing, behind, all := r.i.degraded.missing(key)
	if !behind || all {
		return !behind
	}
	entry, err := r.askTarget(ctx, p, k)
	if err == nil {
		p.h.observed.count(readTarget, wasOK, 1)
	}
	// [degraded-read]: the target answers only at or above the missed version. Versions of the
	// target only grow, so the read that follows can't find an older one.
	if err != nil || missing.NewerThan(entry.Version) {
		return false
	}
	return r.i.degraded.caughtUp(key, entry.Version, entry.Found, false)
}

func (r *Reader[K, V]) clone(v V) V {
	if r.set.Clone == nil {
		return v
	}
	return r.set.Clone(v)
}
