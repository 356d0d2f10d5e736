package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
)

type serverError string

func (e serverError) Error() string    { return "the server's words" }
func (e serverError) SQLState() string { return string(e) }

type unsent struct{ error }

func (unsent) SafeToRetry() bool { return true }

func TestErrorsOfDrivers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err                        error
		fenced, uncertain, refusal bool
	}{
		{err: nil},
		{err: errors.New("the application's own"), refusal: true},
		{err: sql.ErrNoRows, refusal: true},
		{err: sql.ErrTxDone, refusal: true},
		{err: ErrFenced, fenced: true, refusal: true},
		{err: fmt.Errorf("save: %w", serverError("MG001")), fenced: true},
		{err: serverError("23505"), refusal: true},
		{err: serverError("22003"), refusal: true},
		{err: fmt.Errorf("save: %w", serverError("P0001")), refusal: true},
		{err: serverError("40001")},
		{err: serverError("53100")},
		{err: serverError("42501")},
		{err: serverError("57014")},
		{err: serverError("57P01"), uncertain: true},
		{err: serverError("08006"), uncertain: true},
		{err: serverError("40003"), uncertain: true},
		{err: fmt.Errorf("commit: %w", context.DeadlineExceeded), uncertain: true},
		{err: context.Canceled, uncertain: true},
		{err: io.ErrUnexpectedEOF, uncertain: true},
		{err: driver.ErrBadConn, uncertain: true},
		{err: &net.OpError{Op: "read", Err: errors.New("connection reset by peer")}, uncertain: true},
		{err: &net.OpError{Op: "dial", Err: errors.New("connection refused")}},
		{err: unsent{io.EOF}},
	} {
		if IsFenced(c.err) != c.fenced || IsUncertain(c.err) != c.uncertain || IsRefusal(c.err) != c.refusal {
			t.Errorf("%v: fenced %v, uncertain %v, refusal %v", c.err, IsFenced(c.err), IsUncertain(c.err), IsRefusal(c.err))
		}
	}
}
