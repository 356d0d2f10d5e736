package dual

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// applyAll brings changes that legacy has to the target, with retries within the
// deadline, and returns those that the target does not have, as far as is known. It does not
// heed the end of the caller's context: the write has happened.
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
	said := errNoAnswer
	defer func() { w.guard.report(passed, said) }()
	var e retryBudget
	if len(changes) > 1 {
		// Several changes share one deadline: the caller waits for it once, not once for each
		// record.
		e.until = time.Now().Add(w.i.set.Writing.Deadline)
	}
	if len(changes) > 1 && w.batch != nil {
		lost, cause, answered := w.applyBatch(ctx, h, changes, notAfter, &e)
		if answered {
			said = nil
		}
		return lost, cause
	}
	var lost []JournalEntry
	var cause error
	answered := true
	for n := range changes {
		err, ok := w.applyOne(ctx, h, changes[n], notAfter, &e)
		if err != nil {
			lost, cause = append(lost, w.journalEntry(changes[n], err)), err
		}
		answered = answered && ok
	}
	if answered {
		said = nil
	}
	return lost, cause
}

func (w *Writer[K, V]) journalEntries(changes []Change[K, V], cause error) ([]JournalEntry, error) {
	lost := make([]JournalEntry, len(changes))
	for n, c := range changes {
		lost[n] = w.journalEntry(c, cause)
	}
	return lost, cause
}

// applyOne returns nil when the target has the change or a later one; answered
// tells that the target itself said no.
func (w *Writer[K, V]) applyOne(ctx context.Context, h *pinnedRoute, c Change[K, V], notAfter time.Time, e *retryBudget) (err error, answered bool) {
	if c.Version.IsZero() {
		// [newer-only]: without a version the target can't order the change. It is not sent: it is
		// journaled and repaired at the version of the locked row.
		return errNoVersion, true
	}
	for attempt := 0; ; attempt++ {
		// [not-after-fixed]: every attempt carries the time that was fixed before the legacy write.
		// With a later one, a retry could land an old state after the target has forgotten the
		// newer one.
		err = w.try(ctx, c, ApplyOptions{NotAfter: notAfter}, e)
		if err == nil {
			w.caughtUp(c)
			return nil, true
		}
		switch no := refused(err); {
		case no != nil:
			return no, true
		case !w.again(h, attempt, e.until):
			return err, false
		}
	}
}

// refusal is a target's own no, which no retry changes.
type refusal struct{ error }

// refused is nil where the target has not said no.
func refused(err error) error {
	var said *refusal
	if errors.As(err, &said) {
		return said.error
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

// contain turns a panic of the application's Target into a failed change: legacy
// has the write, so it must reach the journal whatever happens.
func (w *Writer[K, V]) contain(err *error) {
	if p := recover(); p != nil {
		// [both-before-ack]: a panic that unwound the write would leave a change that neither the
		// target nor the journal has.
		*err = &refusal{fmt.Errorf("panic in the target's Apply: %v", p)}
		w.i.log.Error("panic in the target's Apply; the change is journalled", "panic", fmt.Sprint(p))
	}
}

// retryBudget is the time that one write's attempts share. That of a single change
// begins with its first attempt.
type retryBudget struct{ until time.Time }

// attempt leaves time for a second attempt, should the first one hang.
func (w *Writer[K, V]) attempt(e *retryBudget) time.Duration {
	budget := w.i.set.Writing.Deadline * 2 / 5
	if e.until.IsZero() {
		return budget
	}
	return min(budget, time.Until(e.until))
}

// again waits before the next attempt. Once the route has been replaced there is
// none: the fleet waits for this operation, perhaps in order to leave the target.
func (w *Writer[K, V]) again(h *pinnedRoute, attempt int, until time.Time) bool {
	wait := min(10*time.Millisecond<<min(attempt, 5), 200*time.Millisecond)
	if time.Now().Add(wait).After(until) {
		return false
	}
	return pause(h.over, wait)
}

func (w *Writer[K, V]) caughtUp(c Change[K, V]) {
	if w.i.behind.some.Load() {
		w.i.behind.caughtUp(w.key(c.Key), c.Version)
	}
}

func (w *Writer[K, V]) applyBatch(ctx context.Context, h *pinnedRoute, changes []Change[K, V], notAfter time.Time, e *retryBudget) (lost []JournalEntry, cause error, answered bool) {
	left := make([]Change[K, V], 0, len(changes))
	for _, c := range changes {
		if c.Version.IsZero() {
			// [newer-only]: as in applyOne.
			lost, cause = append(lost, w.journalEntry(c, errNoVersion)), errNoVersion
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
			switch no := refused(err); {
			case err == nil:
				w.caughtUp(left[n])
			case no != nil:
				lost, cause = append(lost, w.journalEntry(left[n], no)), no
			default:
				failed, last = append(failed, left[n]), err
			}
		}
		if len(failed) > 0 && !w.again(h, attempt, e.until) {
			more, _ := w.journalEntries(failed, last)
			return append(lost, more...), last, false
		}
		left = failed
	}
	return lost, cause, true
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
				if said := outcome(r); said != nil {
					errs[n] = &refusal{said}
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
