// Package logs has what loops that log have in common.
package logs

import "log/slog"

// OrDiscard returns log, or for nil a logger that discards everything.
func OrDiscard(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log
}

// Change is how a job's result differs from the one that was noted before.
type Change int

// Changes.
const (
	Same      Change = iota // it succeeds again, or fails again for the same reason
	Failed                  // it begins to fail, or fails for another reason
	Recovered               // it succeeds after a failure
)

// Failures remembers the last failure of each job, so that a loop logs a failure when it
// begins, when it changes and when it ends, not in every iteration. The zero value is ready
// to use. It is not safe for concurrent use.
type Failures struct{ last map[string]string }

// Note takes the result of a job's latest iteration.
func (f *Failures) Note(job string, err error) Change {
	was, failed := f.last[job]
	switch {
	case err == nil && !failed:
		return Same
	case err == nil:
		delete(f.last, job)
		return Recovered
	case failed && was == err.Error():
		return Same
	}
	if f.last == nil {
		f.last = map[string]string{}
	}
	f.last[job] = err.Error()
	return Failed
}
