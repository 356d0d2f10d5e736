package dual

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

const writesWait = phases.WritesWait

// WriterConfig describes a Writer.
type WriterConfig[K comparable, V any] struct {
	Instance *Instance
	Target   Target[K, V]
	// Key is the record's canonical key. Not called in the phase legacy.
	Key func(K) record.Key
	// Legacy reads one record of legacy, as ReaderConfig.Legacy does. A write of retain asks it
	// about a record of which the target has not even a version: was it lost?
	Legacy func(ctx context.Context, key K) (value V, found bool, err error)
	// IsFenced reports whether legacy refused a write because of the fence; the write
	// then has no effect. Nil: store.IsFenced, which knows the errors of every driver that
	// returns the server's SQLSTATE.
	IsFenced func(error) bool
	// Uncertain reports whether a failed legacy write may have been committed (the
	// connection broke during COMMIT). The keys that its Op names are then journaled,
	// so that they are compared and repaired. Nil: store.IsUncertain.
	Uncertain func(error) bool
	// Locked reads a record of legacy under its row's lock, with the version at which this state
	// may be applied to the target (store.Locker). A write settles with it what the target refused
	// as older than what it has, or because of a fault of the write alone (too late, no version).
	// Nil: what the target refused as older counts as written, so a legacy that loses transactions
	// is found by reconcile alone; a write with a fault is journaled, and returns an error where an
	// instance may read the target.
	Locked func(context.Context, K) (Versioned[V], error)
	// ReadBacks: about ten writes a second are compared with what legacy has after them (Locked,
	// Compare), and a difference is logged and counted (Stats.ReadBackDifferences). For staging:
	// each takes the row's lock.
	ReadBacks bool
	// Compare lists the differences of two values; ReadBacks need it.
	Compare func(legacy, returned V) []record.Difference
	// Corrupt returns another value than the one given, which Compare finds: a drill's
	// FaultCorrupt stores it. It must change a copy. Nil: the record goes missing.
	Corrupt func(V) V
}

// Writer makes writes as the present route requires. It is safe for concurrent use.
type Writer[K comparable, V any] struct {
	i         *Instance
	target    Target[K, V]
	batch     BatchTarget[K, V]
	key       func(K) record.Key
	legacy    func(context.Context, K) (V, bool, error)
	fenced    func(error) bool
	uncertain func(error) bool
	locked    func(context.Context, K) (Versioned[V], error)
	readBacks bool
	compare   func(V, V) []record.Difference
	clock     *targetClock
	settling  settlements[K]
	guard     breaker
}

// NewWriter checks the configuration.
func NewWriter[K comparable, V any](c WriterConfig[K, V]) (*Writer[K, V], error) {
	if c.Instance == nil || c.Target == nil || c.Key == nil || c.Legacy == nil {
		return nil, errors.New("dual: WriterConfig needs an Instance, a Target, a Key and Legacy")
	}
	if c.ReadBacks && (c.Compare == nil || c.Locked == nil) {
		return nil, errors.New("dual: WriterConfig.ReadBacks needs Locked and Compare")
	}
	c.Target = withMarks(c.Instance, withFaults(c.Instance, c.Target, c.Corrupt))
	w := &Writer[K, V]{
		i: c.Instance, target: c.Target, key: c.Key, legacy: c.Legacy, fenced: c.IsFenced, uncertain: c.Uncertain,
		locked: c.Locked, readBacks: c.ReadBacks, compare: c.Compare, clock: &targetClock{now: c.Target.Now},
		settling: settlements[K]{of: map[K]*settlement{}},
	}
	w.batch, _ = c.Target.(BatchTarget[K, V])
	if w.fenced == nil {
		w.fenced = store.IsFenced
	}
	if w.uncertain == nil {
		w.uncertain = store.IsUncertain
	}
	c.Instance.guard(&w.guard, "writes")
	c.Instance.guard(&w.clock.guard, "clock")
	c.Instance.follow(w.clock)
	return w, nil
}

