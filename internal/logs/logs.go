// Package logs holds what loops that log have in common.
package logs

import "log/slog"

// OrDiscard is log, or a logger that discards everything.
func OrDiscard(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log
}

// Change is what has become of a job since it was last noted.
type Change int

// Changes.
const (
	Same      Change = iota // it succeeds, or fails for the same reason
	Failed                  // it fails, and did not, or for another reason
	Recovered               // it succeeds, and did not
)

// Failures remembers the last failure of each job, so that a loop logs one when it
// begins, when it becomes another, and when it ends, and not at every turn. The zero
// value is ready. It is for one goroutine.
type Failures struct{ last map[string]string }

// Note takes the result of a job's latest turn.
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
