package dual

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

var errMoved = errors.New("authority has moved meanwhile")

// targetAlone makes the write once legacy has retired: each key by compare-and-set on
// the version that was read. In a reversible retain the keys are put into the return
// journal first. A key in it that was not written costs the rollback one replay; a key
// that is missing in it would lose a write at the rollback.
func (w *Writer[K, V]) targetAlone(ctx context.Context, h *pinnedRoute, o *operation[K, V]) (moved bool, err error) {
	if o.one == nil && o.update == nil {
		return false, ErrNoUpdate
	}
	names := o.names()
	if len(names) == 0 {
		return false, nil
	}
	keys := make([]record.Key, len(names))
	for n, k := range names {
		keys[n] = w.key(k)
	}
	listed, err := w.list(ctx, h, keys)
	if err != nil {
		if errors.Is(err, ErrRouteMoved) {
			return true, err
		}
		return false, w.refuse(keys, 0, false, err)
	}
	failpoint.Here("dual.retain.journalled")
	for n, k := range names {
		// Each record rests on its own read of the target, so each has the write's whole time: a
		// large write must not end in the middle because of its size.
		if n > 0 && time.Until(listed.until) < h.writing.Deadline {
			if listed, err = w.list(ctx, h, keys[n:]); err != nil {
				return false, w.refuse(keys, n, false, err)
			}
		}
		bounded, cancel := context.WithTimeout(ctx, h.writing.Deadline)
		err := w.swap(bounded, h, o, k, listed.notAfter)
		cancel()
		var own *ownError
		var unknown *unknownError
		switch {
		case err == nil:
		case errors.As(err, &own):
			if n == 0 {
				return false, own.error
			}
			return false, &TargetError{Keys: keys[n:], Done: keys[:n], Refused: true, Cause: own.error}
		case errors.Is(err, errMoved) && n == 0:
			return true, err
		default:
			return false, w.refuse(keys, n, errors.As(err, &unknown), err)
		}
	}
	return false, nil
}

// listing is a permission to write keys in retain.
type listing struct {
	notAfter time.Time // past which the target refuses these writes
	until    time.Time // the same or a little later, by this process's clock
}

// list puts keys into the return journal, if the route may be returned from. [return-listed]: the
// time past which the target refuses these writes is fixed before: a return that waits for it after
// it has seen the entry knows that no write of this listing lands later. [not-after]: without a time from
// the target's clock the write is refused: here no journal would repair a late one.
func (w *Writer[K, V]) list(ctx context.Context, h *pinnedRoute, keys []record.Key) (listing, error) {
	began := time.Now()
	now, err := w.clock.atLeast(ctx, h.writing.Deadline)
	if err != nil {
		return listing{}, err
	}
	l := listing{notAfter: now.Add(h.writing.NotAfter), until: began.Add(h.writing.NotAfter)}
	if !h.reversible || h.route.Phase != phases.Retain {
		return l, nil
	}
	// [return-journal]: before the target is touched, and under the epoch that the write is pinned
	// to: once the rollback has begun, the key is refused here and the write waits.
	bounded, cancel := context.WithTimeout(ctx, w.deadline(len(keys)))
	defer cancel()
	if err := w.i.mayReturn(bounded, h.route.Epoch, keys); err != nil && !errors.Is(err, ErrRouteMoved) {
		return l, &writeFault{fmt.Errorf("record the write in the return journal: %w", err)} // the target has not been asked
	} else if err != nil {
		return l, err
	}
	return l, nil
}

// refuse returns the error that names the keys that are written and those that are not.
func (w *Writer[K, V]) refuse(keys []record.Key, done int, unknown bool, cause error) error {
	w.i.count.failed.Add(1)
	return &TargetError{Keys: keys[done:], Done: keys[:done], Unknown: unknown, Cause: cause}
}