// Op is one write, in both its forms: Legacy while legacy has authority, Keys and
// Update once it has retired. A write without the second form fails from retain on.
type Op[K comparable, V any] struct {
	// Legacy makes the write in legacy, commits, and returns every record that it
	// changed: the whole new state, with a version taken while the write holds the row's lock
	// (in the RETURNING of its statement, or later in its transaction); for a changed key also
	// the old one, deleted. Its
	// error is returned as it is, and the target is not written. It is called
	// again if the fence refused it, and should take less than Writing.NotAfter.
	// [all-keys]: a record that is left out is missing in the target, and no journal knows of it.
	// [version-at-lock]: a version from before the lock may be older than that of a concurrent
	// write, one from after the commit newer.
	Legacy func(ctx context.Context) ([]Change[K, V], error)
	// Keys are the records that Update is called for, each on its own: from
	// retain on a write of several records is no longer atomic.
	Keys []K
	// Fewer: Legacy may change fewer records than Keys, or none (INSERT ... ON CONFLICT DO
	// NOTHING). Otherwise each of Keys without a change is counted (Stats.MissingKeys) and logged.
	Fewer bool
	// Update returns the record's next state, computed from its arguments alone:
	// it is called again if another write came between. Its error ends the write.
	Update func(key K, current V, found bool) (next V, deleted bool, err error)
}

// Write makes one write and returns when it is acknowledged as the route requires.
// It returns the closures' own errors, *TargetError, *WaitError, ErrLeft or ErrNoUpdate.
func (w *Writer[K, V]) Write(ctx context.Context, op Op[K, V]) error {
	o := operation[K, V]{legacy: op.Legacy, keys: op.Keys, fewer: op.Fewer, update: op.Update}
	return w.write(ctx, &o)
}

// Put writes one whole record, whatever it was before. The value must equal what
// legacy has afterwards, columns with defaults and triggers included. The closure
// returns the version that legacy's write gave; zero if it changed nothing.
func (w *Writer[K, V]) Put(ctx context.Context, key K, value V, legacy func(context.Context) (record.Version, error)) error {
	o := operation[K, V]{one: legacy, key: key, value: value}
	return w.write(ctx, &o)
}

// Delete removes one record. The closure returns the version that legacy's delete
// gave; zero if there was nothing to delete. Then, if the target still has the
// record, it is called once more before that is removed.
func (w *Writer[K, V]) Delete(ctx context.Context, key K, legacy func(context.Context) (record.Version, error)) error {
	o := operation[K, V]{one: legacy, key: key, deleted: true}
	return w.write(ctx, &o)
}

// operation is any of the three forms.
type operation[K comparable, V any] struct {
	legacy func(context.Context) ([]Change[K, V], error)
	keys   []K
	fewer  bool
	update func(K, V, bool) (V, bool, error)

	one     func(context.Context) (record.Version, error)
	key     K
	value   V
	deleted bool
}

// alone makes the legacy write where the target does not follow. It returns the changes of a
// write of several records.
func (o *operation[K, V]) alone(ctx context.Context) ([]Change[K, V], error) {
	if o.one != nil {
		_, err := o.one(ctx)
		return nil, err
	}
	return o.legacy(ctx)
}

func (o *operation[K, V]) run(ctx context.Context) ([]Change[K, V], error) {
	if o.one == nil {
		return o.legacy(ctx)
	}
	version, err := o.one(ctx)
	if err != nil || version.IsZero() {
		return nil, err
	}
	return []Change[K, V]{{Key: o.key, Value: o.value, Deleted: o.deleted, Version: version}}, nil
}

// names are the keys that the write is known to change.
func (o *operation[K, V]) names() []K {
	if o.one != nil {
		return []K{o.key}
	}
	return o.keys
}

func (o *operation[K, V]) next(k K, current Versioned[V]) (V, bool, error) {
	if o.one != nil {
		return o.value, o.deleted, nil
	}
	return o.update(k, current.Value, current.Found)
}

