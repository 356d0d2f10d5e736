package hint

import (
	"fmt"
	"log/slog"
)

// Hinter is an error with a hint of its own.
type Hinter interface {
	error
	Hint() Hint
}

// Error is a fact with its hint. Its text is the fact alone.
type Error struct {
	err     error
	hint    Hint
	failure Failure // of another system; zero: none
}

func (e *Error) Error() string { return e.err.Error() }

func (e *Error) Unwrap() error { return e.err }

// Hint implements Hinter.
func (e *Error) Hint() Hint { return e.hint }

// With gives an error a hint, which takes precedence over those it has. A nil error stays
// nil, and a zero hint changes nothing.
func With(err error, h Hint) error {
	if err == nil || h.IsZero() {
		return err
	}
	return &Error{err: err, hint: h}
}

// Errorf is fmt.Errorf with a hint.
func Errorf(h Hint, format string, args ...any) error {
	return With(fmt.Errorf(format, args...), h)
}

// Of finds the outermost hint of an error: its own, else that of the error it wraps, else the remedy
// that the table of failures has for its SQLSTATE. Of joined errors, the first one with a hint
// counts. To look with Doctor is no remedy where another system's failure has one.
func Of(err error) (Hint, bool) {
	if h, ok := given(err); ok {
		if known := foreign(err); known != nil && h.Do == Doctor && h.Text == "" {
			return known.hint, true
		}
		return h, true
	}
	if f, ok := FailureOf(err); ok {
		return f.Remedy(""), true
	}
	return Hint{}, false
}

// given is the outermost hint that an error was given.
func given(err error) (Hint, bool) {
	if err == nil {
		return Hint{}, false
	}
	if hinter, ok := err.(Hinter); ok { //nolint:errorlint // the tree is walked here
		if h := hinter.Hint(); !h.IsZero() {
			return h, true
		}
	}
	switch wraps := err.(type) { //nolint:errorlint // the tree is walked here
	case interface{ Unwrap() error }:
		return given(wraps.Unwrap())
	case interface{ Unwrap() []error }:
		for _, one := range wraps.Unwrap() {
			if h, ok := given(one); ok {
				return h, true
			}
		}
	}
	return Hint{}, false
}

// Attr is the log attribute of an error's hint, for use beside the error; it is empty if
// there is no hint.
func Attr(err error) slog.Attr {
	if h, ok := Of(err); ok {
		return slog.Any("hint", h)
	}
	return slog.Attr{}
}
