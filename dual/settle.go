package dual

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// writeFault is a failure of one write itself: too late, without a version, not encodable, refused
// as a record. The target works, so reads stay with it.
type writeFault struct{ error }

func (e *writeFault) Unwrap() error { return e.error }

// isWriteFault reports whether a change failed by itself, and not the target.
func isWriteFault(err error) bool {
	var own *writeFault
	return errors.As(err, &own) || errors.Is(err, store.ErrRecord)
}

// errLegacyBehind: legacy gives a record a version that is not above what the target has of it.
// Legacy's position has gone back (a crash without synchronous_commit, a failover, a restore),
// or this server is not the primary any more.
var errLegacyBehind = hint.With(errors.New("legacy's position is behind what the target has: legacy has lost transactions, or this is not its primary"), hint.Hint{Do: hint.Doctor})

const settleTries = 5

// settle brings a record of the target to legacy's present state, after the target has refused
// the write's own state: as older than what it has (above), or because of a fault of the write.
// [older-settled]: legacy's row is read under its lock, and applied at the version of the locked
// row. That is above every write that legacy has committed. If it is not above what the target
// had before, legacy has gone back.
//
// It returns the version that the target has then.
func (w *Writer[K, V]) settle(ctx context.Context, c Change[K, V], above record.Version, until time.Time) (settled record.Version, last error) {
	defer w.contain(&last)
	for attempt := range settleTries {
		if attempt > 0 && !pause(ctx, backoff(attempt)) || attempt > 0 && time.Now().After(until) {
			break
		}
		// [not-after]: of this read, not of the write: the state that is applied is the one read now.
		now, err := w.clock.atLeast(ctx, w.i.writing().Deadline)
		if err != nil {
			return settled, err
		}
		notAfter := now.Add(w.i.writing().NotAfter)
		seen, err := w.target.Get(ctx, c.Key) // [repair-target-first]
		if err != nil {
			return settled, err
		}
		row, err := w.locked(ctx, c.Key)
		if err != nil {
			last = &writeFault{fmt.Errorf("read legacy's row under its lock: %w", err)}
			continue
		}
		next := Change[K, V]{Key: c.Key, Value: row.Value, Version: row.Version}
		o := ApplyOptions{NotAfter: notAfter}
		if !row.Found {
			// Legacy has no row to lock. The target is right if it has no record either, and a version
			// that refuses this write's own.
			next = Change[K, V]{Key: c.Key, Deleted: true, Version: seen.Version.Max(c.Version)}
			if !seen.Found && (next.Version == seen.Version || next.Version.IsZero()) {
				return seen.Version, nil
			}
			// [repair-unchanged]: the tombstone takes no newer version, so it must not land on a record
			// that was inserted meanwhile.
			o.IfVersion = &seen.Version
		} else if !row.Version.NewerThan(above) {
			return settled, errLegacyBehind
		}
		r, err := w.target.Apply(ctx, next, o)
		if err == nil {
			err = r.Err
		}
		switch {
		case err != nil:
			last = err
		case r.Outcome == store.Applied:
			return r.Version, nil
		case r.Outcome == store.Older && r.Version.NewerThan(row.Version):
			// A write that legacy committed after the row was read; or one from before legacy went back.
			above, last = r.Version, &writeFault{errors.New("other writes of the record intervened")}
		case r.Outcome == store.Older, r.Outcome == store.Changed:
			last = &writeFault{errors.New("other writes of the record intervened")}
		default:
			last = outcome(r)
		}
		if errors.Is(last, store.ErrRecord) {
			break // legacy's own state can't be stored either
		}
	}
	return settled, last
}

// settlements are the records that are being settled: one at a time for each record, however
// many writes of it need that.
type settlements[K comparable] struct {
	mu sync.Mutex
	of map[K]*settlement
}

type settlement struct {
	done    chan struct{}
	version record.Version
	err     error
}

// settleOnce settles a change, or waits for the settlement of the same record by another write.
func (w *Writer[K, V]) settleOnce(ctx context.Context, c Change[K, V], above record.Version, until time.Time) error {
	w.i.count.settled.Add(1)
	for {
		w.settling.mu.Lock()
		s := w.settling.of[c.Key]
		if s == nil {
			s = &settlement{done: make(chan struct{}), err: errNoAnswer}
			w.settling.of[c.Key] = s
			w.settling.mu.Unlock()
			defer func() { // also when a closure of the application panics
				w.settling.mu.Lock()
				delete(w.settling.of, c.Key)
				w.settling.mu.Unlock()
				close(s.done)
			}()
			s.version, s.err = w.settle(ctx, c, above, until)
			return s.err
		}
		w.settling.mu.Unlock()
		select {
		case <-s.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		// Both versions are of the present legacy. One above this write's was read under the row's
		// lock after this write had committed.
		if s.err == nil && s.version.NewerThan(c.Version) {
			return nil
		}
	}
}