func (w *Writer[K, V]) write(ctx context.Context, o *operation[K, V]) error {
	if o.legacy == nil && o.one == nil {
		return errors.New("dual: the write has no legacy form")
	}
	var until time.Time
	for {
		h, moved, err := w.once(ctx, o)
		if !moved {
			return err
		}
		if until.IsZero() {
			until = time.Now().Add(h.writing.FenceBudget)
		}
		if err := w.i.awaitNext(ctx, h, until, err); err != nil {
			return err
		}
	}
}

// once makes the write under one route. moved: nothing was written, and the next
// epoch's route must be followed.
func (w *Writer[K, V]) once(ctx context.Context, o *operation[K, V]) (h *pinnedRoute, moved bool, err error) {
	var p pin
	// [pinned-route], [drain-writes]: one route for the whole write, pinned until it is answered.
	// An epoch is acknowledged only after the last write under an older one.
	watched := w.i.pinWrite(&p)
	defer p.finish(&err)
	if watched {
		ctx = p.start(ctx, &w.i.writes, telemetry.Write)
		err = errPanicked // replaced by whatever is returned
	}
	switch p.h.writes {
	case phases.WritesLegacy:
		moved, err = w.legacyAlone(ctx, &p, o)
	case phases.WritesBackground, phases.WritesBoth:
		moved, err = w.both(ctx, &p, o)
	case phases.WritesTarget:
		within, began := p.begin(ctx, writeTarget)
		moved, err = w.targetAlone(within, p.h, o)
		p.wroteAlone(ctx, moved, err, began)
	case phases.WritesWait:
		moved, err = true, nil
	default:
		p.h.abortedWrites.Add(1)
		return p.h, false, ErrLeft
	}
	if moved {
		p.h.abortedWrites.Add(1) // it is counted when it is made
		p.resolve("", err)
	}
	return p.h, moved, err
}

func (w *Writer[K, V]) legacyAlone(ctx context.Context, p *pin, o *operation[K, V]) (moved bool, err error) {
	within, began := p.begin(ctx, writeLegacy)
	changes, err := o.alone(within)
	switch {
	case err == nil:
		records := len(changes)
		if o.one != nil {
			records = 1
		}
		p.wroteLegacy(records, began)
		return false, w.checkChanges(o, changes)
	case w.fenced(err):
		p.uncounted("", err)
		return true, err
	default:
		p.failedLegacy(ctx, len(o.names()), err, began)
	}
	return false, err
}

// both writes legacy and then the target. The time past which the target refuses
// the change is fixed before legacy is touched, and never again: a process that is
// stopped anywhere in between can't compute it late.
func (w *Writer[K, V]) both(ctx context.Context, p *pin, o *operation[K, V]) (moved bool, err error) {
	// [not-after]: fixed here. If the clock can't be read, legacy takes the write all the same and
	// the change is journaled: an outage of the target stops no write.
	notAfter, clockErr := w.clock.atLeast(ctx, p.h.writing.Deadline)
	if clockErr == nil {
		notAfter = notAfter.Add(p.h.writing.NotAfter)
	}
	within, began := p.begin(ctx, writeLegacy)
	changes, err := w.runLegacy(within, p, o)
	failpoint.Here("dual.write.legacy")
	switch {
	case err != nil && w.fenced(err):
		p.uncounted("", err)
		return true, err
	case err != nil:
		p.failedLegacy(ctx, len(o.names()), err, began)
		w.journalUnknownOutcome(p, o, err)
		return false, err
	}
	committed := p.lap(writeLegacy, wasOK, nil, began)
	if wrong := w.checkChanges(o, changes); wrong != nil {
		defer func() { err = errors.Join(err, wrong) }() // the target is written all the same
	}
	w.sampleReadBack(changes)
	// [lapsed-reads]: with its lease over, a write waits for both stores: the fleet may have moved
	// on to reads from the target without this instance.
	background := p.h.writes == phases.WritesBackground && p.h.lease.valid()
	switch {
	// [delete-absent]: legacy has no record, but the target may still show one to its readers.
	// Under shadow-write it has none.
	case len(changes) == 0 && o.deleted && !background:
		return w.deleteAbsent(ctx, p, o, notAfter, clockErr, committed)
	case len(changes) == 0:
		p.h.observed.count(writeLegacy, wasOK, 1)
		return false, nil
	case background:
		err = w.later(ctx, p, changes, notAfter, clockErr)
		p.wroteBehind(len(changes), err, committed)
		return false, err
	}
	return false, w.follow(ctx, p, changes, notAfter, clockErr, committed)
}