func (i *Instance) mayReturn(ctx context.Context, epoch int64, keys []record.Key) error {
	j, ok := i.fleet.(ReturnJournal)
	if !ok {
		return errors.New("this connection to the fleet has no return journal")
	}
	for wait := 5 * time.Millisecond; ; wait *= 2 {
		// Safe to repeat: a second entry of a key costs the rollback one replay.
		err := j.Return(ctx, epoch, keys)
		if err == nil || errors.Is(err, ErrRouteMoved) || errors.Is(err, ErrTargetLost) {
			return err
		}
		if !pause(ctx, wait) {
			return err
		}
	}
}

// ownError is an error of the application's Update.
type ownError struct{ error }

// unknownError is a failure after which the target may have the write.
type unknownError struct{ error }

func (e *unknownError) Unwrap() error { return e.error }

// swap writes one key. If another write came between its read and its write, it starts
// again with a new read.
func (w *Writer[K, V]) swap(ctx context.Context, h *pinnedRoute, o *operation[K, V], k K, notAfter time.Time) error {
	var sent *record.Version // of an attempt with unknown outcome
	var unknown error        // of that attempt
	for attempt := 0; ; attempt++ {
		current, err := w.target.Get(ctx, k)
		switch {
		case err != nil && !pause(ctx, backoff(attempt)):
			return resolveUnknown(unknown, err)
		case err != nil:
			continue
		case sent != nil && current.Version != *sent:
			// [retain-once]: the target has a later version, perhaps of this very write: another
			// attempt could apply Update twice.
			return &unknownError{unknown}
		}
		if current.missed() && h.missAsksLegacy {
			// [miss-fenced]: without this, Update would build the record from nothing, and the write would
			// hide for good that the target has lost it.
			if err := w.askLegacy(ctx, k); err != nil {
				return resolveUnknown(unknown, err)
			}
		}
		next, deleted, err := o.next(k, current)
		if err != nil {
			return resolveUnknown(unknown, &ownError{err})
		}
		// [retain-cas]: one above the version that was read. A key of a higher era has been
		// replayed to legacy by a return during which this writer was suspended: refused.
		version, err := current.Version.Next(h.fenceEra)
		if err != nil {
			return resolveUnknown(unknown, fmt.Errorf("%w: %w", errMoved, err))
		}
		only := current.Version
		// [retain-cas]: applied only on the version that was read. [not-after-fixed]: with the one
		// time of this write. [tombstone]: a deleted key keeps its version for good: otherwise its
		// counter would begin again below it.
		result, err := w.target.Apply(ctx, Change[K, V]{Key: k, Value: next, Deleted: deleted, Version: version},
			ApplyOptions{NotAfter: notAfter, IfVersion: &only, Keep: true})
		if err == nil {
			err = result.Err
		}
		switch {
		case err != nil:
			sent, unknown = &only, err
			if !pause(ctx, backoff(attempt)) {
				return &unknownError{err}
			}
		case result.Outcome == store.Applied:
			failpoint.Here("dual.retain.written")
			return nil
		// [retain-once]: the attempt before this one may be what changed the version.
		case result.Outcome == store.Changed && sent != nil:
			return &unknownError{unknown}
		case result.Outcome == store.Changed:
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("other writes of the record intervened %d times: %w", attempt+1, err)
			}
		default:
			return resolveUnknown(unknown, outcomeAlone(result))
		}
	}
}

// askLegacy returns an error unless fenced legacy lacks the record too.
func (w *Writer[K, V]) askLegacy(ctx context.Context, k K) error {
	w.i.count.misses.Add(1)
	switch _, found, err := w.legacy(ctx, k); {
	case err != nil:
		return missUnknown(w.key(k), err)
	case found:
		return targetLost(w.key(k))
	}
	return nil
}

// resolveUnknown keeps a later failure from hiding that an earlier attempt may have landed.
func resolveUnknown(unknown, err error) error {
	if unknown != nil {
		return &unknownError{fmt.Errorf("%w (after %w)", err, unknown)}
	}
	return err
}

// outcomeAlone is outcome for a conditional write, for which Older is not a success.
func outcomeAlone(r store.Result) error {
	if err := outcome(r); err != nil {
		return err
	}
	return fmt.Errorf("the target answered %q", r.Outcome)
}

func backoff(attempt int) time.Duration { return 5 * time.Millisecond << min(attempt, 5) }
