package dual

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// applyAll applies changes that legacy has to the target, with retries within the
// deadline. It returns those that the target is not known to have, and the cause of the last
// one; a fault of the write alone only if there is no other. It continues after
// the end of the caller's context: legacy has the write.
func (w *Writer[K, V]) applyAll(ctx context.Context, h *pinnedRoute, changes []Change[K, V], notAfter time.Time, clockErr error) ([]JournalEntry, error) {
	if clockErr != nil {
		return w.journalEntries(changes, clockErr)
	}
	// An open breaker fails the change at once, and it is journaled: an outage of the target must
	// not add the deadline to every write.
	passed, ok := w.guard.allow()
	if !ok {
		return w.journalEntries(changes, errBreakerOpen)
	}
	reported := errNoAnswer // nil once the target itself has answered
	defer func() { w.guard.report(passed, reported) }()
	var e retryBudget
	if len(changes) > 1 {
		// Several changes share one deadline: the caller waits for it once, not once for each
		// record.
		e.records = len(changes)
		e.until = time.Now().Add(w.deadline(e.records))
	}
	if len(changes) > 1 && w.batch != nil {
		entries, cause, answered := w.applyBatch(ctx, h, changes, notAfter, &e)
		if answered {
			reported = nil
		}
		return entries, cause
	}
	var entries []JournalEntry
	var cause error
	answered := true
	for n := range changes {
		err, ok := w.applyOne(ctx, h, changes[n], notAfter, &e)
		if err != nil {
			entries, cause = append(entries, w.journalEntry(changes[n], err)), worse(cause, err)
		}
		answered = answered && ok
	}
	if answered {
		reported = nil
	}
	return entries, cause
}

func (w *Writer[K, V]) journalEntries(changes []Change[K, V], cause error) ([]JournalEntry, error) {
	entries := make([]JournalEntry, len(changes))
	for n, c := range changes {
		entries[n] = w.journalEntry(c, cause)
	}
	return entries, cause
}

// applyOne returns nil when the target has the change or a later one. answered reports
// whether the target itself answered.
func (w *Writer[K, V]) applyOne(ctx context.Context, h *pinnedRoute, c Change[K, V], notAfter time.Time, e *retryBudget) (err error, answered bool) {
	if c.Version.IsZero() {
		// [newer-only]: without a version the target can't order the change. It is not sent: it is
		// settled at the version of the locked row.
		return w.settleFault(ctx, c, errNoVersion), true
	}
	for attempt := 0; ; attempt++ {
		// [not-after-fixed]: every attempt carries the time that was fixed before the legacy write.
		// With a later one, a retry could land an old state after the newer one's version has expired
		// in the target.
		err = w.try(ctx, c, ApplyOptions{NotAfter: notAfter}, e, attempt > 0)
		if err == nil {
			w.caughtUp(c)
			return nil, true
		}
		switch cause := refused(err); {
		case cause != nil:
			return w.settleFault(ctx, c, cause), true
		case !w.again(h, attempt, e.until):
			return err, false
		}
	}
}

// refusal is the target's own refusal, which no retry changes.
type refusal struct{ error }

func (r *refusal) Unwrap() error { return r.error }

// refused returns the cause of the target's refusal; nil if err is not a refusal.
func refused(err error) error {
	var r *refusal
	if errors.As(err, &r) {
		return r.error
	}
	return nil
}

// worse is the cause that counts for the write: a failure of the target before a fault of the
// write.
func worse(a, b error) error {
	if b == nil || a != nil && !isWriteFault(a) {
		return a
	}
	return b
}

// olderError is the target's answer that it has a version which is not older than the change's.
type olderError struct{ has record.Version }

func (e *olderError) Error() string { return "the target has version " + e.has.String() + " already" }

// answered turns the target's answer into an error. resent: an earlier attempt may have landed.
func answered(r store.Result, version record.Version, resent bool) error {
	if err := outcome(r); err != nil {
		return &refusal{err}
	}
	// [older-settled]: the version of a change that landed is not above the change's own.
	if r.Outcome == store.Older && (r.Version.NewerThan(version) || r.Version == version && !resent) {
		return &refusal{&olderError{r.Version}}
	}
	return nil
}

// settleFault settles a change that the target has refused for its own sake. It returns nil when
// the target has legacy's present state, else the cause.
func (w *Writer[K, V]) settleFault(ctx context.Context, c Change[K, V], cause error) error {
	var older *olderError
	isOlder := errors.As(cause, &older)
	switch {
	case w.locked == nil && isOlder:
		w.caughtUp(c)
		return nil
	case w.locked == nil, !isOlder && !isWriteFault(cause), errors.Is(cause, store.ErrRecord):
		return cause
	}
	var above record.Version
	if isOlder {
		above = older.has
	}
	budget := w.i.writing().RollbackBudget // what a write may wait for anyway
	bounded := detach(ctx, budget)
	defer bounded.stop()
	err := w.settleOnce(bounded, c, above, time.Now().Add(budget))
	switch {
	case err == nil:
		w.caughtUp(c)
		return nil
	case isOlder:
		return err
	case isWriteFault(err):
		return &writeFault{fmt.Errorf("%w; settling it: %w", cause, err)}
	}
	return fmt.Errorf("%w; settling it: %w", cause, err)
}