// follow applies legacy's changes to the target, and handles those that it does not take.
func (w *Writer[K, V]) follow(ctx context.Context, p *pin, changes []Change[K, V], notAfter time.Time, clockErr error, committed stopwatch) error {
	// [all-keys]: after the commit, never before: a change that legacy rolls back must not reach
	// the target.
	entries, cause := w.applyAll(p.attempt(ctx, writeTarget), p.h, changes, notAfter, clockErr)
	failpoint.Here("dual.write.applied")
	// [both-before-ack]: acknowledged here only when the target has every change, or a later
	// state of its record.
	if len(entries) == 0 {
		p.wroteBoth(len(changes), committed)
		return nil
	}
	p.missed(len(changes), len(entries), cause, committed)
	err := w.i.handleTargetFailure(ctx, p, entries, cause)
	p.added(err, committed)
	return err
}

// runLegacy makes the legacy write. If the closure panics, it may have committed before.
func (w *Writer[K, V]) runLegacy(ctx context.Context, p *pin, o *operation[K, V]) ([]Change[K, V], error) {
	returned := false
	defer func() {
		if !returned { // also for runtime.Goexit
			w.journalUnknown(p, o, "the legacy form of the write panicked: whether it had committed is unknown")
		}
	}()
	changes, err := o.run(ctx)
	returned = true
	return changes, err
}

// journalUnknownOutcome journals the keys of a write that may have been committed.
func (w *Writer[K, V]) journalUnknownOutcome(p *pin, o *operation[K, V], err error) {
	if w.uncertain(err) {
		w.journalUnknown(p, o, "the outcome of the legacy write is unknown")
	}
}

func (w *Writer[K, V]) journalUnknown(p *pin, o *operation[K, V], reason string) {
	keys := o.names()
	entries := make([]JournalEntry, len(keys))
	for n, k := range keys {
		entries[n] = JournalEntry{Key: w.key(k), Reason: reason}
	}
	switch {
	// [unknown-journaled]: the write returns an error although legacy may have it. The entries pin
	// the route: no epoch is acknowledged before the keys are journaled, and without that the
	// instance does not leave cleanly.
	case len(entries) == 0:
		w.i.abandon([]JournalEntry{{Reason: reason}}, true, "the write names no Keys")
	case !w.i.pending.add(p, entries, false):
		w.i.abandon(entries, true, "the journal's queue is full")
	}
}

// deadline is how long a write of some records tries the target after legacy has it. It grows
// with their number, up to not-after: beyond that the target refuses the changes anyway.
func (w *Writer[K, V]) deadline(records int) time.Duration { return w.i.deadline(records) }

func (w *Writer[K, V]) journalEntry(c Change[K, V], cause error) JournalEntry {
	return JournalEntry{Key: w.key(c.Key), Version: c.Version, Reason: cause.Error()}
}

// outcome turns a store's answer into an error, nil where the target has this state, or has
// refused it as older than what it has.
func outcome(r store.Result) error {
	switch r.Outcome {
	case store.Applied, store.Older:
		return nil
	case store.Late:
		return &writeFault{errors.New("the target refused the change: it arrived after its not-after")}
	// [owned-only]: another program's value is not replaced by a write; the key is journaled, and
	// repair replaces it.
	case store.Foreign:
		return &writeFault{hint.Errorf(hint.Hint{Do: hint.ReconcileRepair}, "the target has a value under this key that is not the migration's")}
	default:
		return fmt.Errorf("the target answered %q", r.Outcome)
	}
}
