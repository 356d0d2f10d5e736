package dual

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// applyAll applies changes that legacy has to the target, with retries within the
// deadline. It returns those that the target is not known to have. It continues after
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
		e.until = time.Now().Add(w.i.set.Writing.Deadline)
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
			entries, cause = append(entries, w.journalEntry(changes[n], err)), err
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
		// journaled and repaired at the version of the locked row.
		return errNoVersion, true
	}
	for attempt := 0; ; attempt++ {
		// [not-after-fixed]: every attempt carries the time that was fixed before the legacy write.
		// With a later one, a retry could land an old state after the newer one's version has expired
		// in the target.
		err = w.try(ctx, c, ApplyOptions{NotAfter: notAfter}, e)
		if err == nil {
			w.caughtUp(c)
			return nil, true
		}
		switch cause := refused(err); {
		case cause != nil:
			return cause, true
		case !w.again(h, attempt, e.until):
			return err, false
		}
	}
}

// refusal is the target's own refusal, which no retry changes.
type refusal struct{ error }

// refused returns the cause of the target's refusal; nil if err is not a refusal.
func refused(err error) error {
	var r *refusal
	if errors.As(err, &r) {
		return r.error
	}
	return nil
}

func (w *Writer[K, V]) try(ctx context.Context, c Change[K, V], o ApplyOptions, e *retryBudget) (err error) {
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
			e.until = ends.Add(w.i.set.Writing.Deadline - bounded.budget)
		}
		return err
	}
	if err := outcome(result); err != nil {
		return &refusal{err}
	}
	return nil
}

// contain turns a panic of the application's Target into a failed change: legacy has the
// write, so the change must reach the journal.
func (w *Writer[K, V]) contain(err *error) {
	if p := recover(); p != nil {
		// [both-before-ack]: a panic that unwound the write would leave a change that neither the
		// target nor the journal has.
		*err = &refusal{fmt.Errorf("panic in the target's Apply: %v", p)}
		w.i.log.Error("panic in the target's Apply; change journaled", "panic", fmt.Sprint(p))
	}
}

// retryBudget is the time that one write's attempts share. For a single change it begins
// with the first attempt.
type retryBudget struct{ until time.Time }

// attempt returns the time of one attempt. It leaves time for a second one, should the
// first one hang.
func (w *Writer[K, V]) attempt(e *retryBudget) time.Duration {
	budget := w.i.set.Writing.Deadline * 2 / 5
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
			entries, cause = append(entries, w.journalEntry(c, errNoVersion)), errNoVersion
			continue
		}
		left = append(left, c)
	}
	for attempt := 0; len(left) > 0; attempt++ {
		// [not-after-fixed]: the same time for every attempt, as in applyOne.
		errs := w.tryBatch(ctx, left, ApplyOptions{NotAfter: notAfter}, w.attempt(e))
		var failed []Change[K, V]
		var last error
		for n, err := range errs {
			switch refusedFor := refused(err); {
			case err == nil:
				w.caughtUp(left[n])
			case refusedFor != nil:
				entries, cause = append(entries, w.journalEntry(left[n], refusedFor)), refusedFor
			default:
				failed, last = append(failed, left[n]), err
			}
		}
		if len(failed) > 0 && !w.again(h, attempt, e.until) {
			more, _ := w.journalEntries(failed, last)
			return append(entries, more...), last, false
		}
		left = failed
	}
	return entries, cause, true
}

func (w *Writer[K, V]) tryBatch(ctx context.Context, changes []Change[K, V], o ApplyOptions, budget time.Duration) []error {
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
			if errs[n] = r.Err; r.Err == nil {
				if err := outcome(r); err != nil {
					errs[n] = &refusal{err}
				}
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