func (w *Writer[K, V]) try(ctx context.Context, c Change[K, V], o ApplyOptions, e *retryBudget, resent bool) (err error) {
	// The end of the caller's context does not stop the attempt, since legacy has the write. The
	// budget does: no later epoch is acknowledged while the attempt runs.
	bounded := detach(ctx, w.attempt(e))
	defer bounded.stop()
	defer w.contain(&err)
	result, err := w.target.Apply(bounded, c, o)
	if err == nil {
		err = result.Err
	}
	if err != nil {
		if e.until.IsZero() {
			ends, _ := bounded.Deadline()
			e.until = ends.Add(w.i.writing().Deadline - bounded.budget)
		}
		if errors.Is(err, store.ErrRecord) {
			return &refusal{err}
		}
		return err
	}
	return answered(result, c.Version, resent)
}

// contain turns a panic of the application's Target into a failed change: legacy has the
// write, so the change must reach the journal.
func (w *Writer[K, V]) contain(err *error) {
	if p := recover(); p != nil {
		// [both-before-ack]: a panic that unwound the write would leave a change that neither the
		// target nor the journal has.
		*err = &refusal{&writeFault{fmt.Errorf("panic in the target's Apply: %v", p)}}
		w.i.log.Error("panic in the target's Apply; change journaled", "panic", fmt.Sprint(p))
	}
}

// retryBudget is the time that one write's attempts share. For a single change it begins
// with the first attempt.
type retryBudget struct {
	until   time.Time
	records int // more than one: of a write of several
}

// attempt returns the time of one attempt. It leaves time for a second one, should the
// first one hang.
func (w *Writer[K, V]) attempt(e *retryBudget) time.Duration {
	budget := w.deadline(e.records) * 2 / 5
	if e.until.IsZero() {
		return budget
	}
	return min(budget, time.Until(e.until))
}

// again waits before the next attempt and reports whether there is one. Once the route
// has been replaced there is none: the fleet waits for this operation, perhaps in order
// to stop reading the target.
func (w *Writer[K, V]) again(h *pinnedRoute, attempt int, until time.Time) bool {
	wait := min(10*time.Millisecond<<min(attempt, 5), 200*time.Millisecond)
	if time.Now().Add(wait).After(until) {
		return false
	}
	return pause(h.over, wait)
}

func (w *Writer[K, V]) caughtUp(c Change[K, V]) {
	if w.i.degraded.some.Load() {
		w.i.degraded.caughtUp(w.key(c.Key), c.Version, !c.Deleted, true)
	}
}

func (w *Writer[K, V]) applyBatch(ctx context.Context, h *pinnedRoute, changes []Change[K, V], notAfter time.Time, e *retryBudget) (entries []JournalEntry, cause error, answered bool) {
	left := make([]Change[K, V], 0, len(changes))
	for _, c := range changes {
		if c.Version.IsZero() {
			// [newer-only]: as in applyOne.
			if err := w.settleFault(ctx, c, errNoVersion); err != nil {
				entries, cause = append(entries, w.journalEntry(c, err)), worse(cause, err)
			}
			continue
		}
		left = append(left, c)
	}
	for attempt := 0; len(left) > 0; attempt++ {
		// [not-after-fixed]: the same time for every attempt, as in applyOne.
		errs := w.tryBatch(ctx, left, ApplyOptions{NotAfter: notAfter}, w.attempt(e), attempt > 0)
		var failed []Change[K, V]
		var last error
		for n, err := range errs {
			switch refusedFor := refused(err); {
			case err == nil:
				w.caughtUp(left[n])
			case refusedFor != nil:
				if err := w.settleFault(ctx, left[n], refusedFor); err != nil {
					entries, cause = append(entries, w.journalEntry(left[n], err)), worse(cause, err)
				}
			default:
				failed, last = append(failed, left[n]), err
			}
		}
		if len(failed) > 0 && !w.again(h, attempt, e.until) {
			more, _ := w.journalEntries(failed, last)
			return append(entries, more...), worse(last, cause), false
		}
		left = failed
	}
	return entries, cause, true
}

func (w *Writer[K, V]) tryBatch(ctx context.Context, changes []Change[K, V], o ApplyOptions, budget time.Duration, resent bool) []error {
	bounded := detach(ctx, budget)
	defer bounded.stop()
	errs := make([]error, len(changes))
	err := func() (err error) {
		defer w.contain(&err)
		results, err := w.batch.ApplyAll(bounded, changes, o)
		if err == nil && len(results) != len(changes) {
			err = fmt.Errorf("the target answered %d of %d changes", len(results), len(changes))
		}
		if err != nil {
			return err
		}
		for n, r := range results {
			switch errs[n] = r.Err; {
			case r.Err == nil:
				errs[n] = answered(r, changes[n].Version, resent)
			case errors.Is(r.Err, store.ErrRecord):
				errs[n] = &refusal{r.Err}
			}
		}
		return nil
	}()
	if err != nil {
		for n := range errs {
			errs[n] = err
		}
	}
	return errs
}
