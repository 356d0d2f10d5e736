package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strings"
)

// fencedState is the SQLSTATE of legacy's refusal, which the fence's trigger raises.
const fencedState = "MG001"

// sqlState is what the errors of PostgreSQL's drivers (pgx, lib/pq) have in common.
type sqlState interface{ SQLState() string }

// ErrAttemptOver is an attempt whose fence has been lifted: it is never raised again.
var ErrAttemptOver = errors.New("the attempt is over: its fence has been lifted")

// IsFenced reports whether err is legacy's refusal of a write because a migration has retired
// the table: ErrFenced, or an error of any driver with the SQLSTATE MG001. The write has no
// effect; the target is authoritative.
func IsFenced(err error) bool {
	var server sqlState
	return errors.Is(err, ErrFenced) || errors.As(err, &server) && server.SQLState() == fencedState
}

// IsUncertain reports whether a failed write may have been committed: the connection broke,
// or the context ended, before the server answered. An answer of the server is certain, but for
// those that it sends as it closes the connection. So is an error of the application's own.
func IsUncertain(err error) bool {
	var server sqlState
	if errors.As(err, &server) {
		switch state := server.SQLState(); state {
		case "40003", "57P01", "57P02": // completion unknown; the server was shut down, or crashed
			return true
		default:
			return strings.HasPrefix(state, "08") // connection exceptions
		}
	}
	var retry interface{ SafeToRetry() bool }
	if errors.As(err, &retry) && retry.SafeToRetry() {
		return false // the driver knows that nothing was sent
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return false
	}
	for _, lost := range []error{
		context.Canceled, context.DeadlineExceeded, io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed, driver.ErrBadConn,
	} {
		if errors.Is(err, lost) {
			return true
		}
	}
	var network net.Error
	return errors.As(err, &network)
}

// IsRefusal reports whether a failed write says nothing about the server: the application's own code refused it, or
// the server refused the record (a constraint, a value out of range, a trigger's exception).
func IsRefusal(err error) bool {
	var server sqlState
	if errors.As(err, &server) {
		state := server.SQLState()
		return strings.HasPrefix(state, "22") || strings.HasPrefix(state, "23") || strings.HasPrefix(state, "P0")
	}
	var retry interface{ SafeToRetry() bool } // of a connection
	var network net.Error
	return err != nil && !errors.As(err, &retry) && !errors.As(err, &network) && !IsUncertain(err)
}
